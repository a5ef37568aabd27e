/* A snapshot out as one stream and in again elsewhere; and streams that are none. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/crc32c.h"
#include "base/le.h"
#include "snapshot/export.h"
#include "snapshot/import.h"
#include "snapshot/reader.h"
#include "snapshot/transfer.h"
#include "tests/unit/snapshot/fixture.h"

#define RAW_FULL FERRY__SNAPSHOT_MEMORY__SNAPSHOT_MEMORY_RAW_FULL
#define RAW_DIFF FERRY__SNAPSHOT_MEMORY__SNAPSHOT_MEMORY_RAW_DIFF
#define PACKED_FULL FERRY__SNAPSHOT_MEMORY__SNAPSHOT_MEMORY_PACKED_FULL
#define PACKED_DIFF FERRY__SNAPSHOT_MEMORY__SNAPSHOT_MEMORY_PACKED_DIFF

static int to_buf(void *ctx, const uint8_t *data, size_t len, struct err *err)
{
    return buf_append(ctx, data, len) < 0 ? err_set(err, ENOSPC, "the test's buffer is full") : 0;
}

static struct buf export(struct fixture *f, const char *name, bool alone)
{
    struct buf out;
    struct err err = {0};
    buf_init(&out, 32 << 20);
    const struct export_sink sink = {.write = to_buf, .ctx = &out};
    const struct export_options options = {.alone = alone};
    if (export_snapshot(&f->catalogue, name, &options, &sink, &err) < 0)
        fail_msg("%s", err.text);
    return out;
}

static int import(struct fixture *f, const struct buf *in, size_t piece, const char *name,
                  struct err *err)
{
    struct import im;
    char got[NAME_MAX_CHARS + 1];
    int rc = import_init(&im, &f->catalogue, name, 0, err);
    for (size_t at = 0; rc == 0 && at < in->len; at += piece)
        rc = import_push(&im, in->data + at, in->len - at < piece ? in->len - at : piece, err);
    if (rc == 0)
        rc = import_finish(&im, got, err);
    import_fini(&im);
    return rc;
}

static void check_ram(struct fixture *f, const char *name, const uint8_t *ram)
{
    struct reader r;
    struct err err = {0};
    CLEAN(clean_free) uint8_t *got = malloc(FIXTURE_RAM);
    if (reader_open(&r, &f->catalogue, name, &err) < 0 ||
        reader_read(&r, 0, got, FIXTURE_RAM, &err) < 0)
        fail_msg("%s: %s", name, err.text);
    assert_memory_equal(got, ram, FIXTURE_RAM);
    reader_close(&r);
}

static void take(struct fixture *f, const char *name, unsigned id, Ferry__SnapshotMemory memory,
                 const char *parent, const uint8_t *base)
{
    struct err err = {0};
    if (fixture_take(f, name, id, memory, parent, id - 1, base, &err) < 0)
        fail_msg("%s", err.text);
}

static void drop(struct fixture *f, const char *name)
{
    struct err err = {0};
    if (catalogue_rm(&f->catalogue, name, true, NULL, &err) < 0)
        fail_msg("%s", err.text);
}

/* s1 <- s2 <- s3, of several kinds; *old is what s1 has. */
static void take_chain(struct fixture *f, uint8_t *old)
{
    CLEAN(clean_free) uint8_t *base = malloc(FIXTURE_RAM);
    fixture_fill(f, 0, 30, 1);
    fixture_fill(f, 400, 100, 2);
    take(f, "s1", 1, RAW_FULL, NULL, NULL);
    memcpy(old, f->ram, FIXTURE_RAM);
    memcpy(base, f->ram, FIXTURE_RAM);
    fixture_fill(f, 10, 3, 0);
    fixture_fill(f, 500, 3, 4);
    take(f, "s2", 2, RAW_DIFF, "s1", base);
    memcpy(base, f->ram, FIXTURE_RAM);
    fixture_fill(f, 12, 2, 8);
    take(f, "s3", 3, PACKED_DIFF, "s2", base);
}

