/* See vcpu_timer.h. */
#include "machine/vcpu_timer.h"

#include <string.h>

#include "machine/msrs.h"

/* Registers of the LAPIC by their offset. */
#define LAPIC_IRR 0x200u
#define LAPIC_LVT_TIMER 0x320u
#define LAPIC_INITIAL 0x380u
#define LAPIC_CURRENT 0x390u
#define LAPIC_DIVIDE 0x3e0u

#define LVT_VECTOR 0xffu
#define LVT_MASKED (1u << 16)
#define LVT_MODE (3u << 17)
#define LVT_ONESHOT (0u << 17)
#define LVT_DEADLINE (2u << 17)

static uint32_t get(const struct kvm_lapic_state *lapic, unsigned at)
{
    uint32_t value;
    memcpy(&value, lapic->regs + at, sizeof(value));
    return value;
}

static void set(struct kvm_lapic_state *lapic, unsigned at, uint32_t value)
{
    memcpy(lapic->regs + at, &value, sizeof(value));
}

/* Whether it counts. */
static bool is_armed(const struct kvm_lapic_state *lapic)
{
    uint32_t lvt = get(lapic, LAPIC_LVT_TIMER);
    return !(lvt & LVT_MASKED) && (lvt & LVT_MODE) != LVT_DEADLINE && get(lapic, LAPIC_INITIAL);
}

/* KVM gives 0 in the other modes, too: no call is needed to know that. */
uint64_t vcpu_timer_deadline(struct vcpu *v, const struct kvm_lapic_state *lapic)
{
    uint64_t deadline = 0;
    if ((get(lapic, LAPIC_LVT_TIMER) & LVT_MODE) == LVT_DEADLINE)
        msrs_get(v->fd, MSR_TSC_DEADLINE, &deadline);
    return deadline;
}

int vcpu_timer_begin(struct vcpu *v, struct vcpu_timer *t, struct err *err)
{
    struct kvm_lapic_state lapic;
    int rc = kvm_ioctl(v->fd, KVM_GET_LAPIC, &lapic);
    if (rc < 0)
        return err_sys(err, -rc, "vCPU %u: KVM refuses to give its LAPIC", v->index);
    t->was_due = get(&lapic, LAPIC_CURRENT) == 0;
    t->deadline = vcpu_timer_deadline(v, &lapic);
    return is_armed(&lapic) ? vcpu_flush(v, err) : 0;
}

/* Requested, or taken by the vCPU and about to be delivered. */
static bool is_shown(const struct kvm_lapic_state *lapic, const struct kvm_vcpu_events *events)
{
    uint32_t vector = get(lapic, LAPIC_LVT_TIMER) & LVT_VECTOR;
    return (get(lapic, LAPIC_IRR + vector / 32 * 16) & 1u << vector % 32) ||
           (events->interrupt.injected && events->interrupt.nr == vector);
}

/*
 * KVM clears a deadline when it makes the interrupt. If that came after the LAPIC was read, it is
 * nowhere: then the deadline that was seen before, which lies in the past, fires at the load.
 *
 * A one-shot count that ran out stays 0 until the guest writes the initial count anew. Where its
 * interrupt is accounted for, the timer is saved as one that is not armed.
 */
void vcpu_timer_settle(const struct vcpu_timer *t, const struct kvm_vcpu_events *events,
                       struct kvm_lapic_state *lapic, uint64_t *deadline)
{
    uint32_t mode = get(lapic, LAPIC_LVT_TIMER) & (LVT_MODE | LVT_MASKED);
    bool shown = is_shown(lapic, events);
    if (mode == LVT_DEADLINE && *deadline == 0 && !shown)
        *deadline = t->deadline;
    if (mode == LVT_ONESHOT && get(lapic, LAPIC_CURRENT) == 0 && (t->was_due || shown))
        set(lapic, LAPIC_INITIAL, 0);
}

/* Bits 0, 1 and 3 are the power of two, from 2 on; 7 is 1. */
static unsigned divide_shift(uint32_t divide)
{
    return ((divide & 3) + (divide >> 1 & 4) + 1) % 8;
}

void vcpu_timer_advance(struct kvm_lapic_state *lapic, uint64_t passed_ns, uint32_t cycle_ns)
{
    uint32_t left = get(lapic, LAPIC_CURRENT);
    uint64_t passed = passed_ns / cycle_ns >> divide_shift(get(lapic, LAPIC_DIVIDE));
    if (is_armed(lapic) && left > 0)
        set(lapic, LAPIC_CURRENT, passed < left ? left - (uint32_t)passed : 1);
}
