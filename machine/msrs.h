/*
 * Which MSRs of a vCPU are state, and how they are read and put back.
 *
 * KVM's own list names some that it refuses to read and lacks some that matter; reading stops at
 * the first refusal, so it goes on behind it. Restoring is stricter: an MSR that the host does not
 * take is an error by name, unless its value is 0 or it stands on the short list of those that may
 * be dropped.
 */
#pragma once

#include <stdint.h>

#include "base/err.h"
#include "machine/kvm.h"

#define MSRS_MAX 512u

#define MSR_TSC 0x10u
#define MSR_TSC_DEADLINE 0x6e0u

struct msr {
    uint32_t index;
    uint64_t value;
};

struct msrs {
    uint32_t count;
    struct msr list[MSRS_MAX];
};

/* Which MSRs a machine saves, in the order of restoring, and which its KVM names but refuses. Found
 * out once: its vCPUs are all alike. */
struct msr_list {
    uint32_t count, index[MSRS_MAX];
    uint32_t refused, first_refused;
};

/* Asks a vCPU that has its CPUID. [vcpu] */
int msrs_probe(const struct kvm *kvm, int vcpu_fd, struct msr_list *out, struct err *err);

/* Reads those of the list; one that is refused all the same is left out. [vcpu] */
int msrs_save(int vcpu_fd, const struct msr_list *list, struct msrs *out, struct err *err);

/*
 * [vcpu] The list may come from outside: it is put into the right order first. Features are what a
 * guest was told of its CPU, and come before all state that they allow; the rest comes after it.
 */
int msrs_load_features(int vcpu_fd, const struct msrs *msrs, struct err *err);
int msrs_load(int vcpu_fd, const struct msrs *msrs, struct err *err);

/* One MSR. */
int msrs_get(int vcpu_fd, uint32_t index, uint64_t *value);
int msrs_set(int vcpu_fd, uint32_t index, uint64_t value);