static void test_there_and_back(void **state)
{
    struct fixture *f = *state;
    static const Ferry__SnapshotMemory kinds[] = {RAW_FULL, PACKED_FULL};
    static const size_t pieces[] = {1, 7, 1000, 1 << 20};
    fixture_fill(f, 3, 300, 1);
    fixture_fill(f, FIXTURE_PAGES - 1, 1, 1);
    for (unsigned i = 0; i < 2; i++) {
        size_t len[2];
        take(f, "s", 1, kinds[i], NULL, NULL);
        CLEAN(clean_free) uint8_t *before = fixture_load(f, "s", "manifest", &len[0]);
        struct buf out = export(f, "s", false);
        for (unsigned k = 0; k < 4; k++) {
            struct err err = {0};
            drop(f, "s");
            if (import(f, &out, pieces[k], NULL, &err) < 0)
                fail_msg("%s", err.text);
            check_ram(f, "s", f->ram);
            CLEAN(clean_free) uint8_t *after = fixture_load(f, "s", "manifest", &len[1]);
            assert_int_equal(len[0], len[1]);
            assert_memory_equal(before, after, len[0]);
            assert_int_equal(fixture_count(f, ""), 1);
        }
        drop(f, "s");
        buf_fini(&out);
    }
}

/* Holes stay holes, on the way and at the end. */
static void test_sparse(void **state)
{
    struct fixture *f = *state;
    struct stat st;
    struct err err = {0};
    fixture_fill(f, 300, 1, 1);
    take(f, "s", 1, RAW_FULL, NULL, NULL);
    struct buf out = export(f, "s", false);
    assert_true(out.len < 8192);
    drop(f, "s");
    assert_int_equal(import(f, &out, 100, "t", &err), 0);
    assert_int_equal(fstatat(f->dir, "t/memory", &st, 0), 0);
    assert_true(st.st_blocks * 512 <= 65536);
    buf_fini(&out);
}

static void test_chain(void **state)
{
    struct fixture *f = *state;
    struct err err = {0};
    CLEAN(clean_free) uint8_t *old = malloc(FIXTURE_RAM);
    take_chain(f, old);
    struct buf out = export(f, "s3", false), alone = export(f, "s3", true);
    assert_int_equal(import(f, &out, 4096, NULL, &err), -EEXIST);
    assert_string_equal(err.text, "snapshot 's3' is here already");
    drop(f, "s3");
    assert_int_equal(import(f, &alone, 4096, "again", &err), 0); /* its parents are here */
    check_ram(f, "again", f->ram);
    drop(f, "s2");
    assert_int_equal(import(f, &alone, 4096, NULL, &err), -ENOENT);
    assert_non_null(strstr(err.text, "its parent 's2' is not there"));
    assert_int_equal(fixture_count(f, ""), 1);
    if (import(f, &out, 4096, "top", &err) < 0) /* s1 is here, s2 is not */
        fail_msg("%s", err.text);
    check_ram(f, "top", f->ram);
    check_ram(f, "s1", old);
    assert_int_equal(fixture_count(f, ""), 3);
    drop(f, "s1");
    assert_int_equal(fixture_count(f, ""), 0);
    fixture_fill(f, 0, 1, 77); /* another s2 has the name */
    CLEAN(clean_free) uint8_t *now = malloc(FIXTURE_RAM);
    memcpy(now, f->ram, FIXTURE_RAM);
    take(f, "s2", 9, RAW_FULL, NULL, NULL);
    if (import(f, &out, 4096, NULL, &err) < 0)
        fail_msg("%s", err.text);
    check_ram(f, "s2", now);
    check_ram(f, "s1", old);
    assert_int_equal(fixture_count(f, "s2-02020202"), 1);
    assert_int_equal(import(f, &out, 4096, "../x", &err), -EINVAL);
    buf_fini(&out);
    buf_fini(&alone);
}

