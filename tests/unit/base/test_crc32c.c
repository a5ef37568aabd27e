/* Published values, both ways of counting, and any split. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/crc32c.h"

/* RFC 3720, B.4. */
static void test_published_values(void **state)
{
    uint8_t block[32];
    assert_int_equal(crc32c(0, "123456789", 9), 0xe3069283);
    memset(block, 0, 32);
    assert_int_equal(crc32c(0, block, 32), 0x8a9136aa);
    memset(block, 0xff, 32);
    assert_int_equal(crc32c(0, block, 32), 0x62a8ab43);
    for (int i = 0; i < 32; i++)
        block[i] = (uint8_t)i;
    assert_int_equal(crc32c(0, block, 32), 0x46dd794e);
    assert_int_equal(crc32c_table(0, block, 32), 0x46dd794e);
    assert_int_equal(crc32c(0, NULL, 0), 0);
}

static void test_both_ways_agree_at_any_length_and_alignment(void **state)
{
    uint8_t data[200];
    for (unsigned i = 0; i < sizeof(data); i++)
        data[i] = (uint8_t)(i * 37 + 11);
    for (size_t from = 0; from < 9; from++)
        for (size_t len = 0; len + from <= sizeof(data); len++)
            assert_int_equal(crc32c(5, data + from, len), crc32c_table(5, data + from, len));
}

static void test_goes_on_where_it_stopped(void **state)
{
    uint8_t data[100];
    for (unsigned i = 0; i < sizeof(data); i++)
        data[i] = (uint8_t)(i * i);
    uint32_t whole = crc32c(0, data, sizeof(data));
    for (size_t cut = 0; cut <= sizeof(data); cut++)
        assert_int_equal(crc32c(crc32c(0, data, cut), data + cut, sizeof(data) - cut), whole);
}

static void test_any_flipped_bit_shows(void **state)
{
    uint8_t data[64] = {0};
    uint32_t good = crc32c(0, data, sizeof(data));
    for (unsigned bit = 0; bit < sizeof(data) * 8; bit++) {
        data[bit / 8] ^= (uint8_t)(1 << bit % 8);
        assert_int_not_equal(crc32c(0, data, sizeof(data)), good);
        data[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_published_values),
        cmocka_unit_test(test_both_ways_agree_at_any_length_and_alignment),
        cmocka_unit_test(test_goes_on_where_it_stopped),
        cmocka_unit_test(test_any_flipped_bit_shows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
