/* See cpuid.h. */
#include "machine/cpuid.h"

#include <cpuid.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "base/cleanup.h"

/* Leaves whose answer depends on ECX. */
static const uint32_t indexed[] = {4,    7,    0xb,  0xd,  0xf,  0x10, 0x12,       0x14,      0x17,
                                   0x18, 0x1d, 0x1e, 0x1f, 0x20, 0x24, 0x8000001d, 0x80000026};

static bool is_indexed(uint32_t function)
{
    for (unsigned i = 0; i < sizeof(indexed) / sizeof(indexed[0]); i++)
        if (indexed[i] == function)
            return true;
    return false;
}

const struct kvm_cpuid_entry2 *cpuid_look(const struct cpuid_set *set, uint32_t function,
                                          uint32_t index)
{
    for (uint32_t i = 0; i < set->count && i < CPUID_ENTRIES_MAX; i++) {
        const struct kvm_cpuid_entry2 *e = &set->entries[i];
        if (e->function == function &&
            (!(e->flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX) || e->index == index))
            return e;
    }
    return NULL;
}

struct kvm_cpuid_entry2 *cpuid_find(struct cpuid_set *set, uint32_t function, uint32_t index)
{
    return (struct kvm_cpuid_entry2 *)cpuid_look(set, function, index);
}

static uint32_t *reg_of(struct kvm_cpuid_entry2 *e, enum cpuid_reg reg)
{
    uint32_t *const regs[] = {&e->eax, &e->ebx, &e->ecx, &e->edx};
    return regs[reg];
}

uint32_t cpuid_get(const struct cpuid_set *set, uint32_t function, uint32_t index,
                   enum cpuid_reg reg)
{
    const struct kvm_cpuid_entry2 *e = cpuid_look(set, function, index);
    if (!e)
        return 0;
    const uint32_t regs[] = {e->eax, e->ebx, e->ecx, e->edx};
    return regs[reg];
}

void cpuid_patch(struct cpuid_set *set, uint32_t function, uint32_t index, enum cpuid_reg reg,
                 uint32_t clear, uint32_t bits)
{
    struct kvm_cpuid_entry2 *e = cpuid_find(set, function, index);
    if (e)
        *reg_of(e, reg) = (*reg_of(e, reg) & ~clear) | bits;
}

/* Where a leaf is, or would be. */
static uint32_t place_of(const struct cpuid_set *set, uint32_t function, uint32_t index)
{
    uint32_t i = 0;
    while (i < set->count &&
           (set->entries[i].function < function ||
            (set->entries[i].function == function && set->entries[i].index < index)))
        i++;
    return i;
}

int cpuid_put(struct cpuid_set *set, uint32_t function, uint32_t index, const uint32_t regs[4])
{
    bool sub = is_indexed(function);
    uint32_t at = place_of(set, function, sub ? index : 0);
    struct kvm_cpuid_entry2 *e = &set->entries[at];
    bool there = at < set->count && e->function == function && (!sub || e->index == index);
    if (!there) {
        if (set->count >= CPUID_ENTRIES_MAX)
            return -ENOSPC;
        memmove(e + 1, e, (set->count - at) * sizeof(*e));
        set->count++;
    }
    *e = (struct kvm_cpuid_entry2){
        .function = function,
        .index = sub ? index : 0,
        .flags = sub ? KVM_CPUID_FLAG_SIGNIFCANT_INDEX : 0,
        .eax = regs[0],
        .ebx = regs[1],
        .ecx = regs[2],
        .edx = regs[3],
    };
    return 0;
}

void cpuid_remove(struct cpuid_set *set, uint32_t function)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < set->count; i++)
        if (set->entries[i].function != function)
            set->entries[kept++] = set->entries[i];
    set->count = kept;
}

void cpuid_vendor(const struct cpuid_set *set, char vendor[CPUID_VENDOR_SIZE])
{
    const struct kvm_cpuid_entry2 *leaf = cpuid_look(set, 0, 0);
    memset(vendor, 0, CPUID_VENDOR_SIZE);
    if (!leaf)
        return;
    memcpy(vendor, &leaf->ebx, 4);
    memcpy(vendor + 4, &leaf->edx, 4);
    memcpy(vendor + 8, &leaf->ecx, 4);
}

bool cpuid_is_amd(const struct cpuid_set *set)
{
    const struct kvm_cpuid_entry2 *e = cpuid_look(set, 0, 0);
    if (!e)
        return false;
    const uint32_t name[] = {e->ebx, e->edx, e->ecx};
    return memcmp(name, "AuthenticAMD", 12) == 0 || memcmp(name, "HygonGenuine", 12) == 0;
}

/* Adds bits to a leaf, which is made when it is not there. */
static int add_bits(struct cpuid_set *set, uint32_t function, enum cpuid_reg reg, uint32_t bits)
{
    static const uint32_t none[4];
    if (!cpuid_look(set, function, 0) && cpuid_put(set, function, 0, none) < 0)
        return -ENOSPC;
    cpuid_patch(set, function, 0, reg, 0, bits);
    return 0;
}

/* KVM leaves the brand string empty: a guest of this host is told what the host calls itself. */
static int add_brand(struct cpuid_set *set)
{
    int rc = 0;
    for (uint32_t f = 0x80000002; rc == 0 && f <= 0x80000004; f++) {
        uint32_t regs[4];
        const struct kvm_cpuid_entry2 *e = cpuid_look(set, f, 0);
        bool given = e && (e->eax || e->ebx || e->ecx || e->edx);
        if (!given && __get_cpuid(f, &regs[0], &regs[1], &regs[2], &regs[3]))
            rc = cpuid_put(set, f, 0, regs);
    }
    return rc;
}

/* What KVM does without listing it: its local APIC is software, so it keeps time in deep sleep. */
static int add_unlisted(int kvm_fd, struct cpuid_set *set)
{
    int rc = add_bits(set, 1, CPUID_ECX, 1u << 31);
    if (rc == 0 && ioctl(kvm_fd, KVM_CHECK_EXTENSION, KVM_CAP_TSC_DEADLINE_TIMER) > 0)
        rc = add_bits(set, 1, CPUID_ECX, 1u << 24);
    if (rc == 0)
        rc = add_bits(set, 6, CPUID_EAX, 1u << 2);
    if (rc == 0)
        rc = add_brand(set);
    return rc;
}

int cpuid_supported(int kvm_fd, struct cpuid_set *out, struct err *err)
{
    size_t room = CPUID_ENTRIES_MAX * sizeof(struct kvm_cpuid_entry2);
    CLEAN(clean_free) struct kvm_cpuid2 *list = calloc(1, sizeof(*list) + room);
    *out = (struct cpuid_set){.count = 0};
    if (!list)
        return err_set(err, ENOMEM, "no memory for the list of CPU features");
    list->nent = CPUID_ENTRIES_MAX;
    if (ioctl(kvm_fd, KVM_GET_SUPPORTED_CPUID, list) < 0)
        return err_sys(err, errno, "KVM does not tell which CPU features it supports");
    int rc = 0;
    for (uint32_t i = 0; rc == 0 && i < list->nent && i < CPUID_ENTRIES_MAX; i++) {
        const struct kvm_cpuid_entry2 *e = &list->entries[i];
        const uint32_t regs[] = {e->eax, e->ebx, e->ecx, e->edx};
        rc = cpuid_put(out, e->function, e->index, regs);
    }
    if (rc == 0)
        rc = add_unlisted(kvm_fd, out);
    if (rc < 0)
        return err_set(err, ENOSPC, "KVM reports more than %d CPUID leaves", CPUID_ENTRIES_MAX);
    return 0;
}
