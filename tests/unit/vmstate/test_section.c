/* Sections: golden bytes, every damage, every rule of who may load what. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/crc32c.h"
#include "base/le.h"
#include "vmstate/section.h"

struct lamp {
    uint8_t colour;
    uint32_t hours;
    uint16_t beats[3];
    bool on;
};

static const struct field lamp_fields[] = {
    FIELD(1, struct lamp, colour),
    FIELD(2, struct lamp, hours),
    FIELD_ARRAY(3, struct lamp, beats),
    FIELD(4, struct lamp, on),
    FIELD_END,
};

static int lamp_post_load(void *object, struct err *err)
{
    struct lamp *l = object;
    return l->colour > 200 ? err_set(err, EBADMSG, "lamp.colour %u is invisible", l->colour) : 0;
}

static const struct state_desc lamp_desc = {
    .name = "lamp",
    .version = 3,
    .min_version = 2,
    .reader_version = 2,
    .fields = lamp_fields,
    .post_load = lamp_post_load,
};

static const struct state_desc horn_desc = {
    .name = "horn", .version = 1, .min_version = 1, .fields = (const struct field[]){FIELD_END}};

static const struct lamp lamp = {
    .colour = 0x5a, .hours = 0xdeadbeef, .beats = {1, 2, 0xffff}, .on = true};

/* lamp 2, critical. The checksum is by an implementation of its own. */
// clang-format off
static const uint8_t golden[] = {
    'F', 'S', 'E', 'C', 4, 0, 1, 0,  2, 0, 0, 0,  3, 0, 2, 0,  44, 0, 0, 0,  0xca, 0xef, 0x1b, 0xdd,
    'l', 'a', 'm', 'p',
    1, 0, 1, 0, 1, 0, 0, 0,  0x5a,
    2, 0, 3, 0, 4, 0, 0, 0,  0xef, 0xbe, 0xad, 0xde,
    3, 0, 2, 0, 6, 0, 0, 0,  1, 0, 2, 0, 0xff, 0xff,
    4, 0, 7, 0, 1, 0, 0, 0,  1,
};
// clang-format on

static struct span span_of(const struct buf *b)
{
    return (struct span){.at = b->data, .left = b->len};
}

static void seal(struct buf *b)
{
    uint32_t crc = crc32c(crc32c(0, b->data, 20), b->data + 24, b->len - 24);
    le_put(b->data + 20, crc, 4);
}

/* A set of one critical lamp, number 2. */
static void lamp_set(struct section_set *set, struct lamp *object)
{
    struct err err = {0};
    section_set_init(set);
    assert_int_equal(section_set_add(set, &lamp_desc, 2, SECTION_CRITICAL, object, &err), 0);
}

static int load_lamp(struct span in, struct lamp *object, struct section_report *report,
                     struct err *err)
{
    struct section_set set;
    lamp_set(&set, object);
    int rc = section_set_load(&set, in, report, err);
    section_set_fini(&set);
    return rc;
}

static void test_golden(void **state)
{
    struct err err = {0};
    struct lamp copy = lamp, loaded = {0};
    struct section_set set;
    struct buf out;
    buf_init(&out, 4096);
    lamp_set(&set, &copy);
    assert_int_equal(section_set_save(&set, &out, &err), 0);
    assert_int_equal(out.len, sizeof(golden));
    assert_memory_equal(out.data, golden, sizeof(golden));
    assert_int_equal(load_lamp(span_of(&out), &loaded, NULL, &err), 0);
    assert_int_equal(loaded.colour, 0x5a);
    assert_int_equal(loaded.hours, 0xdeadbeef);
    assert_int_equal(loaded.beats[2], 0xffff);
    assert_true(loaded.on);
    section_set_fini(&set);
    buf_fini(&out);
}

/* Copies into a block of its own size, so that ASan sees each byte too many. */
static int load_copy(const uint8_t *bytes, size_t len, struct err *err)
{
    struct lamp loaded;
    uint8_t *copy = malloc(len ? len : 1);
    memcpy(copy, bytes, len);
    int rc = load_lamp((struct span){.at = copy, .left = len}, &loaded, NULL, err);
    free(copy);
    return rc;
}

static void test_truncated(void **state)
{
    for (size_t len = 0; len < sizeof(golden); len++) {
        struct err err = {0};
        assert_true(load_copy(golden, len, &err) < 0);
        assert_true(err.code > 0 && err.text[0]);
    }
}

static void test_flipped(void **state)
{
    for (size_t bit = 0; bit < sizeof(golden) * 8; bit++) {
        struct err err = {0};
        uint8_t bytes[sizeof(golden)];
        memcpy(bytes, golden, sizeof(golden));
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
        assert_true(load_copy(bytes, sizeof(bytes), &err) < 0);
        assert_true(err.text[0]);
    }
}

