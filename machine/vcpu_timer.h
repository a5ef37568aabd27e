/*
 * The local timer of a vCPU that is being saved: each of its interrupts exactly once.
 *
 * The timers of a parked vCPU go on in the kernel. One that has run out waits there, invisible,
 * until the vCPU runs again; only then it becomes an interrupt that KVM_GET_LAPIC shows. What a
 * load makes of the registers is as odd: a one-shot count that stands at 0 fires again at once, a
 * TSC deadline that is 0 never does. So a saver that only copies registers loses ticks or doubles
 * them.
 *
 * The way out: vcpu_timer_begin looks at the registers, then has the kernel turn what waits into
 * interrupts (vcpu_flush). All that is read after that is whole, but for a timer that runs out in
 * the few microseconds of reading; vcpu_timer_settle finds that one by comparing.
 */
#pragma once

#include <linux/kvm.h>

#include "machine/vcpu.h"

struct vcpu_timer {
    bool was_due; /* it had run out before the flush, so its interrupt shows by now */
    uint64_t deadline;
};

/* Of a timer that has one; else 0. [vcpu] */
uint64_t vcpu_timer_deadline(struct vcpu *v, const struct kvm_lapic_state *lapic);

/* Before anything else is read. [vcpu] */
int vcpu_timer_begin(struct vcpu *v, struct vcpu_timer *t, struct err *err);

/* When all is read: makes registers and deadline such that a load fires what is owed, once. [any]
 */
void vcpu_timer_settle(const struct vcpu_timer *t, const struct kvm_vcpu_events *events,
                       struct kvm_lapic_state *lapic, uint64_t *deadline);

/*
 * A count goes on from where it stood, by the guest's clock: `passed_ns` of it have gone by since
 * the registers were saved. One that ran out in that time fires as soon as the LAPIC is loaded. A
 * deadline needs nothing, the TSC has gone on with the clock. [any]
 */
void vcpu_timer_advance(struct kvm_lapic_state *lapic, uint64_t passed_ns, uint32_t cycle_ns);
