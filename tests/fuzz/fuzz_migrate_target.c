/*
 * All that a source can send: bytes into the engine that gets a guest. The first byte decides
 * whether they come as they are or with the checksums put right, so that they get behind them.
 * Whatever they are: the guest is loaded before it is taken over, both at most once, nothing is
 * written outside its memory, and what the engine answers are frames of a target.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/crc32c.h"
#include "base/le.h"
#include "migrate/target.h"
#include "migrate/wire.h"

#define PAGES 8u
#define EPOCH 5u
#define ANSWERS_MAX 65536u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct source {
    const uint8_t *at;
    size_t left;
    uint64_t now_ns;
    uint8_t answers[ANSWERS_MAX];
    size_t answered;
    unsigned loaded, taken;
};

static void must(bool holds)
{
    if (!holds)
        abort();
}

static ssize_t on_read(void *ctx, const struct iovec *iov, unsigned count, uint64_t until_ns,
                       struct err *err)
{
    struct source *s = ctx;
    ssize_t n = 0;
    for (unsigned i = 0; i < count; i++) {
        size_t step = iov[i].iov_len < s->left ? iov[i].iov_len : s->left;
        if (step)
            memcpy(iov[i].iov_base, s->at, step);
        s->at += step;
        s->left -= step;
        n += (ssize_t)step;
    }
    return n; /* at the end: it has closed its end */
}

static ssize_t on_write(void *ctx, const struct iovec *iov, unsigned count, uint64_t until_ns,
                        struct err *err)
{
    struct source *s = ctx;
    size_t n = 0;
    for (unsigned i = 0; i < count; i++) {
        if (iov[i].iov_len > sizeof(s->answers) - s->answered - n)
            return err_set(err, EPIPE, "it listens no more");
        memcpy(s->answers + s->answered + n, iov[i].iov_base, iov[i].iov_len);
        n += iov[i].iov_len;
    }
    s->answered += n;
    return (ssize_t)n;
}

static uint64_t on_now(void *ctx)
{
    struct source *s = ctx;
    return ++s->now_ns;
}

static const struct stream_ops stream_ops = {.read = on_read, .write = on_write, .now_ns = on_now};

static int on_cargo(void *ctx, struct span piece, struct err *err)
{
    must(piece.left && piece.left <= WIRE_CARGO_MAX);
    return 0;
}

static int on_load(void *ctx, struct span state, struct err *err)
{
    struct source *s = ctx;
    must(!s->loaded && !s->taken && state.left <= WIRE_STATE_MAX);
    s->loaded++;
    return 0;
}

static int on_take_over(void *ctx, uint64_t *taken_ns, struct err *err)
{
    struct source *s = ctx;
    must(s->loaded && !s->taken);
    s->taken++;
    return 0;
}

static void on_settle(void *ctx)
{
    struct source *s = ctx;
    must(s->taken);
}

static const struct target_ops ops = {
    .cargo = on_cargo, .load = on_load, .take_over = on_take_over, .settle = on_settle};

/* The pages' own checksums, where all of them are there. */
static void seal_pages(uint8_t *head, uint8_t *meta, size_t left)
{
    uint64_t runs = le_get(head + 16, 8), bytes = le_get(head + 4, 4), data = le_get(head + 8, 8);
    if (head[2] != WIRE_PAGES || runs > WIRE_RUNS_MAX || runs * 8 > bytes || data > left - bytes ||
        data / WIRE_PAGE * 4 != bytes - runs * 8)
        return;
    for (uint64_t i = 0; i < data / WIRE_PAGE; i++)
        le_put(meta + runs * 8 + i * 4, crc32c(0, meta + bytes + i * WIRE_PAGE, WIRE_PAGE), 4);
}

/* Frames one behind the other, as far as their lengths make sense. */
static void seal(uint8_t *at, size_t left)
{
    while (left >= WIRE_HEAD_BYTES) {
        uint64_t meta = le_get(at + 4, 4), data = le_get(at + 8, 8);
        uint8_t *body = at + WIRE_HEAD_BYTES;
        left -= WIRE_HEAD_BYTES;
        le_put(at, WIRE_MAGIC, 2);
        if (meta <= left) {
            seal_pages(at, body, left);
            le_put(at + 24, crc32c(0, body, meta), 4);
        }
        le_put(at + 28, crc32c(0, at, 28), 4);
        if (meta > left || data > left - meta)
            return;
        at = body + meta + data;
        left -= meta + data;
    }
}

static void check_answers(const struct source *s)
{
    struct wire_head h;
    struct err err;
    for (size_t at = 0; at < s->answered; at += WIRE_HEAD_BYTES + h.meta_bytes) {
        must(s->answered - at >= WIRE_HEAD_BYTES && wire_head_get(s->answers + at, &h, &err) == 0);
        must(h.kind == WIRE_ALIVE || h.kind == WIRE_CANCEL || h.kind == WIRE_ACK ||
             (h.kind == WIRE_READY && s->loaded) || (h.kind == WIRE_RUNNING && s->taken));
    }
}

static void feed(struct source *s, uint8_t *ram)
{
    struct target_report report;
    struct err err = {0};
    const struct stream stream = {.ops = &stream_ops, .ctx = s};
    const struct target_options options = {.epoch = EPOCH,
                                           .ram = ram,
                                           .ram_bytes = PAGES * (uint64_t)WIRE_PAGE,
                                           .ops = &ops,
                                           .ctx = s};
    int rc = target_run(&stream, &options, &report, &err);
    must(report.taken == (s->taken == 1));
    must(rc == 0 ? report.taken : err.code == -rc && err.text[0]);
    check_answers(s);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1)
        return 0;
    CLEAN(clean_free) uint8_t *bytes = malloc(size);
    CLEAN(clean_free) uint8_t *ram = aligned_alloc(WIRE_PAGE, PAGES * (size_t)WIRE_PAGE);
    CLEAN(clean_free) struct source *s = calloc(1, sizeof(*s));
    if (!bytes || !ram || !s)
        return 0;
    memcpy(bytes, data + 1, size - 1);
    memset(ram, 0, PAGES * (size_t)WIRE_PAGE);
    if (data[0])
        seal(bytes, size - 1);
    s->at = bytes;
    s->left = size - 1;
    feed(s, ram);
    return 0;
}
