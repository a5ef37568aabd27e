/* See cpu_leaves.h. */
#include "machine/cpu_leaves.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define XSAVE_LEGACY_BYTES 576u /* x87, SSE and the header */

enum who { ALL, HOST_ONLY };

/* The leaves that a guest gets at all; sub-leaves come along. */
static const struct {
    uint32_t function;
    enum who who;
    const char *feature; /* only with it */
} kept[] = {
    {0, ALL, NULL},
    {1, ALL, NULL},
    {2, ALL, NULL},
    {4, ALL, NULL},
    {6, ALL, NULL},
    {7, ALL, NULL},
    {0xa, HOST_ONLY, NULL},
    {0xd, ALL, NULL},
    {0x1d, ALL, "amx_tile"},
    {0x1e, ALL, "amx_tile"},
    {0x24, ALL, "avx10"},
    {0x80000000, ALL, NULL},
    {0x80000001, ALL, NULL},
    {0x80000002, HOST_ONLY, NULL},
    {0x80000003, HOST_ONLY, NULL},
    {0x80000004, HOST_ONLY, NULL},
    {0x80000005, ALL, NULL},
    {0x80000006, ALL, NULL},
    {0x80000007, ALL, NULL},
    {0x80000008, ALL, NULL},
    {0x8000000a, ALL, "svm"},
    {0x80000019, HOST_ONLY, NULL},
    {0x8000001a, HOST_ONLY, NULL},
    {0x8000001d, ALL, "topoext"},
    {0x80000021, ALL, NULL},
    {0x80000022, HOST_ONLY, "perfctr_core"},
};

bool cpu_leaves_wants(const struct cpu_choice *choice, const char *name)
{
    int i = cpu_features_find(name, strlen(name));
    return i >= 0 && choice->want[i];
}

static bool is_kept(const struct cpu_choice *choice, uint32_t function)
{
    for (unsigned i = 0; i < sizeof(kept) / sizeof(kept[0]); i++)
        if (kept[i].function == function)
            return (kept[i].who == ALL || choice->level == 0) &&
                   (!kept[i].feature || cpu_leaves_wants(choice, kept[i].feature));
    return false;
}

/* An absent leaf reads as zero, so an empty one says nothing. */
static bool is_empty(const struct kvm_cpuid_entry2 *e)
{
    return !(e->eax | e->ebx | e->ecx | e->edx);
}

static int copy_kept(const struct cpu_choice *choice, const struct cpuid_set *supported,
                     struct cpuid_set *out)
{
    int rc = 0;
    *out = (struct cpuid_set){.count = 0};
    for (uint32_t i = 0; rc == 0 && i < supported->count && i < CPUID_ENTRIES_MAX; i++) {
        const struct kvm_cpuid_entry2 *e = &supported->entries[i];
        const uint32_t regs[] = {e->eax, e->ebx, e->ecx, e->edx};
        if (!is_empty(e) && is_kept(choice, e->function))
            rc = cpuid_put(out, e->function, e->index, regs);
    }
    return rc;
}

/* Bits that a word may keep: a named bit as chosen, one without a name only for host. */
static uint32_t word_mask(const struct cpu_choice *choice, const struct cpu_word *w)
{
    uint32_t mask = w->named_only || choice->level ? 0 : ~0u;
    for (unsigned i = 0; i < cpu_features_count; i++) {
        const struct cpu_feature *f = &cpu_features[i];
        if (f->leaf != w->leaf || f->subleaf != w->subleaf || f->reg != w->reg)
            continue;
        mask &= ~(1u << f->bit);
        mask |= (uint32_t)choice->want[i] << f->bit;
    }
    return mask;
}

