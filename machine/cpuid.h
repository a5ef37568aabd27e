/*
 * A set of CPUID leaves: what KVM can give, or what a guest is given. Entries are sorted by leaf
 * and sub-leaf, so two equal machines have equal bytes.
 *
 * Only cpuid_supported() talks to KVM; all else works on any set, also one made by hand.
 */
#pragma once

#include <linux/kvm.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

#define CPUID_ENTRIES_MAX 256

struct cpuid_set {
    uint32_t count;
    struct kvm_cpuid_entry2 entries[CPUID_ENTRIES_MAX];
};

enum cpuid_reg { CPUID_EAX, CPUID_EBX, CPUID_ECX, CPUID_EDX };

/*
 * All that KVM can give a guest here: KVM_GET_SUPPORTED_CPUID, and what KVM does but does not put
 * into that list (the TSC deadline timer, the hypervisor bit, ARAT, the host's brand string). [any]
 */
int cpuid_supported(int kvm_fd, struct cpuid_set *out, struct err *err);

/* The entry of a leaf, or NULL. The index counts only for leaves that have sub-leaves. [any] */
struct kvm_cpuid_entry2 *cpuid_find(struct cpuid_set *set, uint32_t function, uint32_t index);
const struct kvm_cpuid_entry2 *cpuid_look(const struct cpuid_set *set, uint32_t function,
                                          uint32_t index);

/* One register of a leaf; 0 when the leaf is not there, as a CPU answers. [any] */
uint32_t cpuid_get(const struct cpuid_set *set, uint32_t function, uint32_t index,
                   enum cpuid_reg reg);

/* Clears and then sets bits of a leaf that is there; does nothing when it is not. [any] */
void cpuid_patch(struct cpuid_set *set, uint32_t function, uint32_t index, enum cpuid_reg reg,
                 uint32_t clear, uint32_t bits);

/* Adds or replaces a leaf, in order; -ENOSPC when the set is full. [any] */
int cpuid_put(struct cpuid_set *set, uint32_t function, uint32_t index, const uint32_t regs[4]);

/* Removes a leaf with all its sub-leaves. [any] */
void cpuid_remove(struct cpuid_set *set, uint32_t function);

/* The vendor of leaf 0 as text; empty without that leaf. [any] */
#define CPUID_VENDOR_SIZE 13
void cpuid_vendor(const struct cpuid_set *set, char vendor[CPUID_VENDOR_SIZE]);

/* AMD, or Hygon, which answers as AMD does. [any] */
bool cpuid_is_amd(const struct cpuid_set *set);
