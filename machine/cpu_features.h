/*
 * The CPU features that have a name, as /proc/cpuinfo spells it: where each one's bit is, what it
 * needs, and from which baseline on it is there.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "machine/cpuid.h"

#define CPU_FEATURES_MAX 256
#define CPU_FEATURE_NEEDS 2

enum cpu_feature_flag {
    /* KVM makes it in software: a baseline takes it where KVM offers it, and does not require it.
     */
    CPU_FEATURE_SOFT = 1,
    /* Never for a guest: it needs what the machine does not have, or holds state that is not saved
     * with a guest. */
    CPU_FEATURE_NEVER = 2,
    /* Follows from the number of CPUs; cpu_profile_set_cpu() sets it. */
    CPU_FEATURE_TOPOLOGY = 4,
    /* The machine boots with it; it cannot be removed. */
    CPU_FEATURE_ESSENTIAL = 8,
};

struct cpu_feature {
    const char *name;
    uint32_t leaf;
    uint8_t subleaf;
    uint8_t reg; /* enum cpuid_reg */
    uint8_t bit;
    uint8_t level; /* first of x86-64-v1..v4 that has it; 0: none */
    uint8_t flags;
    uint32_t xstate; /* XSAVE components that hold its registers */
    const char *needs[CPU_FEATURE_NEEDS];
};

/* Bits of leaf 0x80000001 EDX that repeat those of leaf 1 EDX on AMD, and are 0 on Intel. */
#define CPU_FEATURES_AMD_ALIASES 0x0183f3ffu

extern const struct cpu_feature cpu_features[];
extern const unsigned cpu_features_count; /* at most CPU_FEATURES_MAX */

/* By name or a well-known other spelling (sse3, lzcnt, invtsc); -1 when there is none. */
int cpu_features_find(const char *name, size_t len);

/* The name that is most like this one, or NULL when none is. */
const char *cpu_features_nearest(const char *name, size_t len);

/* The name of a bit, or NULL. */
const char *cpu_features_name(uint32_t leaf, uint32_t subleaf, enum cpuid_reg reg, unsigned bit);

/* The bit is set. */
bool cpu_features_has(const struct cpuid_set *set, const struct cpu_feature *f);

/* The bit is set, and the XSAVE components are there too. */
bool cpu_features_usable(const struct cpuid_set *set, const struct cpu_feature *f);

/* Adds to `gone` all that cannot be without something in it. */
void cpu_features_add_dependants(bool gone[CPU_FEATURES_MAX]);

/* A register full of feature bits. */
struct cpu_word {
    uint32_t leaf;
    uint8_t subleaf, reg;
    bool named_only; /* bits without a name are not given to a guest */
};

extern const struct cpu_word cpu_features_words[];
extern const unsigned cpu_features_words_count;
