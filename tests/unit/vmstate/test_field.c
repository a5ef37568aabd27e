/*
 * Fields against bytes that were written by hand: saved as such, loaded from such, and refused when
 * a byte is missing, too many, or not what it should be.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/le.h"
#include "vmstate/field.h"

struct pair {
    uint8_t left;
    bool right;
};

struct demo {
    uint8_t byte;
    uint16_t word;
    uint32_t dword;
    uint64_t qword;
    int32_t cold;
    int64_t colder;
    bool yes;
    uint16_t two[2];
    struct pair inner;
    uint32_t used, some[4];
    struct pair both[2];
    uint32_t listed;
    struct pair list[3];
    uint8_t late;
    unsigned post_loads;
};

static const struct field pair_fields[] = {
    FIELD(1, struct pair, left),
    FIELD(2, struct pair, right),
    FIELD_END,
};

static const struct field demo_fields[] = {
    FIELD(1, struct demo, byte),
    FIELD(2, struct demo, word),
    FIELD(3, struct demo, dword),
    FIELD(4, struct demo, qword),
    FIELD(5, struct demo, cold),
    FIELD(6, struct demo, colder),
    FIELD(7, struct demo, yes),
    FIELD_ARRAY(8, struct demo, two),
    FIELD_STRUCT(9, struct demo, inner, pair_fields),
    FIELD_USED(10, struct demo, some, used),
    FIELD_STRUCTS(11, struct demo, both, pair_fields),
    FIELD_STRUCTS_USED(12, struct demo, list, listed, pair_fields),
    FIELD_SINCE(0x1234, 2, struct demo, late),
    FIELD_END,
};

static int demo_post_load(void *object, struct err *err)
{
    struct demo *d = object;
    d->post_loads++;
    if (d->byte == 0xee)
        return err_set(err, EINVAL, "demo.byte is 0xee");
    return 0;
}

static const struct state_desc demo_state = {
    .name = "demo",
    .version = 2,
    .min_version = 1,
    .fields = demo_fields,
    .post_load = demo_post_load,
};

static const struct demo demo = {
    .byte = 0xa1,
    .word = 0xb1b2,
    .dword = 0xc1c2c3c4,
    .qword = 0xd1d2d3d4d5d6d7d8,
    .cold = -2,
    .colder = INT64_MIN,
    .yes = true,
    .two = {0x1111, 0x2222},
    .inner = {0x77, true},
    .used = 2,
    .some = {0x81828384, 0x91929394, 0xdead, 0xdead},
    .both = {{0x31, false}, {0x32, true}},
    .listed = 1,
    .list = {{0x41, true}, {0xde, false}, {0xad, false}},
    .late = 0x5a,
};

/* A stretch of the golden bytes. A flip of any bit of a VALUE gives another value, of a TRUTH only
 * the lowest bit does; of anything else it gives a refusal. */
enum part { HEAD, VALUE, TRUTH, LENGTH };

