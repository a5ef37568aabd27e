/* The unpackers: every packing gives the same bytes back, and nothing else gets through. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "machine/boot/unpack.h"
#include "tests/unit/machine/packed_image.h"

#define MAX (64u << 20)

static struct err err;

static int collect(void *ctx, const uint8_t *data, size_t len, struct err *e)
{
    return buf_append(ctx, data, len) < 0 ? err_set(e, ENOMEM, "sink is full") : 0;
}

/* Unpacks into `out`; the caller frees it. */
static int unpack(const uint8_t *data, size_t len, struct buf *out)
{
    struct unpack_sink sink = {.take = collect, .ctx = out};
    struct input in;
    uint64_t size;
    CLEAN(clean_fd) int fd = image_file(data, len);
    buf_init(out, MAX);
    err = (struct err){0};
    assert_int_equal(input_init(&in, fd, &err), 0);
    const struct unpacker *u = len >= UNPACK_MAGIC_MAX ? unpack_find(data) : NULL;
    if (!u)
        return -ENOEXEC;
    int rc = unpack_size(&in, MAX, &size, &err);
    return rc < 0 ? rc : unpack_run(u, &in, size, &sink, &err);
}

enum packing { GZIP, XZ, ZSTD, LZ4, PACKINGS };

static const char *const names[PACKINGS] = {"gzip", "xz", "zstd", "lz4"};

static struct packed pack(enum packing how, const uint8_t *data, size_t len)
{
    switch (how) {
    case GZIP:
        return packed_gzip(data, len);
    case XZ:
        return packed_xz(data, len, 1 << 20);
    case ZSTD:
        return packed_zstd(data, len);
    default:
        return packed_lz4(data, len, 8u << 20);
    }
}

static void check_round_trip(enum packing how, size_t bytes)
{
    struct packed plain = packed_vmlinux(bytes), p = pack(how, plain.data, plain.len);
    struct buf out;
    assert_string_equal(unpack_name(unpack_find(p.data)), names[how]);
    int rc = unpack(p.data, p.len, &out);
    bool same = out.len == plain.len && memcmp(out.data, plain.data, plain.len) == 0;
    buf_fini(&out);
    free(plain.data);
    free(p.data);
    if (rc < 0 || !same)
        fail_msg("%s of %zu bytes: %s", names[how], bytes, rc < 0 ? err.text : "other bytes");
}

static void test_round_trips(void **state)
{
    static const size_t sizes[] = {1, 100, 65536 - IMAGE_HEADERS_END, 65537, 1 << 20};
    for (unsigned how = 0; how < PACKINGS; how++)
        for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
            check_round_trip(how, sizes[i]);
}

/* Several blocks, and a frame's magic number between two of them. */
static void test_lz4_blocks(void **state)
{
    struct packed plain = packed_vmlinux(300000), p = packed_lz4(plain.data, plain.len, 65536);
    struct buf out;
    assert_int_equal(unpack(p.data, p.len, &out), 0);
    assert_int_equal(out.len, plain.len);
    assert_memory_equal(out.data, plain.data, plain.len);
    buf_fini(&out);
    uint8_t *twice = malloc(2 * p.len);
    memcpy(twice, p.data, p.len - 4);
    memcpy(twice + p.len - 4, p.data, p.len);
    le_put(twice + 2 * p.len - 8, 2 * plain.len, 4);
    assert_int_equal(unpack(twice, 2 * p.len - 4, &out), 0);
    assert_int_equal(out.len, 2 * plain.len);
    assert_memory_equal(out.data + plain.len, plain.data, plain.len);
    buf_fini(&out);
    free(twice);
    free(plain.data);
    free(p.data);
}

/* Cut anywhere it is refused: what would be the last 4 bytes no longer fits either. */
static void test_truncated(void **state)
{
    for (unsigned how = 0; how < PACKINGS; how++) {
        struct packed plain = packed_vmlinux(600), p = pack(how, plain.data, plain.len);
        for (size_t len = 0; len < p.len; len++) {
            struct buf out;
            int rc = unpack(p.data, len, &out);
            buf_fini(&out);
            if (rc == 0)
                fail_msg("%s cut at %zu of %zu is taken", names[how], len, p.len);
        }
        free(plain.data);
        free(p.data);
    }
}

