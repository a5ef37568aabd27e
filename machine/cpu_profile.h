/*
 * A CPU profile says in one word which CPU a guest sees:
 *
 *     host                all that KVM can give here
 *     v1 v2 v3 v4         the baselines of the x86-64 psABI (also x86-64-v1 ..), the same feature
 *                         bits on every host, so that a guest can move
 *     v2,-cx16,+aes       a base and single features, as /proc/cpuinfo spells them
 *
 * Building checks the profile against what KVM supports and gives the leaves that are common to all
 * vCPUs; cpu_profile_set_cpu() then makes a copy the one of a certain vCPU. A profile that cannot
 * be had is refused with the features by name. docs/cpu.md tells operators the rest.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "machine/cpuid.h"

/* `profile` NULL or empty means host. [any] */
int cpu_profile_build(const char *profile, const struct cpuid_set *supported, struct cpuid_set *out,
                      struct err *err);

/* Tells the guest its TSC frequency (leaf 0x40000010); 0 takes the leaf away. -ENOSPC as
 * cpuid_put. [any] */
int cpu_profile_set_tsc(struct cpuid_set *set, uint32_t tsc_khz);

/* APIC id and topology: one socket, `cpus` cores of one thread, this one being number `cpu`, which
 * is also its APIC id. [any] */
void cpu_profile_set_cpu(struct cpuid_set *set, unsigned cpu, unsigned cpus);

/*
 * What a guest that was built with `need` would lack on a host that supports `have`: features by
 * name, the CPU's vendor, address bits, XSAVE layout. Writes "a, b, c" (cut with "and N more" when
 * it does not fit) and returns how many there are; 0 means that the guest can run there. [any]
 */
size_t cpu_profile_missing(const struct cpuid_set *need, const struct cpuid_set *have, char *names,
                           size_t size);

/* Appends the names of the features that a set has, separated by spaces. [any] */
int cpu_profile_names(const struct cpuid_set *set, struct buf *names, struct err *err);