/* The same flips under a right checksum: nothing but an error or a load, never a crash. */
static void test_flipped_and_sealed(void **state)
{
    unsigned good = 0, bad = 0;
    for (size_t bit = 0; bit < sizeof(golden) * 8; bit++) {
        struct err err = {0};
        struct buf b;
        buf_init(&b, 4096);
        buf_append(&b, golden, sizeof(golden));
        b.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
        seal(&b);
        if (load_copy(b.data, b.len, &err) < 0)
            bad++;
        else
            good++;
        buf_fini(&b);
    }
    /* Values 7 + 32 + 48 + 1, version 15, readers 1, critical 1, and the checksum's own 32. */
    assert_int_equal(good, 137);
    assert_int_equal(bad, sizeof(golden) * 8 - 137);
}

static void test_garbage(void **state)
{
    struct err err = {0};
    uint8_t bytes[sizeof(golden) + 1] = {0};
    memcpy(bytes, golden, sizeof(golden));
    assert_true(load_copy(bytes, sizeof(bytes), &err) < 0);
    assert_string_equal(err.text, "state is truncated in a section header");
    memset(bytes, 0, sizeof(bytes));
    assert_true(load_copy(bytes, sizeof(bytes), &err) < 0);
    assert_string_equal(err.text, "state has no section where one should begin");
}

static void expect_refused(uint8_t at, uint64_t value, unsigned bytes, const char *text)
{
    struct err err = {0};
    uint8_t raw[sizeof(golden)];
    struct buf b = {.data = raw, .len = sizeof(raw)};
    memcpy(raw, golden, sizeof(golden));
    le_put(raw + at, value, bytes);
    seal(&b);
    assert_true(load_copy(raw, sizeof(raw), &err) < 0);
    assert_string_equal(err.text, text);
}

static void test_headers(void **state)
{
    expect_refused(4, 0, 2, "a section of 44 bytes is damaged: its checksum is wrong");
    expect_refused(4, 64, 2, "a section has a name of 64 bytes");
    expect_refused(4, 0xffff, 2, "a section has a name of 65535 bytes");
    expect_refused(6, 0x8001, 2, "section 'lamp' has unknown flags 0x8001");
    expect_refused(8, 3, 4, "section 'lamp' 3 is unknown here and the machine cannot do without");
    expect_refused(12, 1, 2, "section 'lamp' of version 1 says it needs version 2");
    expect_refused(14, 0, 2, "section 'lamp' of version 3 says it needs version 0");
    expect_refused(16, 45, 4, "state is truncated in a section of 45 bytes");
    expect_refused(16, 0x1000001, 4, "a section has 16777217 bytes, more than 16777216");
    expect_refused(16, 0x80000000u, 4, "a section has 2147483648 bytes, more than 16777216");
    expect_refused(16, 0xffffffffu, 4, "a section has 4294967295 bytes, more than 16777216");
    expect_refused(24, 'L', 1, "a section has an impossible name");
    expect_refused(24, 0, 1, "a section has an impossible name");
    expect_refused(24, '/', 1, "a section has an impossible name");
    expect_refused(36, 201, 1, "section 'lamp' 2: lamp.colour 201 is invisible");
}

/* Newer writers: fine as long as they say so; older ones as long as the table says so. */
static void test_versions(void **state)
{
    static const struct {
        uint16_t version, reader_version;
        int rc;
    } cases[] = {{2, 1, 0},
                 {2, 2, 0},
                 {4, 3, 0},
                 {0xffff, 1, 0},
                 {4, 4, -EPROTONOSUPPORT},
                 {1, 1, -EPROTONOSUPPORT},
                 {0xffff, 0xffff, -EPROTONOSUPPORT}};
    for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct err err = {0};
        struct lamp loaded;
        struct buf out;
        struct section s = {.name = "lamp",
                            .flags = SECTION_CRITICAL,
                            .instance = 2,
                            .version = cases[i].version,
                            .reader_version = cases[i].reader_version,
                            .payload = {.at = golden + 28, .left = sizeof(golden) - 28}};
        buf_init(&out, 4096);
        assert_int_equal(section_write(&s, &out, &err), 0);
        assert_int_equal(load_lamp(span_of(&out), &loaded, NULL, &err), cases[i].rc);
        buf_fini(&out);
    }
}

static void append_unknown(struct buf *out, const char *name, uint16_t flags)
{
    struct err err = {0};
    struct section s = {.flags = flags, .version = 1, .reader_version = 1};
    memcpy(s.name, name, strlen(name));
    assert_int_equal(section_write(&s, out, &err), 0);
}

