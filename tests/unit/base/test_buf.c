/* Buffers stop at their bound, spans at their end. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/buf.h"

static void test_grows_to_the_bound_and_no_further(void **state)
{
    struct buf b;
    buf_init(&b, 1000);
    for (int i = 0; i < 1000; i++)
        assert_int_equal(buf_append_le(&b, (uint64_t)i, 1), 0);
    assert_int_equal(buf_append(&b, "x", 1), -1);
    assert_int_equal(b.len, 1000);
    assert_true(b.cap <= 1000);
    for (int i = 0; i < 1000; i++)
        assert_int_equal(b.data[i], i & 0xff);
    assert_int_equal(buf_append(&b, NULL, 0), 0);
    buf_fini(&b);
    assert_null(b.data);
}

static void test_refused_append_changes_nothing(void **state)
{
    struct buf b;
    buf_init(&b, 4);
    assert_int_equal(buf_append(&b, "abc", 3), 0);
    assert_int_equal(buf_append(&b, "de", 2), -1);
    assert_int_equal(buf_append_le(&b, 0, 2), -1);
    assert_null(buf_reserve(&b, SIZE_MAX));
    assert_int_equal(b.len, 3);
    assert_memory_equal(b.data, "abc", 3);
    buf_fini(&b);
}

static void test_reserve_gives_room_behind_len(void **state)
{
    struct buf b;
    buf_init(&b, 100);
    assert_non_null(buf_reserve(&b, 0)); /* nothing is not a failure */
    uint8_t *to = buf_reserve(&b, 100);
    assert_non_null(to);
    memset(to, 7, 100);
    b.len = 60;
    assert_ptr_equal(buf_reserve(&b, 40), b.data + 60);
    assert_null(buf_reserve(&b, 41));
    buf_fini(&b);
}

/* The sanitizer's allocator is to refuse as the real one does. */
const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
    return "allocator_may_return_null=1";
}

/* A bound without meaning must end in a refusal by the allocator, not in a loop. */
static void test_huge_request_is_refused(void **state)
{
    struct buf b;
    buf_init(&b, SIZE_MAX / 2);
    assert_null(buf_reserve(&b, SIZE_MAX / 2));
    buf_init(&b, PTRDIFF_MAX);
    assert_int_equal(buf_append(&b, "x", 1), 0);
    assert_null(buf_reserve(&b, PTRDIFF_MAX - 1));
    assert_memory_equal(b.data, "x", 1);
    buf_fini(&b);
}

static void test_numbers_are_little_endian(void **state)
{
    static const uint8_t expected[] = {0x01, 0x03, 0x02, 0x08, 0x07, 0x06,
                                       0x05, 0x04, 0x03, 0x02, 0x01};
    struct buf b;
    buf_init(&b, 64);
    assert_int_equal(buf_append_le(&b, 0x01, 1), 0);
    assert_int_equal(buf_append_le(&b, 0xffff0203, 2), 0);
    assert_int_equal(buf_append_le(&b, 0x0102030405060708, 8), 0);
    assert_int_equal(b.len, sizeof(expected));
    assert_memory_equal(b.data, expected, sizeof(expected));
    buf_fini(&b);
}

static void test_consume(void **state)
{
    struct buf b;
    buf_init(&b, 64);
    assert_int_equal(buf_append(&b, "abcdef", 6), 0);
    buf_consume(&b, 2);
    assert_int_equal(b.len, 4);
    assert_memory_equal(b.data, "cdef", 4);
    buf_consume(&b, 0);
    assert_int_equal(b.len, 4);
    buf_consume(&b, 99);
    assert_int_equal(b.len, 0);
    buf_fini(&b);
}

static void test_span_takes_all_or_nothing(void **state)
{
    static const uint8_t bytes[] = {1, 2, 3, 4, 5};
    struct span s = {.at = bytes, .left = sizeof(bytes)};
    uint64_t value = 99;
    assert_true(span_le(&s, 2, &value));
    assert_int_equal(value, 0x0201);
    assert_false(span_le(&s, 4, &value));
    assert_null(span_take(&s, 4));
    assert_null(span_take(&s, SIZE_MAX));
    assert_int_equal(s.left, 3);
    assert_ptr_equal(span_take(&s, 3), bytes + 2);
    assert_ptr_equal(span_take(&s, 0), bytes + 5);
    assert_null(span_take(&s, 1));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_grows_to_the_bound_and_no_further),
        cmocka_unit_test(test_refused_append_changes_nothing),
        cmocka_unit_test(test_reserve_gives_room_behind_len),
        cmocka_unit_test(test_huge_request_is_refused),
        cmocka_unit_test(test_numbers_are_little_endian),
        cmocka_unit_test(test_consume),
        cmocka_unit_test(test_span_takes_all_or_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