/* With the right size behind it: the stream itself ends early. */
static void test_ends_early(void **state)
{
    for (unsigned how = XZ; how < PACKINGS; how++) {
        struct packed plain = packed_vmlinux(600), p = pack(how, plain.data, plain.len);
        for (size_t cut = 1; cut + 10 < p.len; cut += 3) {
            struct buf out;
            size_t len = p.len - cut;
            uint8_t *data = malloc(len);
            memcpy(data, p.data, len);
            le_put(data + len - 4, plain.len, 4);
            int rc = unpack(data, len, &out);
            buf_fini(&out);
            free(data);
            assert_true(rc < 0);
            assert_true(err.text[0] != 0);
        }
        free(plain.data);
        free(p.data);
    }
}

static void test_trailing(void **state)
{
    for (unsigned how = 0; how < PACKINGS; how++) {
        struct packed plain = packed_vmlinux(600), p = pack(how, plain.data, plain.len);
        uint8_t *data = calloc(1, p.len + 3);
        struct buf out;
        memcpy(data, p.data, p.len - 4);
        memcpy(data + p.len - 1, p.data + p.len - 4, 4);
        if (how == GZIP) { /* its size stays where it is, and is repeated */
            memcpy(data, p.data, p.len);
            memcpy(data + p.len, "abc", 3);
            le_put(data + p.len - 1, plain.len, 4);
            data[p.len - 1] = p.data[p.len - 1];
        }
        int rc = unpack(data, p.len + 3, &out);
        buf_fini(&out);
        free(data);
        free(plain.data);
        free(p.data);
        if (rc == 0)
            fail_msg("%s with trailing bytes is taken", names[how]);
    }
}

/* The declared size is a bound from above and from below, and itself bounded. */
static void test_declared_size(void **state)
{
    for (unsigned how = XZ; how < PACKINGS; how++) {
        struct packed plain = packed_vmlinux(200000), p = pack(how, plain.data, plain.len);
        struct buf out;
        le_put(p.data + p.len - 4, plain.len - 1, 4);
        assert_int_equal(unpack(p.data, p.len, &out), -EBADMSG);
        assert_non_null(strstr(err.text, "unpacks to more than the"));
        assert_true(out.len < plain.len);
        buf_fini(&out);
        le_put(p.data + p.len - 4, plain.len + 1, 4);
        assert_int_equal(unpack(p.data, p.len, &out), -EBADMSG);
        assert_non_null(strstr(err.text, "its end declares"));
        buf_fini(&out);
        le_put(p.data + p.len - 4, MAX + 1, 4);
        assert_int_equal(unpack(p.data, p.len, &out), -ENOSPC);
        assert_non_null(strstr(err.text, "MiB of RAM"));
        buf_fini(&out);
        free(plain.data);
        free(p.data);
    }
}

/* 32 MiB of zeroes that say they are 4096 bytes: not more than one piece goes to the sink. */
static void test_bomb(void **state)
{
    uint8_t *zeroes = calloc(1, 32 << 20);
    for (unsigned how = XZ; how < PACKINGS; how++) {
        struct packed p = pack(how, zeroes, 32 << 20);
        struct buf out;
        le_put(p.data + p.len - 4, 4096, 4);
        int rc = unpack(p.data, p.len, &out);
        size_t got = out.len;
        buf_fini(&out);
        free(p.data);
        assert_int_equal(rc, -EBADMSG);
        assert_int_equal(got, 0);
    }
    free(zeroes);
}

static void test_flips(void **state)
{
    for (unsigned how = 0; how < PACKINGS; how++) {
        struct packed plain = packed_vmlinux(20), p = pack(how, plain.data, plain.len);
        for (size_t bit = 0; bit < p.len * 8; bit++) {
            struct buf out;
            p.data[bit / 8] ^= (uint8_t)(1u << (bit % 8));
            int rc = unpack(p.data, p.len, &out);
            p.data[bit / 8] ^= (uint8_t)(1u << (bit % 8));
            assert_true(out.len <= MAX);
            assert_true(rc == 0 || rc == -ENOEXEC || err.text[0] != 0);
            buf_fini(&out);
        }
        free(plain.data);
        free(p.data);
    }
}

