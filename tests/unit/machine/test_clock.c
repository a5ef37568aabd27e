/* The arithmetic of the guest's time, with values worked out by hand. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "machine/clock.h"

#define S 1000000000ull
#define KHZ 2500000u /* 2.5 ticks a ns */

/* Guest TSC now = guest TSC then + ticks that passed by the guest's clock, on whatever host. */
static void the_tsc_goes_on_with_the_clock(void **state)
{
    static const struct {
        uint64_t offset, then_tsc, then_ns, now_tsc, now_ns;
        uint32_t khz;
        uint64_t want;
    } rows[] = {
        {0, 1000, 7 * S, 1000, 7 * S, KHZ, 0},          /* nothing passed */
        {0, 1000, 7 * S, 26000, 7 * S + 10000, KHZ, 0}, /* 10 us on the same host */
        {0, 1000, 7 * S, 26000, 7 * S, KHZ, -25000ull}, /* the same, frozen */
        {500, 1000, 7 * S, 26000, 7 * S, KHZ, -24500ull},
        {500, 1000, 7 * S, 0, 7 * S + 10000, KHZ, 26500}, /* a host that has just booted */
        {-900ull, 1000, 0, 5000, 4, KHZ, -4890ull},       /* a guest younger than its host */
        {0, 0, 10 * S, 0, 9 * S, KHZ, -2500000000ull},    /* a clock that was set back */
        {1, UINT64_MAX, 0, 0, 0, KHZ, 0},                 /* modulo 2^64 */
        {0, 0, 0, 0, 36500ull * 86400 * S, KHZ, 36500ull * 86400 * 2500000000ull}, /* a century */
        {0, 100, 0, 100, 1 * S, 1, 1000},
    };
    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        assert_int_equal(clock_tsc_offset(rows[i].offset, rows[i].then_tsc, rows[i].then_ns,
                                          rows[i].now_tsc, rows[i].now_ns, rows[i].khz),
                         rows[i].want);
}

/* Equal offsets stay equal and unequal ones as far apart, whatever the clocks say. */
static void tscs_stay_as_far_apart(void **state)
{
    for (uint64_t apart = 0; apart < 1000000; apart += 333) {
        uint64_t a = clock_tsc_offset(-5000ull, 123456789, 3 * S, 999, 5 * S + 7, 2893203);
        uint64_t b = clock_tsc_offset(apart - 5000, 123456789, 3 * S, 999, 5 * S + 7, 2893203);
        assert_int_equal(b - a, apart);
    }
}

static void only_an_advance_passes_time(void **state)
{
    struct vm_clock clock = {.guest_ns = 1, .has_realtime = true, .realtime_ns = 100 * S};
    assert_int_equal(clock_passed_ns(&clock, CLOCK_ADVANCE, 103 * S), 3 * S);
    assert_int_equal(clock_passed_ns(&clock, CLOCK_ADVANCE, 100 * S), 0);
    assert_int_equal(clock_passed_ns(&clock, CLOCK_ADVANCE, 99 * S), 0);
    assert_int_equal(clock_passed_ns(&clock, CLOCK_FREEZE, 103 * S), 0);
    clock.has_realtime = false;
    assert_int_equal(clock_passed_ns(&clock, CLOCK_ADVANCE, 103 * S), 0);
}

static void rates_may_differ_by_250_ppm(void **state)
{
    assert_true(clock_same_rate(1000000, 1000000));
    assert_true(clock_same_rate(1000250, 1000000));
    assert_true(clock_same_rate(999750, 1000000));
    assert_false(clock_same_rate(1000251, 1000000));
    assert_false(clock_same_rate(999749, 1000000));
    assert_false(clock_same_rate(UINT32_MAX, 1));
    assert_false(clock_same_rate(1, UINT32_MAX));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_tsc_goes_on_with_the_clock),
        cmocka_unit_test(tscs_stay_as_far_apart),
        cmocka_unit_test(only_an_advance_passes_time),
        cmocka_unit_test(rates_may_differ_by_250_ppm),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