static const struct {
    const char *field;
    enum part part;
    uint8_t len, bytes[8];
} golden[] = {
    /*         tag, tag, kind, 0, length x 4 */
    {"byte", HEAD, 8, {0x01, 0x00, 1, 0, 1, 0, 0, 0}},
    {"byte", VALUE, 1, {0xa1}},
    {"word", HEAD, 8, {0x02, 0x00, 2, 0, 2, 0, 0, 0}},
    {"word", VALUE, 2, {0xb2, 0xb1}},
    {"dword", HEAD, 8, {0x03, 0x00, 3, 0, 4, 0, 0, 0}},
    {"dword", VALUE, 4, {0xc4, 0xc3, 0xc2, 0xc1}},
    {"qword", HEAD, 8, {0x04, 0x00, 4, 0, 8, 0, 0, 0}},
    {"qword", VALUE, 8, {0xd8, 0xd7, 0xd6, 0xd5, 0xd4, 0xd3, 0xd2, 0xd1}},
    {"cold", HEAD, 8, {0x05, 0x00, 5, 0, 4, 0, 0, 0}},
    {"cold", VALUE, 4, {0xfe, 0xff, 0xff, 0xff}},
    {"colder", HEAD, 8, {0x06, 0x00, 6, 0, 8, 0, 0, 0}},
    {"colder", VALUE, 8, {0, 0, 0, 0, 0, 0, 0, 0x80}},
    {"yes", HEAD, 8, {0x07, 0x00, 7, 0, 1, 0, 0, 0}},
    {"yes", TRUTH, 1, {1}},
    {"two", HEAD, 8, {0x08, 0x00, 2, 0, 4, 0, 0, 0}},
    {"two[0]", VALUE, 2, {0x11, 0x11}},
    {"two[1]", VALUE, 2, {0x22, 0x22}},
    {"inner", HEAD, 8, {0x09, 0x00, 8, 0, 18, 0, 0, 0}},
    {"inner.left", HEAD, 8, {0x01, 0x00, 1, 0, 1, 0, 0, 0}},
    {"inner.left", VALUE, 1, {0x77}},
    {"inner.right", HEAD, 8, {0x02, 0x00, 7, 0, 1, 0, 0, 0}},
    {"inner.right", TRUTH, 1, {1}},
    {"some", HEAD, 8, {0x0a, 0x00, 3, 0, 8, 0, 0, 0}}, /* two of four */
    {"some[0]", VALUE, 4, {0x84, 0x83, 0x82, 0x81}},
    {"some[1]", VALUE, 4, {0x94, 0x93, 0x92, 0x91}},
    {"both", HEAD, 8, {0x0b, 0x00, 9, 0, 44, 0, 0, 0}},
    {"both[0]", LENGTH, 4, {18, 0, 0, 0}},
    {"both[0].left", HEAD, 8, {0x01, 0x00, 1, 0, 1, 0, 0, 0}},
    {"both[0].left", VALUE, 1, {0x31}},
    {"both[0].right", HEAD, 8, {0x02, 0x00, 7, 0, 1, 0, 0, 0}},
    {"both[0].right", TRUTH, 1, {0}},
    {"both[1]", LENGTH, 4, {18, 0, 0, 0}},
    {"both[1].left", HEAD, 8, {0x01, 0x00, 1, 0, 1, 0, 0, 0}},
    {"both[1].left", VALUE, 1, {0x32}},
    {"both[1].right", HEAD, 8, {0x02, 0x00, 7, 0, 1, 0, 0, 0}},
    {"both[1].right", TRUTH, 1, {1}},
    {"list", HEAD, 8, {0x0c, 0x00, 9, 0, 22, 0, 0, 0}}, /* one of three */
    {"list[0]", LENGTH, 4, {18, 0, 0, 0}},
    {"list[0].left", HEAD, 8, {0x01, 0x00, 1, 0, 1, 0, 0, 0}},
    {"list[0].left", VALUE, 1, {0x41}},
    {"list[0].right", HEAD, 8, {0x02, 0x00, 7, 0, 1, 0, 0, 0}},
    {"list[0].right", TRUTH, 1, {1}},
    {"late", HEAD, 8, {0x34, 0x12, 1, 0, 1, 0, 0, 0}},
    {"late", VALUE, 1, {0x5a}},
};
#define GOLDEN_ROWS (sizeof(golden) / sizeof(golden[0]))
#define RECORD_TAGS 13 /* of the demo table */

static uint8_t bytes[512];
static size_t nbytes;

static int setup(void **state)
{
    nbytes = 0;
    for (unsigned i = 0; i < GOLDEN_ROWS; i++) {
        memcpy(bytes + nbytes, golden[i].bytes, golden[i].len);
        nbytes += golden[i].len;
    }
    return 0;
}