static void test_truncated_and_flipped(void **state)
{
    struct fixture *f = *state;
    fixture_fill(f, 3, 2, 1);
    take(f, "s", 1, RAW_FULL, NULL, NULL);
    struct buf out = export(f, "s", false);
    drop(f, "s");
    size_t len = out.len;
    for (out.len = 0; out.len < len; out.len++) {
        struct err err = {0};
        if (import(f, &out, 4096, NULL, &err) == 0)
            fail_msg("%zu of %zu bytes were enough", out.len, len);
        assert_int_not_equal(err.code, 0);
    }
    for (size_t byte = 0; byte < len; byte++) {
        struct err err = {0};
        out.data[byte] ^= (uint8_t)(1u << byte % 8);
        int rc = import(f, &out, 4096, NULL, &err);
        out.data[byte] ^= (uint8_t)(1u << byte % 8);
        if (rc == 0) { /* a bit that means nothing to zstd: then all the rest is right */
            check_ram(f, "s", f->ram);
            drop(f, "s");
        }
        assert_int_equal(fixture_count(f, ""), 0);
    }
    struct err err;
    assert_int_equal(buf_append(&out, "x", 1), 0);
    assert_true(import(f, &out, 4096, NULL, &err) < 0);
    assert_int_equal(fixture_count(f, ""), 0);
    buf_fini(&out);
}

/* A stream made by hand. */
struct forge {
    struct buf out;
    struct pack_stream stream;
};

static void forge_init(struct forge *g)
{
    struct err err;
    buf_init(&g->out, 32 << 20);
    assert_int_equal(pack_stream_init(&g->stream, 0, &err), 0);
    buf_append_le(&g->out, TRANSFER_MAGIC, 4);
    buf_append_le(&g->out, TRANSFER_VERSION, 4);
}

static void forge_put(struct forge *g, uint32_t kind, uint64_t offset, const void *data, size_t len)
{
    uint8_t head[TRANSFER_RECORD_BYTES];
    struct err err;
    le_put(head, kind, 4);
    le_put(head + 4, len, 4);
    le_put(head + 8, offset, 8);
    le_put(head + 16, crc32c(crc32c(0, head, 16), data, len), 4);
    assert_int_equal(pack_stream_push(&g->stream, head, sizeof(head), false, to_buf, &g->out, &err),
                     0);
    assert_int_equal(pack_stream_push(&g->stream, data, len, false, to_buf, &g->out, &err), 0);
}

static void forge_check(struct fixture *f, struct forge *g, const char *why)
{
    struct err err = {0};
    assert_int_equal(pack_stream_push(&g->stream, "", 0, true, to_buf, &g->out, &err), 0);
    assert_true(import(f, &g->out, 1000, NULL, &err) < 0);
    if (!strstr(err.text, why))
        fail_msg("'%s', not '%s'", err.text, why);
    assert_int_equal(fixture_count(f, ""), 0);
    pack_stream_fini(&g->stream);
    buf_fini(&g->out);
}

/* A real snapshot's parts to forge with. */
struct parts {
    uint8_t *manifest, *state, *memory; /* owned */
    size_t manifest_len, state_len, memory_len;
};

static void take_parts(struct fixture *f, struct parts *p)
{
    fixture_fill(f, 3, 1, 1);
    take(f, "s", 1, RAW_FULL, NULL, NULL);
    p->manifest = fixture_load(f, "s", "manifest", &p->manifest_len);
    p->state = fixture_load(f, "s", "state", &p->state_len);
    p->memory = fixture_load(f, "s", "memory", &p->memory_len);
    drop(f, "s");
}

static void clean_parts(struct parts *p)
{
    free(p->manifest);
    free(p->state);
    free(p->memory);
}

/* A letter a record: M the manifest, c one cut short; s, m, o the files state, memory, another; S
 * the state, D a page of memory in its place, x a byte; a digit the end of so many; ? an unknown
 * one. */
