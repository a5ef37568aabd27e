/*
 * The guest's time: kvmclock, and the TSCs of its vCPUs.
 *
 * It is read once, at the pause. When it is put back, the policy of the operation decides whether
 * the time that has passed since then passes for the guest, too (a migration, a restore with
 * `advance`) or not (`freeze`). TSCs follow the clock, by the offsets that KVM keeps for each vCPU,
 * so that all of them are exactly as far apart as they were; where KVM does not let them be set the
 * guest's TSC is the host's, and there is nothing to do.
 */
#pragma once

#include "machine/vm_state.h"

enum clock_policy { CLOCK_ADVANCE, CLOCK_FREEZE };

/* How the TSCs of a machine that was loaded came about. */
enum clock_tsc {
    CLOCK_TSC_BY_OFFSET, /* KVM keeps an offset for each vCPU: they are exactly equal */
    CLOCK_TSC_BY_VALUE, /* each was written; KVM finds out by itself that they are meant to be equal
                         */
    CLOCK_TSC_OF_HOST,  /* the host's own, whatever is written */
};
const char *clock_tsc_text(enum clock_tsc tsc);

int clock_save(struct vm *vm, struct vm_clock *clock, struct err *err);
int clock_load(struct vm *vm, const struct vm_clock *clock, enum clock_policy policy,
               struct err *err);

/* How much of the guest's time has gone by since the pause, when it is put back now. A wall clock
 * that was set back does not count. */
uint64_t clock_passed_ns(const struct vm_clock *clock, enum clock_policy policy, uint64_t wall_ns);

/* Whether a TSC of the one rate may pass for one of the other. */
bool clock_same_rate(uint32_t guest_khz, uint32_t host_khz);

/*
 * The offset that makes a TSC of `saved_offset` go on: at the pause the host's TSC was `saved_tsc`
 * and the guest's clock `saved_ns`; now they are `now_tsc` and `now_ns`.
 */
uint64_t clock_tsc_offset(uint64_t saved_offset, uint64_t saved_tsc, uint64_t saved_ns,
                          uint64_t now_tsc, uint64_t now_ns, uint32_t tsc_khz);
