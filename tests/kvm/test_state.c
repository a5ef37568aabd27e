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
#include "vmstate/section.h"

#define FIELD_HEAD 8u
#define KIND_STRUCT 8u
#define MSR_BYTES 32u
#define MSR_INDEX 12u
#define MSR_TSC 0x10u
#define LAPIC_BYTES 1024u
#define LAPIC_PPR 0xa0u
#define LAPIC_ISR 0x100u
#define LAPIC_IRR 0x200u
#define LAPIC_SET 0x80u
#define LAPIC_INITIAL 0x380u
#define LAPIC_COUNT 0x390u
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

/*
 * What may be another when a machine is saved again that only stood still: what stands for time,
 * which goes on; and, of a guest that is busy, an event on its way to the CPU, for saving lets KVM
 * take the next step with it.
 */
static const char *const clocks[] = {"vm/5/1", "vm/5/3", "vm/5/5", "rtc/3", "rtc/4", "rtc/5"};
static const char events[] = "vcpu/15/", mp_state[] = "vcpu/1";
static bool is_busy;

static bool is_moving(const char *name)
{
    for (unsigned i = 0; i < sizeof(clocks) / sizeof(clocks[0]); i++)
        if (strcmp(name, clocks[i]) == 0)
            return true;
    return is_busy && (strncmp(name, events, strlen(events)) == 0 || strcmp(name, mp_state) == 0);
}

/* The counts and the priority: they follow from the time. One that ran out is saved as 0. */
static bool is_count(unsigned at)
{
    return at / 16 == LAPIC_PPR / 16 || at / 16 == LAPIC_COUNT / 16 ||
           (is_busy && at / 16 == LAPIC_INITIAL / 16);
}

/* What was requested or in service is one of both; a timer may have asked for more meanwhile. */
static bool same_lapic(const uint8_t *one, const uint8_t *other)
{
    for (unsigned at = 0; at < LAPIC_BYTES; at++) {
        unsigned pair = at ^ (LAPIC_ISR ^ LAPIC_IRR);
        if (at - LAPIC_ISR < LAPIC_SET || at - LAPIC_IRR < LAPIC_SET) {
            if ((one[at] | one[pair]) & ~(other[at] | other[pair]))
                return false;
        } else if (one[at] != other[at] && !is_count(at)) {
            return false;
        }
    }
    return true;
}

/* Each with its length, number and value (docs/state-format.md). */
static bool same_msrs(const uint8_t *one, const uint8_t *other, uint64_t len)
{
    assert_int_equal(len % MSR_BYTES, 0);
    for (uint64_t at = 0; at < len; at += MSR_BYTES)
        if (memcmp(one + at, other + at, MSR_BYTES) != 0 && one[at + MSR_INDEX] != MSR_TSC)
            return false;
    return true;
}

static bool is_same(const char *name, const uint8_t *one, const uint8_t *other, uint64_t len)
{
    if (strcmp(name, "vcpu/7/1") == 0)
        return same_lapic(one, other);
    if (strcmp(name, "vcpu/9/1") == 0)
        return same_msrs(one, other, len);
    return memcmp(one, other, len) == 0 || is_moving(name);
}

static uint64_t number(struct span *from, unsigned bytes)
{
    uint64_t value;
    assert_true(span_le(from, bytes, &value));
    return value;
}

/* Compares fields side by side (docs/state-format.md), structs by their fields. */
static void same_fields(const char *path, struct span a, struct span b)
{
    assert_int_equal(a.left, b.left);
    while (a.left) {
        char inner[100];
        unsigned tag = (unsigned)number(&a, 2), kind = (unsigned)number(&a, 2);
        uint64_t len = number(&a, 4);
        snprintf(inner, sizeof(inner), "%s/%u", path, tag);
        assert_memory_equal(span_take(&b, FIELD_HEAD), a.at - FIELD_HEAD, FIELD_HEAD);
        struct span one = {span_take(&a, len), len}, other = {span_take(&b, len), len};
        if (kind == KIND_STRUCT)
            same_fields(inner, one, other);
        else if (!is_same(inner, one.at, other.at, len))
            fail_msg("%s is saved otherwise the second time", inner);
    }
}

static void same_state(const struct buf *first, const struct buf *second)
{
    struct span a = {first->data, first->len}, b = {second->data, second->len};
    struct section one, other;
    struct err err;
    assert_int_equal(first->len, second->len);
    while (section_read(&a, &one, &err) == 1) {
        assert_int_equal(section_read(&b, &other, &err), 1);
        assert_string_equal(one.name, other.name);
        same_fields(one.name, one.payload, other.payload);
    }
    assert_int_equal(a.left + b.left, 0);
}

/* What was loaded saves to the same bytes; so does what only stands still. */
static void same_bytes(void **state)
{
    const struct guest *g = *state;
    struct rig rig;
    struct buf first, second, third;
    is_busy = g->cpus > 1;
    rig_start(&rig, &(struct rig_options){.guest = g->guest,
                                          .cmdline = g->cmdline,
                                          .cpus = g->cpus,
                                          .memory_bytes = 32ull << 20});
    rig_expect(&rig, NULL, is_busy ? "errors=0" : "ready", 20000);
    for (int i = 0; i < 5; i++) {
        machine_pause(rig.machine);
        rig_save(&rig, &first);
        rig_save(&rig, &second);
        rig_move(&rig, &first, CLOCK_FREEZE);
        rig_save(&rig, &third);
        same_state(&first, &second);
        same_state(&first, &third);
        machine_resume(rig.machine);
        nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
        buf_fini(&first);
        buf_fini(&second);
        buf_fini(&third);
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
        {"hello", "idle", 1, CLOCK_FREEZE},
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
        {"a busy guest saves to the same bytes", same_bytes, NULL, NULL, &guests[5]},
        {"an idle guest saves to the same bytes", same_bytes, NULL, NULL, &guests[9]},
        cmocka_unit_test(damage_is_refused),
    };
    rig_need_kvm();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