static void forge_row(struct forge *g, const struct parts *p, const char *row)
{
    static const char other[] = "../../x";
    for (; *row; row++) {
        switch (*row) {
        case 'M':
        case 'c':
            forge_put(g, TRANSFER_SNAPSHOT, 0, p->manifest, p->manifest_len - (*row == 'c'));
            break;
        case 's':
            forge_put(g, TRANSFER_FILE, 0, "state", 5);
            break;
        case 'm':
            forge_put(g, TRANSFER_FILE, 0, "memory", 6);
            break;
        case 'o':
            forge_put(g, TRANSFER_FILE, 0, other, strlen(other));
            break;
        case 'S':
            forge_put(g, TRANSFER_DATA, 0, p->state, p->state_len);
            break;
        case 'D':
            forge_put(g, TRANSFER_DATA, 3 * 4096, p->memory + 3 * 4096, 4096);
            break;
        case 'x':
            forge_put(g, TRANSFER_DATA, 0, "x", 1);
            break;
        case '?':
            forge_put(g, 9, 0, "x", 1);
            break;
        default:
            forge_put(g, TRANSFER_END, (uint64_t)(*row - '0'), "", 0);
        }
    }
}

static void test_forged_orders(void **state)
{
    static const struct {
        const char *row, *why;
    } bad[] = {
        {"", "the stream ends too early"},
        {"0", "the stream ends with 0 snapshots"},
        {"s", "a file that no manifest names"},
        {"x", "data outside of a file"},
        {"Mx", "data outside of a file"},
        {"?", "unknown kind 9"},
        {"c", "'manifest' has the length"},
        {"MM", "the stream lacks 'state' of snapshot 's'"},
        {"MsSmDM", "the stream has snapshot 's' twice"},
        {"Mm", "another file than 'state'"},
        {"Mo", "another file than 'state'"},
        {"Mss", "another file than 'memory'"},
        {"MsSmDm", "a file that no manifest names"},
        {"M1", "the stream lacks 'state' of snapshot 's'"},
        {"MsS1", "the stream lacks 'memory' of snapshot 's'"},
        {"MsSmD", "the stream ends too early"},
        {"MsSmDD", "out of place"},
        {"MsSmD2", "the stream ends with 2 snapshots, but had 1"},
        {"MsSmD11", "the stream goes on after its end"},
        {"Msxm1", "'state' is damaged at offset 0"},
        {"MsxmD1", "'state' is damaged at offset 0"},
        {"MsSm1", "'memory' is damaged at offset 0"},
        {"MsSmx1", "'memory' is damaged at offset 0"},
    };
    struct fixture *f = *state;
    CLEAN(clean_parts) struct parts p;
    take_parts(f, &p);
    for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct forge g;
        forge_init(&g);
        forge_row(&g, &p, bad[i].row);
        forge_check(f, &g, bad[i].why);
    }
}

static void test_forged_pieces(void **state)
{
    static const uint8_t piece[4096] = {1};
    static const struct {
        uint64_t offset;
        size_t len;
        const char *why;
    } bad[] = {
        {FIXTURE_RAM, 1, "out of place"},   {FIXTURE_RAM - 1, 2, "out of place"},
        {UINT64_MAX, 1, "out of place"},    {UINT64_MAX - 5, 10, "out of place"},
        {1ull << 63, 4096, "out of place"}, {0, 0, "a piece of 0 bytes"},
        {4095, 4096, "out of place"},
    };
    struct fixture *f = *state;
    CLEAN(clean_parts) struct parts p;
    take_parts(f, &p);
    for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct forge g;
        forge_init(&g);
        forge_row(&g, &p, "MsSm");
        forge_put(&g, TRANSFER_DATA, 0, piece, 4096);
        forge_put(&g, TRANSFER_DATA, bad[i].offset, piece, bad[i].len);
        forge_check(f, &g, bad[i].why);
    }
}

