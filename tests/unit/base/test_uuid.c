/* Text and bytes of a UUID, and what is none. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/uuid.h"

static const char text[] = "00112233-4455-6677-8899-aabbccddeeff";

static void test_text_and_bytes(void **state)
{
    struct uuid uuid;
    char out[UUID_TEXT_SIZE];
    assert_true(uuid_parse(text, &uuid));
    for (unsigned i = 0; i < 16; i++)
        assert_int_equal(uuid.bytes[i], i * 0x11);
    uuid_format(&uuid, out);
    assert_string_equal(out, text);
    assert_true(uuid_parse("00112233-4455-6677-8899-AABBCCDDEEFF", &uuid));
    uuid_format(&uuid, out);
    assert_string_equal(out, text);
}

static void test_made_ones_are_random_ones(void **state)
{
    struct uuid a, b;
    struct err err;
    assert_int_equal(uuid_make(&a, &err), 0);
    assert_int_equal(uuid_make(&b, &err), 0);
    assert_memory_not_equal(&a, &b, sizeof(a));
    assert_int_equal(a.bytes[6] >> 4, 4); /* version */
    assert_int_equal(a.bytes[8] >> 6, 2); /* variant */
}

static void test_truncated_or_longer(void **state)
{
    struct uuid uuid;
    for (size_t len = 0; len < sizeof(text) - 1; len++) {
        char *cut = strndup(text, len); /* on the heap: reading further shows */
        assert_false(uuid_parse(cut, &uuid));
        free(cut);
    }
    assert_false(uuid_parse("00112233-4455-6677-8899-aabbccddeeff0", &uuid));
}

/* Every byte at every place: good only where the shape allows it. */
static void test_every_byte_at_every_place(void **state)
{
    for (size_t at = 0; at < sizeof(text) - 1; at++) {
        for (int c = 1; c < 256; c++) {
            char other[sizeof(text)];
            struct uuid uuid;
            memcpy(other, text, sizeof(text));
            other[at] = (char)c;
            bool hex = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
            assert_int_equal(uuid_parse(other, &uuid), text[at] == '-' ? c == '-' : hex);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_text_and_bytes),
        cmocka_unit_test(test_made_ones_are_random_ones),
        cmocka_unit_test(test_truncated_or_longer),
        cmocka_unit_test(test_every_byte_at_every_place),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