/* From a copy of exactly that size, so that a read behind the end is seen. */
static int load(struct demo *to, const uint8_t *from, size_t len, uint16_t version,
                unsigned *skipped, struct err *err)
{
    uint8_t *exact = malloc(len ? len : 1);
    assert_non_null(exact);
    memcpy(exact, from, len);
    memset(to, 0, sizeof(*to));
    *err = (struct err){0};
    int rc = field_load(&demo_state, to, version, (struct span){exact, len}, skipped, err);
    free(exact);
    assert_true(rc == 0 || (rc < 0 && err->code == -rc && err->text[0]));
    return rc;
}

static int load_2(const uint8_t *from, size_t len, struct err *err)
{
    struct demo d;
    return load(&d, from, len, 2, NULL, err);
}

static void save(const struct demo *d, struct buf *out)
{
    struct err err;
    buf_init(out, 4096);
    assert_int_equal(field_save(&demo_state, d, out, &err), 0);
}

/* The whole of a top-level record, head and payload. */
struct record {
    size_t at, len;
};

static unsigned records(struct record *to)
{
    unsigned n = 0;
    for (size_t at = 0; at < nbytes; n++) {
        to[n] = (struct record){at, 8 + le_get(bytes + at + 4, 4)};
        at += to[n].len;
    }
    assert_int_equal(n, RECORD_TAGS);
    return n;
}

static void test_saved_as_written_by_hand(void **state)
{
    struct buf out;
    save(&demo, &out);
    assert_int_equal(out.len, nbytes);
    assert_memory_equal(out.data, bytes, nbytes);
    buf_fini(&out);
}

static void test_loaded_as_written_by_hand(void **state)
{
    struct demo d;
    struct err err;
    unsigned skipped = 9;
    assert_int_equal(load(&d, bytes, nbytes, 2, &skipped, &err), 0);
    assert_int_equal(skipped, 0);
    assert_int_equal(d.byte, 0xa1);
    assert_int_equal(d.word, 0xb1b2);
    assert_int_equal(d.dword, 0xc1c2c3c4);
    assert_true(d.qword == 0xd1d2d3d4d5d6d7d8);
    assert_int_equal(d.cold, -2);
    assert_true(d.colder == INT64_MIN && d.yes);
    assert_int_equal(d.two[0], 0x1111);
    assert_int_equal(d.two[1], 0x2222);
    assert_true(d.inner.left == 0x77 && d.inner.right);
    assert_int_equal(d.used, 2);
    assert_int_equal(d.some[1], 0x91929394);
    assert_int_equal(d.some[2], 0);
    assert_true(d.both[0].left == 0x31 && !d.both[0].right);
    assert_true(d.both[1].left == 0x32 && d.both[1].right);
    assert_int_equal(d.listed, 1);
    assert_true(d.list[0].left == 0x41 && d.list[1].left == 0);
    assert_int_equal(d.late, 0x5a);
    assert_int_equal(d.post_loads, 1);
}

static void test_every_truncation_is_refused(void **state)
{
    struct err err;
    for (size_t len = 0; len < nbytes; len++)
        assert_int_equal(load_2(bytes, len, &err), -EBADMSG);
    assert_int_equal(load_2(bytes, 0, &err), -EBADMSG);
    assert_string_equal(err.text, "demo.byte is missing");
    assert_int_equal(load_2(bytes, 5, &err), -EBADMSG);
    assert_string_equal(err.text, "demo is truncated in a field header");
    assert_int_equal(load_2(bytes, 8, &err), -EBADMSG);
    assert_string_equal(err.text, "demo field 1 is truncated");
}

static void test_trailing_garbage_is_refused(void **state)
{
    uint8_t more[sizeof(bytes) + 16];
    struct err err;
    memcpy(more, bytes, nbytes);
    memset(more + nbytes, 0xff, 16);
    for (size_t extra = 1; extra <= 16; extra++)
        assert_int_equal(load_2(more, nbytes + extra, &err), -EBADMSG);
}