static void mask_features(const struct cpu_choice *choice, struct cpuid_set *out)
{
    for (unsigned i = 0; i < cpu_features_words_count; i++) {
        const struct cpu_word *w = &cpu_features_words[i];
        cpuid_patch(out, w->leaf, w->subleaf, w->reg, ~word_mask(choice, w), 0);
    }
    uint32_t aliases =
        cpuid_is_amd(out) ? cpuid_get(out, 1, 0, CPUID_EDX) & CPU_FEATURES_AMD_ALIASES : 0;
    cpuid_patch(out, 0x80000001, 0, CPUID_EDX, CPU_FEATURES_AMD_ALIASES, aliases);
}

/* What the feature masks do not reach in the leaves that a guest reads. */
static void tidy_leaves(const struct cpu_choice *choice, struct cpuid_set *out)
{
    cpuid_patch(out, 1, 0, CPUID_EBX, 0xffff00ff, 0); /* APIC id, CPU count, brand */
    cpuid_patch(out, 6, 0, CPUID_EBX, ~0u, 0);        /* no thermal sensors, no power limits */
    cpuid_patch(out, 6, 0, CPUID_ECX, ~0u, 0);
    cpuid_patch(out, 6, 0, CPUID_EDX, ~0u, 0);
    cpuid_patch(out, 0x80000007, 0, CPUID_EAX, ~0u, 0);
    cpuid_patch(out, 0x80000007, 0, CPUID_EBX, ~0u, 0);
    cpuid_patch(out, 0x80000007, 0, CPUID_ECX, ~0u, 0);
    cpuid_patch(out, 0x80000008, 0, CPUID_ECX, ~0u, 0); /* topology */
    if (choice->level) {
        cpuid_patch(out, 0x80000001, 0, CPUID_EBX, ~0u, 0);
        cpuid_patch(out, 0x80000008, 0, CPUID_EDX, ~0u, 0);
        cpuid_patch(out, 0x80000021, 0, CPUID_EBX, ~0u, 0);
    }
}

static void fix_addresses(const struct cpu_choice *choice, struct cpuid_set *out)
{
    uint32_t eax = cpuid_get(out, 0x80000008, 0, CPUID_EAX);
    uint32_t phys = eax & 0xff, linear = cpu_leaves_wants(choice, "la57") ? 57 : 48;
    if (phys == 0)
        phys = 36; /* a CPU without the leaf */
    if (choice->level && phys > CPU_LEAVES_BASELINE_PHYS_BITS)
        phys = CPU_LEAVES_BASELINE_PHYS_BITS;
    uint32_t guest = choice->level ? 0 : eax & 0xff0000;
    cpuid_patch(out, 0x80000008, 0, CPUID_EAX, ~0u, guest | linear << 8 | phys);
}

/* The highest sub-leaf of 7 that is there. */
static void fix_subleaves(struct cpuid_set *out)
{
    uint32_t top = 0;
    for (uint32_t i = 0; i < out->count; i++) {
        const struct kvm_cpuid_entry2 *e = &out->entries[i];
        if (e->function == 7 && e->index > top && !is_empty(e))
            top = e->index;
    }
    cpuid_patch(out, 7, 0, CPUID_EAX, ~0u, top);
}

/*
 * Whether a component of the XSAVE area stays. A baseline has those of its features. For host, one
 * goes only when its feature was offered and is not wanted: KVM may run code natively that uses
 * registers it announces no feature for, and saves them by these components.
 */
static bool xstate_kept(const struct cpu_choice *choice, const struct cpuid_set *supported,
                        unsigned component)
{
    if (component < 2)
        return true;
    for (unsigned i = 0; i < cpu_features_count; i++)
        if (component < 32 && cpu_features[i].xstate & 1u << component)
            return choice->want[i] ||
                   (choice->level == 0 && !cpu_features_has(supported, &cpu_features[i]));
    return choice->level == 0;
}

struct xstate {
    uint64_t user, supervisor; /* XCR0 and XSS bits */
    uint32_t standard, compacted;
};

