/*
 * A machine as a value: saved, taken apart, built anew, loaded, again and again at random moments.
 * No guest finds an error in itself, and what was loaded saves to the same bytes.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "machine/state.h"
#include "tests/kvm/rig.h"

#define CYCLES 40
#define CYCLES_LONG 200

static int cycles(void)
{
    return getenv("FERRY_LONG") ? CYCLES_LONG : CYCLES;
}

struct guest {
    const char *guest, *cmdline;
    unsigned cpus;
    enum clock_policy policy;
};

static void survives_moves(void **state)
{
    const struct guest *g = *state;
    struct rig rig;
    rig_start(&rig, &(struct rig_options){.guest = g->guest,
                                          .cmdline = g->cmdline,
                                          .cpus = g->cpus,
                                          .memory_bytes = 48ull << 20});
    rig_expect(&rig, NULL, "errors=0", 20000);
    rig_shuffle(&rig, cycles(), g->policy);
    uint64_t offset = console_end(&rig.console);
    rig_expect(&rig, &offset, "errors=0", 20000);
    rig_expect(&rig, &offset, "errors=0", 20000);
    rig_check_clean(&rig);
    rig_stop(&rig);
}

/* The clocks go on between two saves; everything else must not. */
static void same_bytes(void **state)
{
    struct rig rig;
    struct buf first, second;
    rig_start(&rig, &(struct rig_options){.guest = "msr", .cpus = 2, .memory_bytes = 32ull << 20});
    rig_expect(&rig, NULL, "errors=0", 20000);
    for (int i = 0; i < 5; i++) {
        machine_pause(rig.machine);
        rig_save(&rig, &first);
        rig_save(&rig, &second);
        assert_int_equal(first.len, second.len);
        buf_fini(&second);
        rig_move(&rig, &first, CLOCK_FREEZE);
        machine_resume(rig.machine);
        machine_pause(rig.machine);
        rig_save(&rig, &second);
        assert_int_equal(first.len, second.len);
        machine_resume(rig.machine);
        nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
        buf_fini(&first);
        buf_fini(&second);
    }
    rig_check_clean(&rig);
    rig_stop(&rig);
}

/* Every flipped bit is refused, and so is every truncation. */
static void damage_is_refused(void **state)
{
    struct rig rig;
    struct buf bytes;
    struct err err;
    unsigned seed = 99;
    rig_start(&rig, &(struct rig_options){.guest = "hello", .memory_bytes = 32ull << 20});
    rig_expect(&rig, NULL, "count=1", 20000);
    machine_pause(rig.machine);
    rig_save(&rig, &bytes);
    for (int i = 0; i < 400; i++) {
        size_t at = (size_t)rand_r(&seed) % bytes.len;
        uint8_t mask = (uint8_t)(1u << rand_r(&seed) % 8);
        bytes.data[at] ^= mask;
        struct span in = {.at = bytes.data, .left = bytes.len};
        assert_true(state_load(rig.machine, in, CLOCK_FREEZE, NULL, &err) < 0);
        bytes.data[at] ^= mask;
        in.left = (size_t)rand_r(&seed) % bytes.len;
        in.at = bytes.data;
        assert_true(state_load(rig.machine, in, CLOCK_FREEZE, NULL, &err) < 0);
    }
    buf_fini(&bytes);
    rig_stop(&rig);
}

int main(void)
{
    static struct guest guests[] = {
        {"hello", "period=10", 1, CLOCK_ADVANCE},
        {"dirty", "rate=max", 1, CLOCK_FREEZE},
        {"smp", "", 2, CLOCK_ADVANCE},
        {"smp", "", 4, CLOCK_FREEZE},
        {"fpu", "", 2, CLOCK_FREEZE},
        {"msr", "", 2, CLOCK_ADVANCE},
        {"timer", "", 2, CLOCK_ADVANCE},
        {"timer", "", 4, CLOCK_ADVANCE},
        {"timer", "early=400", 1, CLOCK_FREEZE}, /* the clock stops a moment before the timers */
    };
    const struct CMUnitTest tests[] = {
        {"hello survives moves", survives_moves, NULL, NULL, &guests[0]},
        {"dirty survives moves", survives_moves, NULL, NULL, &guests[1]},
        {"smp with 2 survives moves", survives_moves, NULL, NULL, &guests[2]},
        {"smp with 4 survives moves", survives_moves, NULL, NULL, &guests[3]},
        {"fpu survives moves", survives_moves, NULL, NULL, &guests[4]},
        {"msr survives moves", survives_moves, NULL, NULL, &guests[5]},
        {"timer with 2 survives moves", survives_moves, NULL, NULL, &guests[6]},
        {"timer with 4 survives moves", survives_moves, NULL, NULL, &guests[7]},
        {"timer survives moves with its clock frozen", survives_moves, NULL, NULL, &guests[8]},
        cmocka_unit_test(same_bytes),
        cmocka_unit_test(damage_is_refused),
    };
    rig_need_kvm();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