/* Every bit: a value becomes another value and is saved again as it came; all else is refused. */
static void test_every_flipped_bit(void **state)
{
    size_t at = 0;
    for (unsigned row = 0; row < GOLDEN_ROWS; at += golden[row++].len) {
        for (unsigned bit = 0; bit < golden[row].len * 8u; bit++) {
            struct demo d;
            struct err err;
            bytes[at + bit / 8] ^= (uint8_t)(1 << bit % 8);
            int rc = load(&d, bytes, nbytes, 2, NULL, &err);
            bool value = golden[row].part == VALUE || (golden[row].part == TRUTH && bit == 0);
            if (value != (rc == 0))
                fail_msg("%s bit %u: %d %s", golden[row].field, bit, rc, err.text);
            if (rc == 0) {
                struct buf out;
                save(&d, &out);
                assert_int_equal(out.len, nbytes);
                assert_memory_equal(out.data, bytes, nbytes);
                buf_fini(&out);
            }
            bytes[at + bit / 8] ^= (uint8_t)(1 << bit % 8);
        }
    }
}

static void test_every_hostile_length(void **state)
{
    static const uint32_t lengths[] = {0,          1,          3,          0x7fffffff, 0x80000000,
                                       0xfffffff7, 0xfffffff8, 0xfffffff9, 0xfffffffe, 0xffffffff};
    size_t at = 0;
    for (unsigned row = 0; row < GOLDEN_ROWS; at += golden[row++].len) {
        if (golden[row].part != HEAD && golden[row].part != LENGTH)
            continue;
        uint8_t *length = bytes + at + (golden[row].part == HEAD ? 4 : 0);
        uint64_t good = le_get(length, 4);
        for (unsigned i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
            struct err err;
            if (lengths[i] == good)
                continue;
            le_put(length, lengths[i], 4);
            assert_int_equal(load_2(bytes, nbytes, &err), -EBADMSG);
        }
        le_put(length, good, 4);
    }
}

static void test_missing_field_is_named(void **state)
{
    struct record r[RECORD_TAGS];
    unsigned n = records(r);
    for (unsigned i = 0; i < n; i++) {
        uint8_t less[sizeof(bytes)];
        char expected[64];
        struct err err;
        size_t behind = r[i].at + r[i].len;
        memcpy(less, bytes, r[i].at);
        memcpy(less + r[i].at, bytes + behind, nbytes - behind);
        assert_int_equal(load_2(less, nbytes - r[i].len, &err), -EBADMSG);
        snprintf(expected, sizeof(expected), "demo.%s is missing", demo_fields[i].name);
        assert_string_equal(err.text, expected);
    }
}

static void test_repeated_field_is_named(void **state)
{
    struct record r[RECORD_TAGS];
    unsigned n = records(r);
    for (unsigned i = 0; i < n; i++) {
        uint8_t more[2 * sizeof(bytes)];
        char expected[64];
        struct err err;
        memcpy(more, bytes, nbytes);
        memcpy(more + nbytes, bytes + r[i].at, r[i].len);
        assert_int_equal(load_2(more, nbytes + r[i].len, &err), -EBADMSG);
        snprintf(expected, sizeof(expected), "demo.%s is there twice", demo_fields[i].name);
        assert_string_equal(err.text, expected);
    }
}

static void test_order_does_not_matter(void **state)
{
    struct record r[RECORD_TAGS];
    uint8_t reversed[sizeof(bytes)];
    size_t len = 0;
    struct demo d;
    struct err err;
    struct buf out;
    for (unsigned i = records(r); i-- > 0; len += r[i].len)
        memcpy(reversed + len, bytes + r[i].at, r[i].len);
    assert_int_equal(load(&d, reversed, len, 2, NULL, &err), 0);
    save(&d, &out);
    assert_memory_equal(out.data, bytes, nbytes);
    buf_fini(&out);
}

