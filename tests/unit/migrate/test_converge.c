/* When to switch: each row is a guest, round by round. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "migrate/converge.h"

#define MIB (1ull << 20)
#define MS 1000000ull
#define GBIT 125000000ull /* bytes a second */

struct row {
    const char *guest;
    enum converge_on_stall on_stall;
    uint64_t rate, left[12]; /* after each round; 0 ends */
    enum converge_verdict verdicts[12];
};

// clang-format off
static const struct row rows[] = {
    {"idle: switches at once", CONVERGE_CANCEL, GBIT, {4096}, {CONVERGE_SWITCH}},
    {"halves: goes on although it fits, until it gains no more", CONVERGE_CANCEL, 8 * GBIT,
     {16 * MIB, 4 * MIB, 1 * MIB, 900000},
     {CONVERGE_GO_ON, CONVERGE_GO_ON, CONVERGE_GO_ON, CONVERGE_SWITCH}},
    {"few pages are not worth a round", CONVERGE_CANCEL, GBIT, {40 * MIB, 60000},
     {CONVERGE_GO_ON, CONVERGE_SWITCH}},
    {"stalls, and is given up", CONVERGE_CANCEL, GBIT, {64 * MIB, 64 * MIB, 63 * MIB, 65 * MIB},
     {CONVERGE_GO_ON, CONVERGE_GO_ON, CONVERGE_GO_ON, CONVERGE_GIVE_UP}},
    {"stalls, and is forced", CONVERGE_FORCE, GBIT, {64 * MIB, 64 * MIB, 63 * MIB, 65 * MIB},
     {CONVERGE_GO_ON, CONVERGE_GO_ON, CONVERGE_GO_ON, CONVERGE_SWITCH_NOW}},
    {"stalls, is slowed down, and fits then", CONVERGE_THROTTLE, GBIT,
     {64 * MIB, 64 * MIB, 63 * MIB, 65 * MIB, 20 * MIB, 5 * MIB, 5 * MIB},
     {CONVERGE_GO_ON, CONVERGE_GO_ON, CONVERGE_GO_ON, CONVERGE_SLOW_DOWN, CONVERGE_GO_ON, CONVERGE_GO_ON,
      CONVERGE_SWITCH}},
    {"gets less slowly: no stall", CONVERGE_CANCEL, GBIT, {64 * MIB, 50 * MIB, 40 * MIB, 30 * MIB, 20 * MIB},
     {CONVERGE_GO_ON, CONVERGE_GO_ON, CONVERGE_GO_ON, CONVERGE_GO_ON, CONVERGE_GO_ON}},
};
// clang-format on

static void decisions(void **state)
{
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct converge c;
        converge_init(&c, 50 * MS, rows[i].on_stall);
        for (unsigned n = 0; rows[i].left[n]; n++) {
            const struct converge_round r = {.rounds = n + 1,
                                             .left_bytes = rows[i].left[n],
                                             .bytes_per_s = rows[i].rate,
                                             .fixed_ns = 3 * MS};
            enum converge_verdict got = converge_decide(&c, &r);
            if (got != rows[i].verdicts[n])
                fail_msg("%s: round %u: %d, not %d", rows[i].guest, n, (int)got,
                         (int)rows[i].verdicts[n]);
        }
    }
}

static void the_throttle_has_an_end(void **state)
{
    struct converge c;
    const struct converge_round r = {
        .rounds = 1, .left_bytes = 1000 * MIB, .bytes_per_s = GBIT, .fixed_ns = 0};
    unsigned steps = 0, last = 0;
    converge_init(&c, 50 * MS, CONVERGE_THROTTLE);
    for (unsigned i = 0; i < 1000; i++) {
        enum converge_verdict v = converge_decide(&c, &r);
        if (v == CONVERGE_GIVE_UP)
            break;
        if (v != CONVERGE_SLOW_DOWN)
            continue;
        assert_true(c.throttle > last && c.throttle <= CONVERGE_THROTTLE_MAX);
        last = c.throttle;
        steps++;
    }
    assert_int_equal(last, CONVERGE_THROTTLE_MAX);
    assert_in_range(steps, 2, 10);
}

static void predictions(void **state)
{
    struct converge_round r = {.left_bytes = GBIT, .bytes_per_s = GBIT, .fixed_ns = 5};
    assert_int_equal(converge_predict(&r), 1000 * MS + 5);
    r.left_bytes = UINT64_MAX;
    r.bytes_per_s = 1;
    assert_int_equal(converge_predict(&r), UINT64_MAX); /* absurd is long, not short */
    r.bytes_per_s = 0;                                  /* not measured yet */
    r.left_bytes = 100 * MIB;
    assert_in_range(converge_predict(&r), 900 * MS, 1100 * MS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(decisions),
        cmocka_unit_test(the_throttle_has_an_end),
        cmocka_unit_test(predictions),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
