/*
 * Pause and resume at random moments: nothing moves while a guest is paused, no CPU is used, and no
 * guest finds an error in itself after it.
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

#include "base/now.h"
#include "tests/kvm/rig.h"

#define CYCLES 60

struct paused_guest {
    const char *guest, *cmdline;
    unsigned cpus;
};

static void wait_us(unsigned us)
{
    nanosleep(&(struct timespec){.tv_nsec = us * 1000l}, NULL);
}

static void survives_pauses(void **state)
{
    const struct paused_guest *p = *state;
    struct rig rig;
    unsigned seed = 12345;
    rig_start(&rig,
              &(struct rig_options){.guest = p->guest, .cmdline = p->cmdline, .cpus = p->cpus});
    rig_expect(&rig, NULL, "errors=0", 20000);
    for (int i = 0; i < CYCLES; i++) {
        wait_us(1 + (unsigned)rand_r(&seed) % 20000);
        machine_pause(rig.machine);
        uint64_t end = console_end(&rig.console);
        wait_us(1 + (unsigned)rand_r(&seed) % 3000);
        assert_int_equal(console_end(&rig.console), end);
        machine_resume(rig.machine);
    }
    uint64_t offset = console_end(&rig.console);
    rig_expect(&rig, &offset, "errors=0", 20000);
    rig_expect(&rig, &offset, "errors=0", 20000);
    rig_check_clean(&rig);
    rig_stop(&rig);
}

/* Guest memory stands still, too: a checksum over all of it does not move. */
static void memory_stands_still(void **state)
{
    struct rig rig;
    rig_start(&rig, &(struct rig_options){.guest = "dirty", .cmdline = "rate=max", .cpus = 2});
    rig_expect(&rig, NULL, "errors=0", 20000);
    struct mem *mem = machine_mem(rig.machine);
    uint8_t *copy = malloc(mem->size);
    for (int i = 0; i < 5; i++) {
        machine_pause(rig.machine);
        memcpy(copy, mem->base, mem->size);
        wait_us(30000);
        assert_memory_equal(copy, mem->base, mem->size);
        machine_resume(rig.machine);
        wait_us(5000);
    }
    free(copy);
    rig_check_clean(&rig);
    rig_stop(&rig);
}

/* Halted CPUs sleep in the kernel, paused ones in their mailbox. */
static void idle_and_paused_cost_nothing(void **state)
{
    struct rig rig;
    rig_start(&rig, &(struct rig_options){.guest = "hello", .cmdline = "idle", .cpus = 4});
    rig_expect(&rig, NULL, "ready", 20000);
    wait_us(50000);
    for (int i = 0; i < 2; i++) {
        uint64_t before = now_of(CLOCK_PROCESS_CPUTIME_ID);
        wait_us(500000);
        uint64_t used = now_of(CLOCK_PROCESS_CPUTIME_ID) - before;
        if (used > 25000000) /* 5 %: far above an idle guest, far below one spinning CPU */
            fail_msg("%s for 500 ms, it used %lu us of CPU", i ? "paused" : "idle",
                     (unsigned long)used / 1000);
        machine_pause(rig.machine);
    }
    machine_resume(rig.machine);
    rig_stop(&rig);
}

int main(void)
{
    static struct paused_guest guests[] = {
        {"hello", "period=10", 1},  {"dirty", "rate=max", 2}, {"smp", "", 4}, {"fpu", "", 2},
        {"timer", "early=1000", 2}, {"msr", "", 2},
    };
    const struct CMUnitTest tests[] = {
        {"hello survives pauses", survives_pauses, NULL, NULL, &guests[0]},
        {"dirty survives pauses", survives_pauses, NULL, NULL, &guests[1]},
        {"smp survives pauses", survives_pauses, NULL, NULL, &guests[2]},
        {"fpu survives pauses", survives_pauses, NULL, NULL, &guests[3]},
        {"timer survives pauses", survives_pauses, NULL, NULL, &guests[4]},
        {"msr survives pauses", survives_pauses, NULL, NULL, &guests[5]},
        cmocka_unit_test(memory_stands_still),
        cmocka_unit_test(idle_and_paused_cost_nothing),
    };
    rig_need_kvm();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