/* A newer writer's field, before, between and behind all others. */
static void test_unknown_tags_are_skipped_and_counted(void **state)
{
    static const uint8_t unknown[] = {0x99, 0x09, 0xc8, 0, 3, 0, 0, 0, 'n', 'e', 'w'};
    struct record r[RECORD_TAGS + 1];
    unsigned n = records(r);
    r[n].at = nbytes;
    for (unsigned i = 0; i <= n; i++) {
        uint8_t more[sizeof(bytes) + sizeof(unknown)];
        struct demo d;
        struct err err;
        unsigned skipped = 0;
        memcpy(more, bytes, r[i].at);
        memcpy(more + r[i].at, unknown, sizeof(unknown));
        memcpy(more + r[i].at + sizeof(unknown), bytes + r[i].at, nbytes - r[i].at);
        assert_int_equal(load(&d, more, nbytes + sizeof(unknown), 3, &skipped, &err), 0);
        assert_int_equal(skipped, 1);
        assert_int_equal(d.late, 0x5a);
    }
}

static void test_unknown_tag_within_a_struct(void **state)
{
    static const uint8_t inner[] = {
        0x09, 0x00, 8, 0, 26, 0, 0, 0,                                     /* inner: 26 bytes */
        0x01, 0x00, 1, 0, 1,  0, 0, 0, 0x77, 0x63, 0x00, 1, 0, 0, 0, 0, 0, /* tag 99, empty */
        0x02, 0x00, 7, 0, 1,  0, 0, 0, 1,
    };
    struct record r[RECORD_TAGS];
    uint8_t more[2 * sizeof(bytes)];
    struct demo d;
    struct err err;
    unsigned skipped = 0;
    records(r);
    memcpy(more, bytes, r[8].at);
    memcpy(more + r[8].at, inner, sizeof(inner));
    size_t behind = r[8].at + r[8].len;
    memcpy(more + r[8].at + sizeof(inner), bytes + behind, nbytes - behind);
    size_t len = nbytes - r[8].len + sizeof(inner);
    assert_int_equal(load(&d, more, len, 2, &skipped, &err), 0);
    assert_int_equal(skipped, 1);
    assert_true(d.inner.left == 0x77 && d.inner.right);
}

static void test_versions(void **state)
{
    struct record r[RECORD_TAGS];
    struct demo d;
    struct err err;
    records(r);
    size_t old = r[RECORD_TAGS - 1].at; /* as version 1 wrote it: without `late` */
    assert_int_equal(load(&d, bytes, old, 1, NULL, &err), 0);
    assert_int_equal(d.late, 0);
    assert_int_equal(load(&d, bytes, old, 2, NULL, &err), -EBADMSG);
    assert_string_equal(err.text, "demo.late is missing");
    assert_int_equal(load(&d, bytes, nbytes, 0, NULL, &err), -EPROTONOSUPPORT);
    assert_string_equal(err.text, "demo has version 0, older than the oldest known 1");
    assert_int_equal(d.post_loads, 0);
    assert_int_equal(load(&d, bytes, nbytes, UINT16_MAX, NULL, &err), 0);
}

static void test_wrong_kind_and_flags_are_named(void **state)
{
    struct record r[RECORD_TAGS];
    struct err err;
    unsigned n = records(r);
    for (unsigned i = 0; i < n; i++) {
        char expected[64];
        uint8_t *kind = bytes + r[i].at + 2, good = *kind;
        for (unsigned other = 0; other < 256; other++) {
            if (other == good)
                continue;
            *kind = (uint8_t)other;
            assert_int_equal(load_2(bytes, nbytes, &err), -EBADMSG);
            snprintf(expected, sizeof(expected), "demo.%s is of kind %u instead of ",
                     demo_fields[i].name, other);
            assert_memory_equal(err.text, expected, strlen(expected));
        }
        *kind = good;
        kind[1] = 0x80;
        assert_int_equal(load_2(bytes, nbytes, &err), -EBADMSG);
        assert_non_null(strstr(err.text, "has unknown flags"));
        kind[1] = 0;
    }
}

