/* What is made of a LAPIC's timer registers when they are saved, and when they are put back late.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "machine/vcpu_timer.h"

#define VECTOR 0x30u
#define ONESHOT VECTOR
#define PERIODIC (1u << 17 | VECTOR)
#define DEADLINE (2u << 17 | VECTOR)
#define MASKED (1u << 16)

#define IRR_OF_VECTOR 0x210
#define LVT 0x320
#define INITIAL 0x380
#define CURRENT 0x390
#define DIVIDE 0x3e0
#define BY_1 0xb

static void put(struct kvm_lapic_state *l, unsigned at, uint32_t value)
{
    memcpy(l->regs + at, &value, 4);
}

static uint32_t get(const struct kvm_lapic_state *l, unsigned at)
{
    uint32_t value;
    memcpy(&value, l->regs + at, 4);
    return value;
}

static struct kvm_lapic_state lapic(uint32_t lvt, uint32_t initial, uint32_t current)
{
    struct kvm_lapic_state l = {{0}};
    put(&l, LVT, lvt);
    put(&l, INITIAL, initial);
    put(&l, CURRENT, current);
    put(&l, DIVIDE, BY_1);
    return l;
}

/* The initial count that is saved: 0 when the timer is not to fire at the load. */
static void a_oneshot_timer_fires_once(void **state)
{
    static const struct {
        uint32_t lvt, current;
        bool was_due, requested, injected;
        uint32_t initial;
    } rows[] = {
        {ONESHOT, 500, false, false, false, 1000}, /* counts */
        {ONESHOT, 0, true, true, false, 0},        /* ran out, and the interrupt is there */
        {ONESHOT, 0, true, false, true, 0},        /* the vCPU has taken it just now */
        {ONESHOT, 0, true, false, false, 0},       /* long since handled */
        {ONESHOT, 0, false, true, false, 0},       /* ran out while reading, and was requested */
        {ONESHOT, 0, false, false, true, 0},
        {ONESHOT, 0, false, false, false, 1000}, /* the same, but not yet: the load fires it */
        {ONESHOT | MASKED, 0, true, false, false, 1000},
        {PERIODIC, 0, true, true, false, 1000}, /* goes on */
        {PERIODIC, 700, false, false, false, 1000},
    };
    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct vcpu_timer t = {.was_due = rows[i].was_due};
        struct kvm_lapic_state l = lapic(rows[i].lvt, 1000, rows[i].current);
        struct kvm_vcpu_events events = {.interrupt = {rows[i].injected, VECTOR}};
        uint64_t deadline = 0;
        put(&l, IRR_OF_VECTOR, rows[i].requested ? 1u << 16 : 0);
        vcpu_timer_settle(&t, &events, &l, &deadline);
        assert_int_equal(get(&l, INITIAL), rows[i].initial);
        assert_int_equal(get(&l, CURRENT), rows[i].current);
        assert_int_equal(deadline, 0);
    }
}

/* Another interrupt that is being delivered is not the timer's. */
static void other_vectors_do_not_count(void **state)
{
    struct vcpu_timer t = {.was_due = false};
    struct kvm_lapic_state l = lapic(ONESHOT, 1000, 0);
    struct kvm_vcpu_events events = {.interrupt = {1, VECTOR + 1}};
    uint64_t deadline = 0;
    put(&l, IRR_OF_VECTOR, 1u << 17);
    vcpu_timer_settle(&t, &events, &l, &deadline);
    assert_int_equal(get(&l, INITIAL), 1000);
}

static void a_deadline_is_not_lost(void **state)
{
    static const struct {
        uint64_t before, after;
        bool requested;
        uint64_t saved;
    } rows[] = {
        {0, 0, false, 0},    /* not armed */
        {77, 77, false, 77}, /* armed, or due and not yet requested */
        {77, 0, true, 0},    /* requested while reading, and seen */
        {77, 0, false, 77},  /* requested behind the reading of the LAPIC: the load fires it */
        {0, 0, true, 0},     /* requested long before */
        {77, 99, false, 99}, /* (no vCPU writes one while it is parked) */
    };
    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct vcpu_timer t = {.deadline = rows[i].before};
        struct kvm_lapic_state l = lapic(DEADLINE, 0, 0);
        struct kvm_vcpu_events events = {0};
        uint64_t deadline = rows[i].after;
        put(&l, IRR_OF_VECTOR, rows[i].requested ? 1u << 16 : 0);
        vcpu_timer_settle(&t, &events, &l, &deadline);
        assert_int_equal(deadline, rows[i].saved);
    }
}

static void a_count_follows_the_clock(void **state)
{
    static const struct {
        uint32_t lvt, divide, current;
        uint64_t passed_ns;
        uint32_t cycle_ns, left;
    } rows[] = {
        {ONESHOT, BY_1, 1000, 0, 1, 1000},       {ONESHOT, BY_1, 1000, 400, 1, 600},
        {ONESHOT, BY_1, 1000, 999, 1, 1},        {ONESHOT, BY_1, 1000, 1000, 1, 1}, /* at once */
        {ONESHOT, BY_1, 1000, UINT64_MAX, 1, 1}, {ONESHOT, BY_1, 0, 400, 1, 0}, /* ran out before */
        {PERIODIC, BY_1, 1000, 400, 1, 600},     {ONESHOT, 0x0, 1000, 400, 1, 800}, /* by 2 */
        {ONESHOT, 0x3, 1000, 1600, 1, 900},                                         /* by 16 */
        {ONESHOT, 0xa, 1000, 12800, 1, 900},                                        /* by 128 */
        {ONESHOT, BY_1, 1000, 400, 4, 900},      {ONESHOT | MASKED, BY_1, 1000, 400, 1, 1000},
        {DEADLINE, BY_1, 1000, 400, 1, 1000},
    };
    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct kvm_lapic_state l = lapic(rows[i].lvt, 1000, rows[i].current);
        put(&l, DIVIDE, rows[i].divide);
        vcpu_timer_advance(&l, rows[i].passed_ns, rows[i].cycle_ns);
        assert_int_equal(get(&l, CURRENT), rows[i].left);
        assert_int_equal(get(&l, INITIAL), 1000);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_oneshot_timer_fires_once),
        cmocka_unit_test(other_vectors_do_not_count),
        cmocka_unit_test(a_deadline_is_not_lost),
        cmocka_unit_test(a_count_follows_the_clock),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