/* The offered components that stay, and how much room they take in both layouts. */
static struct xstate xstate_choose(const struct cpu_choice *choice,
                                   const struct cpuid_set *supported)
{
    struct xstate x = {.standard = XSAVE_LEGACY_BYTES, .compacted = XSAVE_LEGACY_BYTES};
    uint64_t user = cpuid_get(supported, 0xd, 0, CPUID_EAX) |
                    (uint64_t)cpuid_get(supported, 0xd, 0, CPUID_EDX) << 32;
    uint64_t super = cpuid_get(supported, 0xd, 1, CPUID_ECX) |
                     (uint64_t)cpuid_get(supported, 0xd, 1, CPUID_EDX) << 32;
    if (!cpu_leaves_wants(choice, "xsaves"))
        super = 0;
    for (unsigned n = 0; n < 63; n++) {
        uint64_t bit = 1ull << n;
        if (!((user | super) & bit) || !xstate_kept(choice, supported, n))
            continue;
        x.user |= user & bit;
        x.supervisor |= super & bit;
        if (n < 2)
            continue;
        uint32_t size = cpuid_get(supported, 0xd, n, CPUID_EAX);
        uint32_t end = cpuid_get(supported, 0xd, n, CPUID_EBX) + size;
        if (user & bit && end > x.standard)
            x.standard = end;
        if (cpuid_get(supported, 0xd, n, CPUID_ECX) & 2)
            x.compacted = (x.compacted + 63) & ~63u;
        x.compacted += size;
    }
    return x;
}

static void drop_components(struct cpuid_set *out, uint64_t keep)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < out->count; i++) {
        const struct kvm_cpuid_entry2 *e = &out->entries[i];
        bool drop =
            e->function == 0xd && e->index >= 2 && (e->index > 62 || !(keep >> e->index & 1));
        if (!drop)
            out->entries[count++] = *e;
    }
    out->count = count;
}

static void fix_xsave(const struct cpu_choice *choice, const struct cpuid_set *supported,
                      struct cpuid_set *out)
{
    int xsave = cpu_features_find("xsave", 5);
    bool refused = !choice->want[xsave] && cpu_features_has(supported, &cpu_features[xsave]);
    if (refused || (choice->level && !choice->want[xsave])) {
        cpuid_remove(out, 0xd);
        return;
    }
    struct xstate x = xstate_choose(choice, supported);
    bool compacts = cpu_leaves_wants(choice, "xsavec") || cpu_leaves_wants(choice, "xsaves");
    cpuid_patch(out, 0xd, 0, CPUID_EAX, ~0u, (uint32_t)x.user);
    cpuid_patch(out, 0xd, 0, CPUID_EBX, ~0u, x.standard);
    cpuid_patch(out, 0xd, 0, CPUID_ECX, ~0u, x.standard);
    cpuid_patch(out, 0xd, 0, CPUID_EDX, ~0u, (uint32_t)(x.user >> 32));
    cpuid_patch(out, 0xd, 1, CPUID_EBX, ~0u, compacts ? x.compacted : 0);
    cpuid_patch(out, 0xd, 1, CPUID_ECX, ~0u, (uint32_t)x.supervisor);
    cpuid_patch(out, 0xd, 1, CPUID_EDX, ~0u, (uint32_t)(x.supervisor >> 32));
    drop_components(out, x.user | x.supervisor);
}

/* Room for what cpu_profile_set_cpu() fills: it only patches, so that it cannot fail. */
static int add_topology(const struct cpu_choice *choice, const struct cpuid_set *supported,
                        struct cpuid_set *out)
{
    static const uint32_t none[4];
    int rc = 0;
    bool extended = cpuid_get(supported, 0x1f, 0, CPUID_EBX) != 0;
    for (uint32_t index = 0; rc == 0 && index < 3; index++) {
        rc = cpuid_put(out, 0xb, index, none);
        if (rc == 0 && extended)
            rc = cpuid_put(out, 0x1f, index, none);
    }
    if (rc == 0 && cpu_leaves_wants(choice, "topoext"))
        rc = cpuid_put(out, 0x8000001e, 0, none);
    return rc;
}

