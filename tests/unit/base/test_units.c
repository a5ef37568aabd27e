/* Sizes, times and numbers as people write them, and as they are shown. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/units.h"

static void test_sizes(void **state)
{
    static const struct {
        const char *text;
        uint64_t bytes;
    } good[] = {
        {"0", 0},
        {"1", 1},
        {"512M", 512ull << 20},
        {"4G", 4ull << 30},
        {"16T", 1ull << 44},
        {"007K", 7 << 10},
        {"18446744073709551615", UINT64_MAX},
        {"16777215T", 16777215ull << 40},
    };
    static const char *const bad[] = {
        "",
        " ",
        "M",
        "-1",
        "+1",
        "1.5G",
        "1m",
        "1k",
        "1MB",
        "1 M",
        " 1",
        "0x10",
        "1M ",
        "1\n",
        "18446744073709551616",
        "16777216T",
        "99999999999999999999999",
        "1P",
    };
    uint64_t bytes;
    struct err err;
    for (unsigned i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        assert_int_equal(units_parse_size(good[i].text, &bytes, &err), 0);
        assert_int_equal(bytes, good[i].bytes);
    }
    for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_int_equal(units_parse_size(bad[i], &bytes, &err), -EINVAL);
    assert_string_equal(err.text, "'1P' is not a size (write 512M or 4G)");
}

static void test_times(void **state)
{
    static const struct {
        const char *text;
        uint64_t ms;
    } good[] = {
        {"50ms", 50}, {"30s", 30000}, {"5m", 300000}, {"2h", 7200000}, {"1d", 86400000}, {"0s", 0},
    };
    static const char *const bad[] = {
        "", "5", "s", "5S", "-5s", "5 s", "5us", "1e3s", "213503982335d", "5ms "};
    uint64_t ms;
    struct err err;
    for (unsigned i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        assert_int_equal(units_parse_time(good[i].text, &ms, &err), 0);
        assert_int_equal(ms, good[i].ms);
    }
    for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_int_equal(units_parse_time(bad[i], &ms, &err), -EINVAL);
    assert_string_equal(err.text, "'5ms ' is not a time (write 50ms, 30s or 5m)");
}

static void test_numbers(void **state)
{
    uint64_t value;
    struct err err;
    assert_int_equal(units_parse_number("64", 1, 64, "--cpus", &value, &err), 0);
    assert_int_equal(value, 64);
    assert_int_equal(units_parse_number("1", 1, 64, "--cpus", &value, &err), 0);
    static const char *const bad[] = {"",   "0", "65", "-1", "1x", "x", "18446744073709551617",
                                      "1.0"};
    for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_int_equal(units_parse_number(bad[i], 1, 64, "--cpus", &value, &err), -EINVAL);
    assert_string_equal(err.text, "--cpus is '1.0', which is not a number from 1 to 64");
}

static void test_sizes_are_shown(void **state)
{
    static const struct {
        uint64_t bytes;
        const char *text;
    } rows[] = {
        {0, "0"},
        {300, "300"},
        {1023, "1023"},
        {1024, "1K"},
        {17 << 10, "17K"},
        {1536, "1.5K"},
        {(1 << 20) - 1, "1023.9K"},
        {512ull << 20, "512M"},
        {3ull << 29, "1.5G"},
        {1ull << 40, "1T"},
        {UINT64_MAX, "16777215.9T"},
    };
    char text[32];
    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        assert_string_equal(units_format_size(rows[i].bytes, text, sizeof(text)), rows[i].text);
}

static void test_times_are_shown(void **state)
{
    static const struct {
        uint64_t ms;
        const char *text;
    } rows[] = {
        {0, "0ms"},           {350, "350ms"},      {999, "999ms"},       {1000, "1.0s"},
        {4200, "4.2s"},       {59999, "59.9s"},    {60000, "1m 0s"},     {200000, "3m 20s"},
        {3599999, "59m 59s"}, {18120000, "5h 2m"}, {273600000, "3d 4h"},
    };
    char text[32];
    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        assert_string_equal(units_format_time(rows[i].ms, text, sizeof(text)), rows[i].text);
    units_format_time(UINT64_MAX, text, 6);
    assert_int_equal(strlen(text), 5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sizes),           cmocka_unit_test(test_times),
        cmocka_unit_test(test_numbers),         cmocka_unit_test(test_sizes_are_shown),
        cmocka_unit_test(test_times_are_shown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
