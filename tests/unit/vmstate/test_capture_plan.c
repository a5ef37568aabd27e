/* When to pause, as tables. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "vmstate/capture_plan.h"

#define MS 1000000ull

static void test_prediction(void **state)
{
    // clang-format off
    static const struct {
        struct capture_costs costs; /* fixed, collect, copy, sink, buffer */
        uint64_t left, ns;
    } rows[] = {
        {{MS, 200, {0, 0}, {0, 0}, 100},           0,   MS + 200},
        {{MS, 0, {0, 0}, {0, 0}, 100},             50,  MS + 50 * CAPTURE_PLAN_COPY_NS},
        {{MS, 0, {700, 10}, {0, 0}, 100},          50,  MS + 50 * 70},
        {{0, 0, {701, 10}, {0, 0}, 100},           100, 100 * 71},
        {{0, 0, {700, 10}, {9000, 3}, 100},        101, 100 * 70 + 3000},
        {{0, 0, {700, 10}, {0, 0}, 100},           102, 100 * 70 + 2 * CAPTURE_PLAN_SINK_NS},
        {{0, 0, {1, 1}, {5, 1}, 0},                7,   35}, /* nothing is copied: hold */
        {{0, 0, {UINT64_MAX, 1}, {0, 0}, 100},     2,   UINT64_MAX},
        {{0, 0, {0, 0}, {UINT64_MAX / 2, 1}, 0},   3,   UINT64_MAX},
        {{UINT64_MAX, 1, {0, 0}, {0, 0}, 0},       0,   UINT64_MAX},
        {{1, 0, {0, 0}, {0, 0}, 0},                UINT64_MAX, UINT64_MAX},
    };
    // clang-format on
    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++)
        assert_true(capture_plan_predict(&rows[i].costs, rows[i].left) == rows[i].ns);
}

#define GO CAPTURE_NOT_PAUSED

/* What is left after each round, at 1 us a page, and what is decided after the last of them. */
static void test_decisions(void **state)
{
    // clang-format off
    static const struct {
        unsigned budget_us, max_rounds;
        uint64_t left[8];
        unsigned rounds;
        enum capture_reason reason; /* after the last; before it always another round */
    } rows[] = {
        {1000, 30, {0},                                    1, CAPTURE_FITS},
        {1000, 30, {CAPTURE_PLAN_FEW},                     1, CAPTURE_FITS},
        {1000, 30, {900},                                  1, GO},  /* fits, and may get less */
        {1000, 30, {900, 30},                              2, GO},
        {1000, 30, {900, 30, 20},                          3, CAPTURE_FITS}, /* no longer halves */
        {1000, 30, {900, 451},                             2, CAPTURE_FITS},
        {1000, 30, {900, 450},                             2, GO},
        {1000, 30, {4000, 40, 3},                          3, CAPTURE_FITS},
        {1000, 30, {5000, 5000, 5000},                     3, GO},
        {1000, 30, {5000, 5000, 5000, 5000},               4, CAPTURE_STALLED},
        {1000, 30, {5000, 4900, 4800, 4700},               4, CAPTURE_STALLED},
        {1000, 30, {5000, 4300, 3700, 3200, 2700, 2300},   6, GO},  /* slowly, but less */
        {1000, 30, {5000, 6000, 5000, 4000, 4000, 4000, 4000}, 7, CAPTURE_STALLED},
        {1000, 2,  {9000, 4000},                           2, CAPTURE_ROUNDS},
        {1000, 2,  {900, 200},                             2, CAPTURE_FITS},
        {0,    30, {0},                                    1, CAPTURE_FITS},
        {0,    30, {1, 1, 1},                              3, GO},
        {0,    30, {1, 1, 1, 1},                           4, CAPTURE_STALLED},
    };
    // clang-format on
    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        struct capture_plan plan;
        capture_plan_init(&plan, rows[i].budget_us * 1000ull, rows[i].max_rounds);
        for (unsigned r = 1; r <= rows[i].rounds; r++) {
            uint64_t left = rows[i].left[r - 1];
            enum capture_reason got = capture_plan_judge(&plan, r, left, left * 1000);
            enum capture_reason want = r == rows[i].rounds ? rows[i].reason : GO;
            if (got != want)
                fail_msg("row %zu, round %u: %d instead of %d", i, r, got, want);
        }
    }
}

/* Whatever is left, it ends. */
static void test_it_always_ends(void **state)
{
    uint64_t random = 1;
    for (unsigned run = 0; run < 1000; run++) {
        struct capture_plan plan;
        capture_plan_init(&plan, random % (3 * MS), 1 + run % 40);
        unsigned rounds = 0;
        enum capture_reason reason = GO;
        while (reason == GO) {
            random = random * 6364136223846793005u + 1442695040888963407u;
            uint64_t left = random >> (random % 64);
            reason = capture_plan_judge(&plan, ++rounds, left, left < MS ? left * 1000 : left);
            assert_in_range(rounds, 1, 1 + run % 40);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_prediction),
        cmocka_unit_test(test_decisions),
        cmocka_unit_test(test_it_always_ends),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