/* A host's guest sees the host's brand; a baseline has one of its own, the same everywhere. */
static int add_brand(const struct cpu_choice *choice, struct cpuid_set *out)
{
    char text[48] = {0};
    int rc = 0;
    if (choice->level == 0)
        return 0;
    snprintf(text, sizeof(text), "Ferry x86-64-v%u virtual CPU", choice->level);
    for (uint32_t i = 0; rc == 0 && i < 3; i++) {
        uint32_t regs[4];
        memcpy(regs, text + 16 * i, sizeof(regs));
        rc = cpuid_put(out, 0x80000002 + i, 0, regs);
    }
    return rc;
}

static int add_hypervisor(const struct cpu_choice *choice, const struct cpuid_set *supported,
                          struct cpuid_set *out)
{
    static const struct cpu_word word = {0x40000001, 0, CPUID_EAX, true};
    uint32_t features = cpuid_get(supported, 0x40000001, 0, CPUID_EAX) & word_mask(choice, &word);
    const uint32_t signature[] = {0x40000001, 0x4b4d564b, 0x564b4d56, 0x4d}; /* KVMKVMKVM */
    const uint32_t leaf[] = {features, 0, 0, 0};
    if (!cpu_leaves_wants(choice, "hypervisor"))
        return 0;
    int rc = cpuid_put(out, 0x40000000, 0, signature);
    return rc < 0 ? rc : cpuid_put(out, 0x40000001, 0, leaf);
}

/* Leaves that the masks emptied; those of the topology are still to be filled. */
static void drop_empty(struct cpuid_set *out)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < out->count; i++) {
        const struct kvm_cpuid_entry2 *e = &out->entries[i];
        if (!is_empty(e) || e->function == 0xb || e->function == 0x1f || e->function == 0x8000001e)
            out->entries[count++] = *e;
    }
    out->count = count;
}

/* The highest leaf that is there, in each of the two ranges a CPU has. */
static void fix_maxima(struct cpuid_set *out)
{
    uint32_t basic = 1, extended = 0x80000008;
    for (uint32_t i = 0; i < out->count; i++) {
        uint32_t f = out->entries[i].function;
        if (f < 0x40000000 && f > basic)
            basic = f;
        if (f > extended && f < 0xc0000000)
            extended = f;
    }
    cpuid_patch(out, 0, 0, CPUID_EAX, ~0u, basic);
    cpuid_patch(out, 0x80000000, 0, CPUID_EAX, ~0u, extended);
}

static int check_base(const struct cpuid_set *supported, struct err *err)
{
    static const uint32_t leaves[] = {0, 1, 0x80000000, 0x80000001, 0x80000008};
    for (unsigned i = 0; i < sizeof(leaves) / sizeof(leaves[0]); i++)
        if (!cpuid_look(supported, leaves[i], 0))
            return err_set(err, ENOTSUP, "KVM reports no CPUID leaf 0x%x", leaves[i]);
    return 0;
}

int cpu_leaves_build(const struct cpu_choice *choice, const struct cpuid_set *supported,
                     struct cpuid_set *out, struct err *err)
{
    int rc = check_base(supported, err);
    if (rc < 0)
        return rc;
    rc = copy_kept(choice, supported, out);
    if (rc == 0)
        rc = add_topology(choice, supported, out);
    if (rc == 0)
        rc = add_brand(choice, out);
    if (rc == 0)
        rc = add_hypervisor(choice, supported, out);
    if (rc < 0)
        return err_set(err, ENOSPC, "the CPU profile has more than %d CPUID leaves",
                       CPUID_ENTRIES_MAX);
    mask_features(choice, out);
    tidy_leaves(choice, out);
    fix_addresses(choice, out);
    fix_subleaves(out);
    fix_xsave(choice, supported, out);
    drop_empty(out);
    fix_maxima(out);
    return 0;
}
