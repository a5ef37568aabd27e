/* Allowed moves happen, others are refused and change nothing. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/sm.h"

enum { OFF, ON, BROKEN };

static const struct sm_state lamp[] = {
    [OFF] = {"off", SM_TO(ON)},
    [ON] = {"on", SM_TO(OFF) | SM_TO(BROKEN)},
    [BROKEN] = {"broken", 0},
};

static void test_every_pair(void **state)
{
    static const bool allowed[3][3] = {[OFF][ON] = true, [ON][OFF] = true, [ON][BROKEN] = true};
    for (unsigned from = 0; from < 3; from++) {
        for (unsigned to = 0; to < 3; to++) {
            struct sm sm;
            sm_init(&sm, lamp, 3, from);
            assert_int_equal(sm_can(&sm, to), allowed[from][to]);
            assert_int_equal(sm_move(&sm, to), allowed[from][to] ? 0 : -EPERM);
            assert_int_equal(sm.now, allowed[from][to] ? to : from);
            assert_string_equal(sm_name(&sm), lamp[sm.now].name);
        }
    }
}

static void test_unknown_state_is_refused(void **state)
{
    struct sm sm;
    sm_init(&sm, lamp, 3, ON);
    static const unsigned none[] = {3, 31, 32, 33, 64, ~0u};
    for (unsigned i = 0; i < sizeof(none) / sizeof(none[0]); i++)
        assert_int_equal(sm_move(&sm, none[i]), -EPERM);
    assert_int_equal(sm.now, ON);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_pair),
        cmocka_unit_test(test_unknown_state_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