/* An object that counts more than it has is saved as far as it goes. */
static void test_count_beyond_the_array_is_clipped(void **state)
{
    struct demo d = demo, back;
    struct buf out;
    struct err err;
    d.used = UINT32_MAX;
    d.listed = 4;
    save(&d, &out);
    assert_int_equal(load(&back, out.data, out.len, 2, NULL, &err), 0);
    assert_int_equal(back.used, 4);
    assert_int_equal(back.listed, 3);
    buf_fini(&out);
}

static void test_neither_true_nor_false(void **state)
{
    struct record r[RECORD_TAGS];
    struct err err;
    records(r);
    for (unsigned value = 2; value < 256; value++) {
        bytes[r[6].at + 8] = (uint8_t)value;
        assert_int_equal(load_2(bytes, nbytes, &err), -EBADMSG);
        assert_string_equal(err.text, "demo.yes is neither true nor false");
    }
}

static void test_post_load_has_the_last_word(void **state)
{
    struct demo d;
    struct err err;
    bytes[8] = 0xee;
    assert_int_equal(load(&d, bytes, nbytes, 2, NULL, &err), -EINVAL);
    assert_string_equal(err.text, "demo.byte is 0xee");
    assert_int_equal(load(&d, bytes, nbytes - 1, 2, NULL, &err), -EBADMSG);
    assert_int_equal(d.post_loads, 0); /* not after a failure */
}

static void test_save_needs_room(void **state)
{
    for (size_t max = 0; max < nbytes; max++) {
        struct buf out;
        struct err err;
        buf_init(&out, max);
        assert_int_equal(field_save(&demo_state, &demo, &out, &err), -ENOSPC);
        assert_true(out.len <= max);
        buf_fini(&out);
    }
}

static void test_described(void **state)
{
    struct buf out;
    struct err err;
    buf_init(&out, 4096);
    assert_int_equal(field_describe(&demo_state, &out, &err), 0);
    assert_int_equal(buf_append(&out, "", 1), 0);
    assert_string_equal((char *)out.data, "demo version 2 (loads from 1)\n"
                                          "  1 byte u8\n"
                                          "  2 word u16\n"
                                          "  3 dword u32\n"
                                          "  4 qword u64\n"
                                          "  5 cold i32\n"
                                          "  6 colder i64\n"
                                          "  7 yes bool\n"
                                          "  8 two u16[2]\n"
                                          "  9 inner struct\n"
                                          "    1 left u8\n"
                                          "    2 right bool\n"
                                          "  10 some u32[up to 4]\n"
                                          "  11 both structs[2]\n"
                                          "    1 left u8\n"
                                          "    2 right bool\n"
                                          "  12 list structs[up to 3]\n"
                                          "    1 left u8\n"
                                          "    2 right bool\n"
                                          "  4660 late u8 since 2\n");
    size_t whole = out.len - 1;
    buf_fini(&out);
    for (size_t max = 0; max < whole; max++) {
        buf_init(&out, max);
        assert_int_equal(field_describe(&demo_state, &out, &err), -ENOSPC);
        buf_fini(&out);
    }
}

#define EACH(test) cmocka_unit_test_setup(test, setup)

int main(void)
{
    const struct CMUnitTest tests[] = {
        EACH(test_saved_as_written_by_hand),
        EACH(test_loaded_as_written_by_hand),
        EACH(test_every_truncation_is_refused),
        EACH(test_trailing_garbage_is_refused),
        EACH(test_every_flipped_bit),
        EACH(test_every_hostile_length),
        EACH(test_missing_field_is_named),
        EACH(test_repeated_field_is_named),
        EACH(test_order_does_not_matter),
        EACH(test_unknown_tags_are_skipped_and_counted),
        EACH(test_unknown_tag_within_a_struct),
        EACH(test_versions),
        EACH(test_wrong_kind_and_flags_are_named),
        EACH(test_count_beyond_the_array_is_clipped),
        EACH(test_neither_true_nor_false),
        EACH(test_post_load_has_the_last_word),
        EACH(test_save_needs_room),
        EACH(test_described),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
