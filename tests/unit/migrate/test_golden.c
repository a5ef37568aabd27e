/*
 * A whole migration as bytes, one frame of each kind that a source sends: what is written today is
 * what lies in tests/golden, and a target takes it. Then frames PACKED that no peer may send.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/crc32c.h"
#include "base/fs.h"
#include "base/le.h"
#include "migrate/channel.h"
#include "migrate/target.h"

#define EPOCH 7u
#define PAGES 16u
#define RAM (PAGES * (uint64_t)WIRE_PAGE)
#define GOLDEN "wire-v3"

/* 4096 times 'A', by hand: magic; one segment, size in two bytes, less 256; last block, a run. */
static const uint8_t packed_page[] = {0x28, 0xb5, 0x2f, 0xfd, 0x60, 0, 0x0f, 3, 0x80, 0, 'A'};

static uint8_t ram[RAM] __attribute__((aligned(WIRE_PAGE)));
static struct buf wire; /* what the source says */
static size_t at;
static bool taken;

/* a stream in memory -------------------------------------------------------------------------- */

static ssize_t on_write(void *ctx, const struct iovec *iov, unsigned count, uint64_t until,
                        struct err *err)
{
    ssize_t n = 0;
    for (unsigned i = 0; i < count; n += (ssize_t)iov[i++].iov_len)
        if (ctx && buf_append(ctx, iov[i].iov_base, iov[i].iov_len) < 0)
            return err_set(err, ENOMEM, "full");
    return n;
}

static ssize_t on_read(void *ctx, const struct iovec *iov, unsigned count, uint64_t until,
                       struct err *err)
{
    size_t left = wire.len - at, n = left < iov->iov_len ? left : iov->iov_len;
    memcpy(iov->iov_base, wire.data + at, n);
    at += n;
    return (ssize_t)n;
}

static uint64_t on_now(void *ctx)
{
    return 1;
}

static const struct stream_ops stream_ops = {.write = on_write, .read = on_read, .now_ns = on_now};

/* the source ---------------------------------------------------------------------------------- */

static void say(enum wire_kind kind, uint8_t flags, uint64_t value, const void *meta, size_t bytes,
                const void *data, size_t data_bytes)
{
    static struct channel c;
    const struct stream s = {.ops = &stream_ops, .ctx = &wire};
    struct wire_head h = {.kind = (uint8_t)kind,
                          .flags = flags,
                          .value = value,
                          .meta_bytes = (uint32_t)bytes,
                          .data_bytes = data_bytes};
    const struct iovec iov = {(void *)(uintptr_t)data, data_bytes};
    struct err err;
    channel_init(&c, &s, NULL, NULL);
    assert_int_equal(channel_send(&c, &h, meta, &iov, data_bytes ? 1 : 0, &err), 0);
}

static void say_message(enum wire_kind kind, const ProtobufCMessage *message)
{
    uint8_t packed[256];
    say(kind, 0, EPOCH, packed, protobuf_c_message_pack(message, packed), NULL, 0);
}

static void say_start(void)
{
    Ferry__MigrateStart start = FERRY__MIGRATE_START__INIT;
    start.epoch = EPOCH;
    start.ram_bytes = RAM;
    start.page_bytes = WIRE_PAGE;
    start.streams = 1;
    say_message(WIRE_START, &start.base);
}

static void say_pages(enum wire_kind kind, uint64_t offset, unsigned pages, uint8_t fill,
                      const void *data, size_t bytes)
{
    uint8_t meta[8 + 4 * PAGES], page[WIRE_PAGE];
    uint32_t crcs[PAGES];
    const struct wire_run run = {.offset = offset, .pages = pages};
    memset(page, fill, sizeof(page));
    for (unsigned i = 0; i < pages; i++)
        crcs[i] = crc32c(0, page, sizeof(page));
    say(kind, 0, 1, meta, wire_runs_put(&run, 1, crcs, pages, meta), data, bytes);
}

static void say_ranges(enum wire_kind kind, uint64_t offset, uint64_t bytes)
{
    uint8_t meta[16];
    const struct wire_range range = {offset, bytes};
    say(kind, 0, 0, meta, wire_ranges_put(&range, 1, meta), NULL, 0);
}

static void say_complete(const char *state, uint64_t pages)
{
    Ferry__MigrateComplete complete = FERRY__MIGRATE_COMPLETE__INIT;
    complete.state_bytes = strlen(state);
    complete.state_crc32c = crc32c(0, state, strlen(state));
    complete.pages = pages;
    say_message(WIRE_COMPLETE, &complete.base);
}

static void say_all(void)
{
    static uint8_t b[2 * WIRE_PAGE];
    memset(b, 'B', sizeof(b));
    say(WIRE_ALIVE, 0, 0, NULL, 0, NULL, 0);
    say_start();
    say(WIRE_CARGO, 0, 0, "cargo", 5, NULL, 0);
    say_ranges(WIRE_EXPECT, 0, RAM);
    say_pages(WIRE_PAGES, 2 * WIRE_PAGE, 2, 'B', b, sizeof(b));
    say(WIRE_ROUND_END, 0, 0, NULL, 0, NULL, 0);
    say_pages(WIRE_PACKED, WIRE_PAGE, 1, 'A', packed_page, sizeof(packed_page));
    say_ranges(WIRE_ZERO, 3 * WIRE_PAGE, WIRE_PAGE);
    say(WIRE_ROUND_END, WIRE_LAST, 1, NULL, 0, NULL, 0);
    say(WIRE_STATE, 0, 0, "sta", 3, NULL, 0);
    say(WIRE_STATE, 0, 3, "te", 2, NULL, 0);
    say_complete("state", 3);
    say(WIRE_HANDOFF, 0, EPOCH, NULL, 0, NULL, 0);
}

