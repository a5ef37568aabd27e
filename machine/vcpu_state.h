/*
 * All of a vCPU as a value. What is saved and in which order it is put back is the heart of the
 * matter; each step of vcpu_state_load says why it stands where it stands.
 */
#pragma once

#include <linux/kvm.h>

#include "machine/clock.h"
#include "machine/msrs.h"
#include "machine/vcpu.h"
#include "vmstate/field.h"

#define VCPU_XSAVE_WORDS 4096u /* 16 KiB: AMX needs 11 */
#define VCPU_NESTED_BYTES 16384u

struct vcpu_state {
    uint32_t mp_state;
    struct kvm_regs regs;
    struct kvm_sregs2 sregs;
    uint32_t xsave_words, xsave[VCPU_XSAVE_WORDS];
    struct kvm_xcrs xcrs;
    struct kvm_debugregs debugregs;
    struct kvm_lapic_state lapic;
    struct cpuid_set cpuid;
    struct msrs msrs;
    uint64_t tsc_deadline;
    uint32_t tsc_khz;
    bool has_tsc_offset;
    uint64_t tsc_offset;
    uint32_t nested_bytes;
    uint8_t nested[VCPU_NESTED_BYTES];
    struct kvm_vcpu_events events;
};

extern const struct state_desc vcpu_state_desc;

/* The vCPU is parked; runs in the vCPU's own thread, or before it has one. `state` is zeroed.
 * [vcpu]
 */
int vcpu_state_save(struct vcpu *v, struct vcpu_state *state, struct err *err);
/* `passed_ns` of the guest's time have gone by since the clock was saved. [vcpu] */
int vcpu_state_load(struct vcpu *v, const struct vcpu_state *state, uint64_t passed_ns,
                    struct err *err);

/*
 * The last step, when the clock runs: the TSC, where KVM keeps an offset for it (NULL: nothing is
 * known of it), and only then the deadline, which is a value of that TSC. Tells in which way the
 * TSC came about. [vcpu]
 */
int vcpu_state_load_time(struct vcpu *v, const struct vcpu_state *state, const uint64_t *tsc_offset,
                         enum clock_tsc *way, struct err *err);
