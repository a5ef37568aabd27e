/*
 * From a choice of features to CPUID leaves that agree with each other: feature registers, XSAVE
 * sizes, maximum leaves, addresses, caches, the hypervisor's leaves.
 */
#pragma once

#include <stdbool.h>

#include "machine/cpu_features.h"

/* Physical address bits of a baseline: every server has them, and 1 TiB of RAM fits. */
#define CPU_LEAVES_BASELINE_PHYS_BITS 46u

struct cpu_choice {
    unsigned level;              /* 1..4, or 0 for host */
    bool want[CPU_FEATURES_MAX]; /* by index in cpu_features */
};

/* The choice has the feature of this name. */
bool cpu_leaves_wants(const struct cpu_choice *choice, const char *name);

/* Fills `out` from what is supported. -ENOTSUP when KVM lacks the leaves that every CPU has. */
int cpu_leaves_build(const struct cpu_choice *choice, const struct cpuid_set *supported,
                     struct cpuid_set *out, struct err *err);