/* the target ---------------------------------------------------------------------------------- */

static int on_cargo(void *ctx, struct span piece, struct err *err)
{
    return piece.left == 5 ? 0 : err_set(err, EBADMSG, "other cargo");
}

static int on_load(void *ctx, struct span state, struct err *err)
{
    return state.left == 5 && memcmp(state.at, "state", 5) == 0 ? 0
                                                                : err_set(err, EBADMSG, "state");
}

static int on_take_over(void *ctx, uint64_t *taken_ns, struct err *err)
{
    taken = true;
    return 0;
}

static void on_settle(void *ctx)
{
}

static const struct target_ops target_ops = {
    .cargo = on_cargo, .load = on_load, .take_over = on_take_over, .settle = on_settle};

static int take(struct err *err)
{
    const struct stream s = {.ops = &stream_ops};
    const struct target_options o = {
        .epoch = EPOCH, .ram = ram, .ram_bytes = RAM, .ops = &target_ops};
    struct target_report report;
    memset(ram, 0, sizeof(ram));
    at = 0;
    taken = false;
    return target_run(&s, &o, &report, err);
}

static void begin(void)
{
    buf_fini(&wire);
    buf_init(&wire, 1u << 20);
}

static void what_is_said_is_golden(void **state)
{
    struct buf golden;
    struct err err;
    char path[4096];
    begin();
    say_all();
    snprintf(path, sizeof(path), "%s/" GOLDEN, getenv("FERRY_BUILD") ? getenv("FERRY_BUILD") : ".");
    FILE *f = fopen(path, "w"); /* to become the golden one of the next version */
    assert_non_null(f);
    assert_int_equal(fwrite(wire.data, 1, wire.len, f), wire.len);
    fclose(f);
    snprintf(path, sizeof(path), "%s/tests/golden/" GOLDEN, getenv("FERRY_SOURCE"));
    buf_init(&golden, 1u << 20);
    assert_int_equal(fs_read_file(AT_FDCWD, path, &golden, &err), 0);
    assert_int_equal(golden.len, wire.len);
    assert_memory_equal(golden.data, wire.data, wire.len);
    begin();
    assert_int_equal(buf_append(&wire, golden.data, golden.len), 0);
    buf_fini(&golden);
    if (take(&err) < 0)
        fail_msg("a target does not take it: %s", err.text);
    assert_true(taken);
    for (unsigned page = 0; page < PAGES; page++)
        for (unsigned i = 0; i < WIRE_PAGE; i++)
            assert_int_equal(ram[page * WIRE_PAGE + i], page == 1 ? 'A' : page == 2 ? 'B' : 0);
}

/* frames PACKED that no peer may send --------------------------------------------------------- */

struct bad {
    const char *what;
    unsigned pages;
    uint64_t data_bytes; /* 0: those of the packed page */
    uint8_t flip_at, flip;
    const char *says;
};

static void bad_packed_frames(void **state)
{
    static const struct bad bads[] = {
        {"says another size", 2, 0, 0, 0, "does not say that it has 8192 bytes"},
        {"nothing", 1, UINT64_MAX, 0, 0, "1 pages in 0 bytes"},
        {"no less than the pages", 1, WIRE_PAGE, 0, 0, "1 pages in 4096 bytes"},
        {"something behind it", 1, sizeof(packed_page) + 1, 0, 0, ""},
        {"cut short", 1, sizeof(packed_page) - 1, 0, 0, ""},
        {"another magic", 1, 0, 0, 1, "does not begin as one"},
        {"a dictionary", 1, 0, 4, 1, "dictionary"},
        {"a block that is too long", 1, 0, 9, 1, ""},
        {"more than it says", 1, 0, 8, 0x40, ""},
        {"another content", 1, 0, 10, 1, "arrived damaged"},
    };
    for (size_t i = 0; i < sizeof(bads) / sizeof(bads[0]); i++) {
        const struct bad *b = &bads[i];
        uint8_t data[WIRE_PAGE] = {0};
        struct err err = {0};
        size_t bytes = b->data_bytes == UINT64_MAX ? 0 : b->data_bytes;
        memcpy(data, packed_page, sizeof(packed_page));
        data[b->flip_at] ^= b->flip;
        begin();
        say_start();
        say_pages(WIRE_PACKED, 0, b->pages, 'A', data, b->data_bytes ? bytes : sizeof(packed_page));
        say(WIRE_ROUND_END, WIRE_LAST, 0, NULL, 0, NULL, 0);
        say(WIRE_STATE, 0, 0, "state", 5, NULL, 0);
        say_complete("state", b->pages);
        if (take(&err) >= 0 || taken)
            fail_msg("%s: it is taken", b->what);
        if (!err.text[0] || !strstr(err.text, b->says))
            fail_msg("%s: %s", b->what, err.text);
    }
    begin();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_said_is_golden),
        cmocka_unit_test(bad_packed_frames),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    buf_fini(&wire);
    return failed;
}