static void test_unknown(void **state)
{
    struct err err = {0};
    struct section_report report;
    struct lamp loaded = {0};
    struct buf out;
    buf_init(&out, 4096);
    append_unknown(&out, "siren", 0);
    buf_append(&out, golden, sizeof(golden));
    append_unknown(&out, "bell", 0);
    assert_int_equal(load_lamp(span_of(&out), &loaded, &report, &err), 0);
    assert_int_equal(loaded.hours, 0xdeadbeef);
    assert_int_equal(report.sections_skipped, 2);
    assert_string_equal(report.first_skipped, "siren");
    append_unknown(&out, "gong", SECTION_CRITICAL);
    assert_int_equal(load_lamp(span_of(&out), &loaded, &report, &err), -EPROTONOSUPPORT);
    assert_string_equal(err.text,
                        "section 'gong' 0 is unknown here and the machine cannot do without");
    buf_fini(&out);
}

static void test_flood(void **state)
{
    struct err err = {0};
    struct lamp loaded;
    struct buf out;
    buf_init(&out, 4 << 20);
    for (unsigned i = 0; i <= SECTION_SET_MAX; i++)
        append_unknown(&out, "x", 0);
    assert_int_equal(load_lamp(span_of(&out), &loaded, NULL, &err), -EBADMSG);
    assert_string_equal(err.text, "more than 16384 unknown sections");
    buf_fini(&out);
}

static void test_twice_and_missing(void **state)
{
    struct err err = {0};
    struct lamp loaded;
    struct buf out;
    buf_init(&out, 4096);
    buf_append(&out, golden, sizeof(golden));
    buf_append(&out, golden, sizeof(golden));
    assert_int_equal(load_lamp(span_of(&out), &loaded, NULL, &err), -EBADMSG);
    assert_string_equal(err.text, "section 'lamp' 2 is there twice");
    assert_int_equal(load_lamp((struct span){0}, &loaded, NULL, &err), -EBADMSG);
    assert_string_equal(err.text, "section 'lamp' 2 is missing");
    buf_fini(&out);
}

/* Several of a kind, optional ones left out, any order. */
static void test_set(void **state)
{
    struct err err = {0};
    struct section_set save, load;
    struct section_report report;
    struct lamp from[40], to[40];
    struct buf out;
    memset(to, 0, sizeof(to));
    buf_init(&out, 65536);
    section_set_init(&save);
    section_set_init(&load);
    for (uint32_t i = 0; i < 40; i++) {
        from[i] = (struct lamp){.colour = (uint8_t)i, .hours = i * 1000};
        uint32_t backwards = 39 - i;
        assert_int_equal(section_set_add(&load, &lamp_desc, backwards, 0, &to[backwards], &err), 0);
        if (i != 7)
            assert_int_equal(
                section_set_add(&save, &lamp_desc, i, SECTION_CRITICAL, &from[i], &err), 0);
    }
    assert_int_equal(section_set_add(&load, &lamp_desc, 5, 0, &to[5], &err), -EEXIST);
    assert_int_equal(section_set_add(&load, &horn_desc, 5, 0, NULL, &err), 0);
    assert_int_equal(section_set_save(&save, &out, &err), 0);
    assert_int_equal(section_set_load(&load, span_of(&out), &report, &err), 0);
    for (unsigned i = 0; i < 40; i++) {
        assert_int_equal(to[i].hours, i == 7 ? 0 : i * 1000);
        assert_int_equal(load.targets[39 - i].loaded, i != 7);
    }
    assert_false(load.targets[40].loaded);
    assert_int_equal(report.sections_skipped, 0);
    section_set_fini(&save);
    section_set_fini(&load);
    buf_fini(&out);
}

/* Refused writes leave the buffer as it was. */
static void test_write_refused(void **state)
{
    static const struct section bad[] = {
        {.name = "", .version = 1, .reader_version = 1},
        {.name = "Lamp", .version = 1, .reader_version = 1},
        {.name = "a b", .version = 1, .reader_version = 1},
        {.name = "lamp", .version = 0, .reader_version = 0},
        {.name = "lamp", .version = 1, .reader_version = 2},
        {.name = "lamp", .version = 1, .reader_version = 1, .flags = 2},
    };
    struct err err = {0};
    struct buf out;
    for (size_t max = 1; max < sizeof(golden) + 1; max++) {
        buf_init(&out, max);
        buf_append(&out, "x", 1);
        assert_int_equal(section_save(&lamp_desc, 2, SECTION_CRITICAL, &lamp, &out, &err), -ENOSPC);
        assert_int_equal(out.len, 1);
        buf_fini(&out);
    }
    buf_init(&out, 4096);
    for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_int_equal(section_write(&bad[i], &out, &err), -EINVAL);
        assert_int_equal(out.len, 0);
    }
    buf_fini(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_golden),   cmocka_unit_test(test_truncated),
        cmocka_unit_test(test_flipped),  cmocka_unit_test(test_flipped_and_sealed),
        cmocka_unit_test(test_garbage),  cmocka_unit_test(test_headers),
        cmocka_unit_test(test_versions), cmocka_unit_test(test_unknown),
        cmocka_unit_test(test_flood),    cmocka_unit_test(test_twice_and_missing),
        cmocka_unit_test(test_set),      cmocka_unit_test(test_write_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