/* What asks for more memory than a kernel may. */
static void test_xz_dictionary(void **state)
{
    struct packed plain = packed_vmlinux(600);
    struct packed p = packed_xz(plain.data, plain.len, 128u << 20);
    struct buf out;
    assert_int_equal(unpack(p.data, p.len, &out), 0);
    buf_fini(&out);
    free(p.data);
    p = packed_xz(plain.data, plain.len, 192u << 20);
    assert_int_equal(unpack(p.data, p.len, &out), -E2BIG);
    assert_string_equal(err.text, "xz data needs a dictionary of more than 160 MiB to unpack");
    buf_fini(&out);
    free(p.data);
    free(plain.data);
}

/* Frame header by hand: descriptor, window of 256 MiB; then one that names a dictionary. */
static void test_zstd_window(void **state)
{
    uint8_t wide[] = {0x28, 0xb5, 0x2f, 0xfd, 0x00, (28 - 10) << 3, 0x09, 0, 0, 'a', 1, 0, 0, 0};
    uint8_t dictionary[] = {0x28, 0xb5, 0x2f, 0xfd, 0x21, 77, 1, 0x09, 0, 0, 'a', 1, 0, 0, 0};
    struct buf out;
    assert_int_equal(unpack(wide, sizeof(wide), &out), -EBADMSG);
    assert_non_null(strstr(err.text, "memory"));
    buf_fini(&out);
    wide[5] = (20 - 10) << 3;
    assert_int_equal(unpack(wide, sizeof(wide), &out), 0);
    assert_int_equal(out.len, 1);
    buf_fini(&out);
    assert_int_equal(unpack(dictionary, sizeof(dictionary), &out), -EBADMSG);
    assert_non_null(strstr(err.text, "ictionary"));
    buf_fini(&out);
}

static void test_lz4_block_sizes(void **state)
{
    static const uint32_t sizes[] = {0, 1u << 31, UINT32_MAX, 8500000, 9000000};
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        uint8_t data[32] = {0x02, 0x21, 0x4c, 0x18};
        struct buf out;
        le_put(data + 4, sizes[i], 4);
        le_put(data + 28, 100, 4);
        assert_int_equal(unpack(data, sizeof(data), &out), -EBADMSG);
        buf_fini(&out);
    }
}

/* The file does have that many bytes; no block of 8 MiB packs to them. */
static void test_lz4_block_too_large(void **state)
{
    size_t len = 10u << 20;
    uint8_t *data = calloc(1, len);
    struct buf out;
    le_put(data, 0x184c2102, 4);
    le_put(data + 4, 9000000, 4);
    le_put(data + len - 4, 100, 4);
    int rc = unpack(data, len, &out);
    buf_fini(&out);
    free(data);
    assert_int_equal(rc, -EBADMSG);
    assert_string_equal(err.text, "lz4 data is damaged: a block has 9000000 packed bytes");
}

static int refuse(void *ctx, const uint8_t *data, size_t len, struct err *e)
{
    return err_set(e, ENOSPC, "no more");
}

static void test_sink_refuses(void **state)
{
    for (unsigned how = 0; how < PACKINGS; how++) {
        struct packed plain = packed_vmlinux(600), p = pack(how, plain.data, plain.len);
        struct unpack_sink sink = {.take = refuse};
        struct input in;
        CLEAN(clean_fd) int fd = image_file(p.data, p.len);
        assert_int_equal(input_init(&in, fd, &err), 0);
        assert_int_equal(unpack_run(unpack_find(p.data), &in, plain.len, &sink, &err), -ENOSPC);
        assert_string_equal(err.text, "no more");
        free(plain.data);
        free(p.data);
    }
}

static void test_unknown(void **state)
{
    const uint8_t bzip2[6] = "BZh91A", lzma[6] = {0x5d, 0, 0, 0, 4, 0};
    assert_null(unpack_find(bzip2));
    assert_null(unpack_find(lzma));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trips),
        cmocka_unit_test(test_lz4_blocks),
        cmocka_unit_test(test_truncated),
        cmocka_unit_test(test_ends_early),
        cmocka_unit_test(test_trailing),
        cmocka_unit_test(test_declared_size),
        cmocka_unit_test(test_bomb),
        cmocka_unit_test(test_flips),
        cmocka_unit_test(test_xz_dictionary),
        cmocka_unit_test(test_zstd_window),
        cmocka_unit_test(test_lz4_block_sizes),
        cmocka_unit_test(test_sink_refuses),
        cmocka_unit_test(test_unknown),
        cmocka_unit_test(test_lz4_block_too_large),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
