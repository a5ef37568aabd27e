/* Every guest boots with 1, 2 and 4 CPUs, finds no error in itself, and switches itself off. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/kvm/rig.h"

struct boot {
    char name[32];
    const char *guest, *cmdline;
    unsigned cpus;
};

static void boots(void **state)
{
    const struct boot *b = *state;
    struct rig rig;
    char ready[64];
    rig_start(&rig,
              &(struct rig_options){.guest = b->guest, .cmdline = b->cmdline, .cpus = b->cpus});
    snprintf(ready, sizeof(ready), "%s: ready", b->guest);
    rig_expect(&rig, NULL, ready, 20000);
    const struct report *report = rig_expect_stopped(&rig, 60000);
    assert_int_equal(report->kind, REPORT_SHUTDOWN);
    rig_check_clean(&rig);
    snprintf(ready, sizeof(ready), "%s: ok", b->guest);
    rig_expect(&rig, NULL, ready, 1000);
    rig_stop(&rig);
}

/* A guest that is made to break something must say so: else the tests above show nothing. */
static void notices(void **state)
{
    const struct boot *b = *state;
    struct rig rig;
    rig_start(&rig,
              &(struct rig_options){.guest = b->guest, .cmdline = b->cmdline, .cpus = b->cpus});
    rig_expect_stopped(&rig, 60000);
    rig_expect(&rig, NULL, "FAIL", 1000);
    rig_stop(&rig);
}

static struct boot table[64];
static struct CMUnitTest tests[64];
static size_t count;

static void add(const char *guest, const char *cmdline, unsigned cpus, CMUnitTestFunction test)
{
    struct boot *b = &table[count];
    *b = (struct boot){.guest = guest, .cmdline = cmdline, .cpus = cpus};
    snprintf(b->name, sizeof(b->name), "%s%s with %u", guest, test == notices ? " notices" : "",
             cpus);
    tests[count++] = (struct CMUnitTest){.name = b->name, .test_func = test, .initial_state = b};
}

int main(void)
{
    static const char *const guests[] = {"hello", "dirty", "smp", "timer", "fpu", "msr"};
    static const unsigned cpus[] = {1, 2, 4};
    rig_need_kvm();
    for (size_t g = 0; g < sizeof(guests) / sizeof(guests[0]); g++) {
        for (size_t c = 0; c < 3; c++)
            add(guests[g], "quit=3", cpus[c], boots);
        add(guests[g], "quit=4 inject=2", 2, notices);
    }
    return _cmocka_run_group_tests("boot", tests, count, NULL, NULL);
}