static void test_heads(void **state)
{
    struct fixture *f = *state;
    struct buf in;
    struct err err;
    buf_init(&in, 100);
    buf_append(&in, "FEXQ\1\0\0\0", 8);
    assert_int_equal(import(f, &in, 3, NULL, &err), -EBADMSG);
    assert_string_equal(err.text, "this is not an exported snapshot");
    in.len = 0;
    buf_append(&in, "FEXP\2\0\0\0", 8);
    assert_int_equal(import(f, &in, 3, NULL, &err), -EPROTONOSUPPORT);
    in.len = 0;
    buf_append(&in, "FEXP\1\0\0\0", 8);
    buf_append(&in, "\x28\xb5\x2f\xfd\x00\xa8\x00\x00", 8); /* a window of 2 GiB */
    assert_int_equal(import(f, &in, 100, NULL, &err), -EBADMSG);
    assert_non_null(strstr(err.text, "the packed stream is damaged"));
    buf_fini(&in);
}

/* More than the caller wants to take. */
static void test_bound(void **state)
{
    struct fixture *f = *state;
    struct import im;
    struct err err;
    fixture_fill(f, 0, 20, 1);
    take(f, "s", 1, RAW_FULL, NULL, NULL);
    struct buf out = export(f, "s", false);
    drop(f, "s");
    assert_int_equal(import_init(&im, &f->catalogue, NULL, 65536, &err), 0);
    assert_int_equal(import_push(&im, out.data, out.len, &err), -EFBIG);
    err = (struct err){0};
    assert_int_equal(import_push(&im, "x", 1, &err), -EFBIG);
    char name[NAME_MAX_CHARS + 1];
    assert_int_equal(import_finish(&im, name, &err), -EFBIG);
    import_fini(&im);
    assert_int_equal(fixture_count(f, ""), 0);
    buf_fini(&out);
}

/* Whatever call to the disk fails, nothing of the stream is left, and what was there is. */
static void test_failing_disk(void **state)
{
    struct fixture *f = *state;
    CLEAN(clean_free) uint8_t *old = malloc(FIXTURE_RAM);
    take_chain(f, old);
    struct buf out = export(f, "s3", false);
    drop(f, "s1");
    take(f, "other", 50, RAW_FULL, NULL, NULL);
    unsigned at = 1;
    for (; at < 300; at++) {
        struct err err = {0};
        f->disk.kinds = DISK_ALL;
        f->disk.at = at;
        f->disk.code = ENOSPC;
        f->disk.count = 0;
        int rc = import(f, &out, 4096, NULL, &err);
        f->disk.at = 0;
        if (rc == 0)
            break;
        assert_int_equal(rc, -ENOSPC);
        assert_int_equal(fixture_count(f, ""), 1);
    }
    assert_true(at > 30 && at < 300);
    check_ram(f, "s1", old);
    assert_int_equal(fixture_count(f, ""), 4);
    buf_fini(&out);
}

static int refuse_write(void *ctx, const uint8_t *data, size_t len, struct err *err)
{
    unsigned *left = ctx;
    return (*left)-- ? 0 : err_set(err, EPIPE, "nobody reads");
}

static bool refuse_progress(void *ctx, uint64_t done, uint64_t total)
{
    assert_true(done <= total);
    return false;
}

static void test_export_fails(void **state)
{
    struct fixture *f = *state;
    struct err err;
    const struct export_options options = {.level = 0};
    fixture_fill(f, 0, 20, 1);
    take(f, "s", 1, RAW_FULL, NULL, NULL);
    for (unsigned n = 0; n < 2; n++) {
        unsigned left = n;
        const struct export_sink sink = {.write = refuse_write, .ctx = &left};
        assert_int_equal(export_snapshot(&f->catalogue, "s", &options, &sink, &err), -EPIPE);
    }
    unsigned left = 1000;
    const struct export_sink sink = {
        .write = refuse_write, .progress = refuse_progress, .ctx = &left};
    assert_int_equal(export_snapshot(&f->catalogue, "s", &options, &sink, &err), -ECANCELED);
    assert_int_equal(export_snapshot(&f->catalogue, "t", &options, &sink, &err), -ENOENT);
}

int main(void)
{
#define T(x) cmocka_unit_test_setup_teardown(x, fixture_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        T(test_there_and_back), T(test_sparse),        T(test_chain), T(test_truncated_and_flipped),
        T(test_forged_orders),  T(test_forged_pieces), T(test_heads), T(test_bound),
        T(test_failing_disk),   T(test_export_fails),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
