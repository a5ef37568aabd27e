/* Shapes of state: counted arrays, arrays of structs, structs in structs. One record each. */
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
    uint32_t used, some[4];
    struct pair both[2];
    uint32_t listed;
    struct pair list[3];
};

static const struct field pair_fields[] = {
    FIELD(1, struct pair, left),
    FIELD(2, struct pair, right),
    FIELD_END,
};

static int load_one(const struct field *fields, void *object, const uint8_t *from, size_t len,
                    struct err *err)
{
    const struct state_desc desc = {.name = "one", .version = 1, .fields = fields};
    return field_load(&desc, object, 1, (struct span){from, len}, NULL, err);
}

static void test_counted_array(void **state)
{
    static const struct field fields[] = {FIELD_USED(1, struct demo, some, used), FIELD_END};
    struct demo d;
    struct err err;
    uint8_t record[8 + 20] = {1, 0, 3, 0};
    for (uint32_t n = 0; n <= 20; n++) {
        memset(&d, 0xee, sizeof(d));
        record[4] = (uint8_t)n;
        int rc = load_one(fields, &d, record, 8 + n, &err);
        assert_int_equal(rc, n % 4 == 0 && n <= 16 ? 0 : -EBADMSG);
        if (rc == 0)
            assert_int_equal(d.used, n / 4);
    }
    assert_string_equal(err.text, "one.some has 20 bytes instead of 16");
}

static void test_arrays_of_structs(void **state)
{
    static const struct field fixed[] = {FIELD_STRUCTS(1, struct demo, both, pair_fields),
                                         FIELD_END};
    static const struct field counted[] = {
        FIELD_STRUCTS_USED(1, struct demo, list, listed, pair_fields), FIELD_END};
    static const uint8_t element[] = {18, 0, 0, 0, 1, 0, 1, 0, 1, 0, 0,
                                      0,  9, 2, 0, 7, 0, 1, 0, 0, 0, 1};
    uint8_t record[8 + 5 * sizeof(element)] = {1, 0, 9, 0};
    struct err err;
    for (uint32_t n = 0; n <= 5; n++) {
        struct demo d = {.listed = 99};
        if (n)
            memcpy(record + 8 + (n - 1) * sizeof(element), element, sizeof(element));
        le_put(record + 4, n * sizeof(element), 4);
        size_t len = 8 + n * sizeof(element);
        assert_int_equal(load_one(fixed, &d, record, len, &err), n == 2 ? 0 : -EBADMSG);
        if (n < 2)
            assert_int_equal(err.text[strlen("one.both has ")], '0' + (char)n);
        assert_int_equal(load_one(counted, &d, record, len, &err), n <= 3 ? 0 : -EBADMSG);
        if (n <= 3)
            assert_int_equal(d.listed, n);
        else
            assert_string_equal(err.text, "one.list has more than 3 elements");
    }
}

struct nest {
    uint8_t leaf;
};

static const struct field nest_fields[] = {
    {.tag = 1, .since = 2, .name = "nest", .kind = FIELD_KIND_STRUCT, .sub = nest_fields},
    FIELD_END,
};

static void test_nesting_is_bounded(void **state)
{
    uint8_t record[8 * 100];
    for (unsigned depth = 1; depth <= 100; depth++) {
        struct nest nest;
        struct err err;
        for (unsigned i = 0; i < depth; i++) {
            static const uint8_t head[4] = {1, 0, FIELD_KIND_STRUCT, 0};
            memcpy(record + 8 * i, head, 4);
            le_put(record + 8 * i + 4, 8 * (depth - 1 - i), 4);
        }
        int rc = load_one(nest_fields, &nest, record, 8 * depth, &err);
        assert_int_equal(rc, depth <= 4 ? 0 : -EBADMSG);
        if (rc < 0)
            assert_string_equal(err.text, "one is nested too deep");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_counted_array),
        cmocka_unit_test(test_arrays_of_structs),
        cmocka_unit_test(test_nesting_is_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
