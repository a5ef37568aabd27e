/* See cpu_profile.h. */
#include "machine/cpu_profile.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "machine/cpu_features.h"
#include "machine/cpu_leaves.h"

#define NAMES_SIZE 300 /* of a list of features within a sentence */

static const struct {
    const char *name;
    unsigned level;
} bases[] = {
    {"host", 0},      {"v1", 1},        {"v2", 2},        {"v3", 3},        {"v4", 4},
    {"x86-64-v1", 1}, {"x86-64-v2", 2}, {"x86-64-v3", 3}, {"x86-64-v4", 4},
};

struct names {
    char *at;
    size_t size, len;
    unsigned count, left_out;
};

/* Room is kept for "and N more". */
static void names_add(struct names *n, const char *name)
{
    size_t tail = sizeof(" and 1000 more");
    size_t need = strlen(name) + (n->len ? 2 : 0);
    n->count++;
    if (n->left_out || n->len + need + tail > n->size) {
        n->left_out++;
        return;
    }
    n->len += (size_t)snprintf(n->at + n->len, n->size - n->len, "%s%s", n->len ? ", " : "", name);
}

static void names_end(struct names *n)
{
    if (n->left_out)
        snprintf(n->at + n->len, n->size - n->len, "%s%u more", n->len ? " and " : "", n->left_out);
    else if (n->count == 0 && n->size)
        n->at[0] = '\0';
}

/* What the text asks for, before it is compared with what there is. */
struct wish {
    unsigned level;
    bool plus[CPU_FEATURES_MAX], minus[CPU_FEATURES_MAX];
};

static int unknown_base(const char *item, size_t len, struct err *err)
{
    if (cpu_features_find(item, len) >= 0)
        return err_set(err, EINVAL, "CPU feature '%.*s' needs a sign: +%.*s or -%.*s", (int)len,
                       item, (int)len, item, (int)len, item);
    return err_set(err, EINVAL,
                   "unknown CPU profile '%.*s': use host, v1, v2, v3 or v4, then features such as "
                   "+aes or -avx",
                   len > 40 ? 40 : (int)len, item);
}

static int parse_base(struct wish *wish, const char *item, size_t len, struct err *err)
{
    for (unsigned i = 0; i < sizeof(bases) / sizeof(bases[0]); i++) {
        if (strlen(bases[i].name) == len && memcmp(bases[i].name, item, len) == 0) {
            wish->level = bases[i].level;
            return 0;
        }
    }
    return unknown_base(item, len, err);
}

static int unknown_feature(const char *name, size_t len, struct err *err)
{
    const char *nearest = cpu_features_nearest(name, len);
    int shown = len > 40 ? 40 : (int)len;
    if (!nearest)
        return err_set(err, EINVAL, "unknown CPU feature '%.*s'", shown, name);
    return err_set(err, EINVAL, "unknown CPU feature '%.*s': did you mean '%s'?", shown, name,
                   nearest);
}

static int parse_feature(struct wish *wish, const char *item, size_t len, struct err *err)
{
    int i = cpu_features_find(item + 1, len - 1);
    if (i < 0)
        return unknown_feature(item + 1, len - 1, err);
    const struct cpu_feature *f = &cpu_features[i];
    if (wish->plus[i] || wish->minus[i])
        return err_set(err, EINVAL, "CPU feature '%s' is named twice", f->name);
    if (f->flags & CPU_FEATURE_TOPOLOGY)
        return err_set(err, EINVAL, "CPU feature '%s' follows from the number of CPUs", f->name);
    if (item[0] == '+' && f->flags & CPU_FEATURE_NEVER)
        return err_set(err, EINVAL, "CPU feature '%s' cannot be given to a guest", f->name);
    if (item[0] == '+')
        wish->plus[i] = true;
    else
        wish->minus[i] = true;
    return 0;
}

static int parse(const char *profile, struct wish *wish, struct err *err)
{
    const char *item = profile ? profile : "";
    if (!*item)
        return 0;
    for (bool first = true;; first = false) {
        size_t len = strcspn(item, ",");
        int rc;
        if (len == 0 || (len == 1 && strchr("+-", item[0])))
            return err_set(err, EINVAL, "CPU profile '%.60s' has an empty item", profile);
        if (item[0] == '+' || item[0] == '-')
            rc = parse_feature(wish, item, len, err);
        else if (first)
            rc = parse_base(wish, item, len, err);
        else
            rc = err_set(err, EINVAL, "CPU profile item '%.*s' needs a sign: write +aes or -avx",
                         len > 40 ? 40 : (int)len, item);
        if (rc < 0 || !item[len])
            return rc;
        item += len + 1;
    }
}

/* What the base alone holds. */
static bool base_has(unsigned level, const struct cpu_feature *f, const struct cpuid_set *supported)
{
    if (f->flags & (CPU_FEATURE_NEVER | CPU_FEATURE_TOPOLOGY))
        return false;
    if (level == 0)
        return cpu_features_usable(supported, f);
    if (f->level == 0 || f->level > level)
        return false;
    return !(f->flags & CPU_FEATURE_SOFT) || cpu_features_has(supported, f);
}

static int check_essential(const bool gone[CPU_FEATURES_MAX], struct err *err)
{
    for (unsigned i = 0; i < cpu_features_count; i++)
        if (gone[i] && cpu_features[i].flags & CPU_FEATURE_ESSENTIAL)
            return err_set(err, EINVAL,
                           "CPU feature '%s' cannot be removed: the machine boots with it",
                           cpu_features[i].name);
    return 0;
}

/* An added feature whose base is not there would be a CPU that never was. */
static int check_needs(const struct wish *wish, const struct cpu_choice *choice, struct err *err)
{
    for (unsigned i = 0; i < cpu_features_count; i++) {
        char list[NAMES_SIZE];
        struct names names = {.at = list, .size = sizeof(list)};
        const struct cpu_feature *f = &cpu_features[i];
        for (unsigned n = 0; wish->plus[i] && n < CPU_FEATURE_NEEDS && f->needs[n]; n++)
            if (!cpu_leaves_wants(choice, f->needs[n]))
                names_add(&names, f->needs[n]);
        names_end(&names);
        if (names.count)
            return err_set(err, EINVAL,
                           "CPU feature '%s' needs %s, which the profile does not have", f->name,
                           list);
    }
    return 0;
}

static int check_offered(const char *profile, const struct cpu_choice *choice,
                         const struct cpuid_set *supported, struct err *err)
{
    char list[NAMES_SIZE];
    struct names names = {.at = list, .size = sizeof(list)};
    for (unsigned i = 0; i < cpu_features_count; i++)
        if (choice->want[i] && !cpu_features_usable(supported, &cpu_features[i]))
            names_add(&names, cpu_features[i].name);
    names_end(&names);
    if (names.count)
        return err_set(err, ENOTSUP, "CPU profile '%.60s' needs what this host does not offer: %s",
                       profile, list);
    return 0;
}

static int choose(const char *profile, const struct cpuid_set *supported, struct cpu_choice *choice,
                  struct err *err)
{
    struct wish wish = {.level = 0};
    int rc = parse(profile, &wish, err);
    if (rc < 0)
        return rc;
    cpu_features_add_dependants(wish.minus);
    rc = check_essential(wish.minus, err);
    if (rc < 0)
        return rc;
    choice->level = wish.level;
    for (unsigned i = 0; i < cpu_features_count; i++)
        choice->want[i] =
            wish.plus[i] || (base_has(wish.level, &cpu_features[i], supported) && !wish.minus[i]);
    rc = check_needs(&wish, choice, err);
    return rc < 0 ? rc : check_offered(profile, choice, supported, err);
}

int cpu_profile_build(const char *profile, const struct cpuid_set *supported, struct cpuid_set *out,
                      struct err *err)
{
    struct cpu_choice choice = {.level = 0};
    int rc = choose(profile, supported, &choice, err);
    return rc < 0 ? rc : cpu_leaves_build(&choice, supported, out, err);
}

int cpu_profile_set_tsc(struct cpuid_set *set, uint32_t tsc_khz)
{
    const uint32_t regs[] = {tsc_khz, 1000000, 0, 0}; /* KVM's local APIC counts at 1 GHz */
    if (!cpuid_look(set, 0x40000000, 0))
        return 0; /* hidden hypervisor: nowhere to say it */
    cpuid_remove(set, 0x40000010);
    cpuid_patch(set, 0x40000000, 0, CPUID_EAX, ~0u, tsc_khz ? 0x40000010 : 0x40000001);
    return tsc_khz ? cpuid_put(set, 0x40000010, 0, regs) : 0;
}

static unsigned bits_for(unsigned cpus)
{
    unsigned bits = 0;
    while (bits < 8 && 1u << bits < cpus)
        bits++;
    return bits;
}

/* The same list of levels in 0xb and 0x1f: threads (one), cores, the end. */
static void set_levels(struct cpuid_set *set, uint32_t function, unsigned cpu, unsigned cpus)
{
    const uint32_t levels[3][3] = {{0, 1, 1u << 8}, {bits_for(cpus), cpus, 1 | 2u << 8}, {0, 0, 2}};
    for (uint32_t i = 0; i < 3; i++) {
        cpuid_patch(set, function, i, CPUID_EAX, ~0u, levels[i][0]);
        cpuid_patch(set, function, i, CPUID_EBX, ~0u, levels[i][1]);
        cpuid_patch(set, function, i, CPUID_ECX, ~0u, levels[i][2]);
        cpuid_patch(set, function, i, CPUID_EDX, ~0u, cpu);
    }
}

/* First and second level caches belong to a core, the third to all. */
static void set_caches(struct cpuid_set *set, uint32_t function, unsigned cpus)
{
    unsigned ids = (1u << bits_for(cpus)) - 1;
    for (uint32_t i = 0; i < set->count; i++) {
        struct kvm_cpuid_entry2 *e = &set->entries[i];
        bool cache = e->function == function && (e->eax & 0x1f);
        if (!cache)
            continue;
        e->eax &= 0x3fff;
        if ((e->eax >> 5 & 7) >= 3)
            e->eax |= (function == 4 ? ids : cpus - 1) << 14;
        if (function == 4)
            e->eax |= ids << 26;
    }
}

static void set_amd(struct cpuid_set *set, unsigned cpu, unsigned cpus)
{
    cpuid_patch(set, 0x80000001, 0, CPUID_ECX, 2, cpus > 1 ? 2 : 0); /* cmp_legacy */
    cpuid_patch(set, 0x80000008, 0, CPUID_ECX, 0xf0ff, bits_for(cpus) << 12 | (cpus - 1));
    cpuid_patch(set, 0x8000001e, 0, CPUID_EAX, ~0u, cpu);
    cpuid_patch(set, 0x8000001e, 0, CPUID_EBX, ~0u, cpu & 0xff); /* core id, one thread */
    cpuid_patch(set, 0x8000001e, 0, CPUID_ECX, ~0u, 0);          /* one node */
    set_caches(set, 0x8000001d, cpus);
}

void cpu_profile_set_cpu(struct cpuid_set *set, unsigned cpu, unsigned cpus)
{
    cpus = cpus == 0 ? 1 : cpus > 255 ? 255 : cpus;
    cpuid_patch(set, 1, 0, CPUID_EBX, 0xffff0000, (cpu & 0xff) << 24 | cpus << 16);
    cpuid_patch(set, 1, 0, CPUID_EDX, 1u << 28, cpus > 1 ? 1u << 28 : 0);
    set_levels(set, 0xb, cpu, cpus);
    set_levels(set, 0x1f, cpu, cpus);
    set_caches(set, 4, cpus);
    if (cpuid_is_amd(set))
        set_amd(set, cpu, cpus);
}

/* Bits that differ between vCPUs, that KVM changes by itself, or that say a thing twice. */
static uint32_t ignored(const struct cpu_word *w)
{
    bool repeats = w->leaf == 0x80000001 && w->reg == CPUID_EDX;
    uint32_t mask = repeats ? CPU_FEATURES_AMD_ALIASES : 0;
    for (unsigned i = 0; i < cpu_features_count; i++) {
        const struct cpu_feature *f = &cpu_features[i];
        bool moving = f->flags & CPU_FEATURE_TOPOLOGY || strcmp(f->name, "osxsave") == 0 ||
                      strcmp(f->name, "ospke") == 0;
        if (moving && f->leaf == w->leaf && f->subleaf == w->subleaf && f->reg == w->reg)
            mask |= 1u << f->bit;
    }
    return mask;
}

static void missing_bits(const struct cpu_word *w, uint32_t bits, struct names *names)
{
    static const char *const regs[] = {"eax", "ebx", "ecx", "edx"};
    for (unsigned bit = 0; bit < 32; bit++) {
        char raw[48];
        if (!(bits >> bit & 1))
            continue;
        const char *name = cpu_features_name(w->leaf, w->subleaf, w->reg, bit);
        if (!name)
            snprintf(raw, sizeof(raw), "cpuid 0x%x.%u %s bit %u", w->leaf, w->subleaf, regs[w->reg],
                     bit);
        names_add(names, name ? name : raw);
    }
}

/* Registers in the XSAVE area lie where the CPU puts them; a guest that moves takes its layout
 * along. */
static void missing_xstate(const struct cpuid_set *need, const struct cpuid_set *have,
                           struct names *names)
{
    for (unsigned n = 0; n < 63; n++) {
        enum cpuid_reg user = n < 32 ? CPUID_EAX : CPUID_EDX;
        enum cpuid_reg super = n < 32 ? CPUID_ECX : CPUID_EDX;
        uint32_t bit = 1u << n % 32;
        uint32_t wants = cpuid_get(need, 0xd, 0, user) | cpuid_get(need, 0xd, 1, super);
        uint32_t has = cpuid_get(have, 0xd, 0, user) | cpuid_get(have, 0xd, 1, super);
        bool moved =
            n >= 2 && (cpuid_get(need, 0xd, n, CPUID_EAX) != cpuid_get(have, 0xd, n, CPUID_EAX) ||
                       cpuid_get(need, 0xd, n, CPUID_EBX) != cpuid_get(have, 0xd, n, CPUID_EBX));
        char text[48];
        if (!(wants & bit) || (has & bit && !moved))
            continue;
        snprintf(text, sizeof(text), "xsave component %u%s", n, has & bit ? " in its place" : "");
        names_add(names, text);
    }
}

static void missing_vendor(const struct cpuid_set *need, const struct cpuid_set *have,
                           struct names *names)
{
    static const enum cpuid_reg order[] = {CPUID_EBX, CPUID_EDX, CPUID_ECX};
    char text[sizeof("vendor ") + 12] = "vendor ";
    bool same = true;
    for (unsigned i = 0; i < 3; i++) {
        uint32_t part = cpuid_get(need, 0, 0, order[i]);
        same = same && part == cpuid_get(have, 0, 0, order[i]);
        memcpy(text + 7 + 4 * i, &part, 4);
    }
    for (char *c = text; c < text + 19; c++)
        if (*c < 0x20 || *c > 0x7e)
            *c = '?';
    if (!same)
        names_add(names, text);
}

static void missing_addresses(const struct cpuid_set *need, const struct cpuid_set *have,
                              struct names *names)
{
    uint32_t wants = cpuid_get(need, 0x80000008, 0, CPUID_EAX) & 0xff;
    char text[48];
    if (wants <= (cpuid_get(have, 0x80000008, 0, CPUID_EAX) & 0xff))
        return;
    snprintf(text, sizeof(text), "%u physical address bits", wants);
    names_add(names, text);
}

size_t cpu_profile_missing(const struct cpuid_set *need, const struct cpuid_set *have, char *names,
                           size_t size)
{
    struct names list = {.at = names, .size = size};
    for (unsigned i = 0; i < cpu_features_words_count; i++) {
        const struct cpu_word *w = &cpu_features_words[i];
        uint32_t lacks = cpuid_get(need, w->leaf, w->subleaf, w->reg) &
                         ~cpuid_get(have, w->leaf, w->subleaf, w->reg) & ~ignored(w);
        missing_bits(w, lacks, &list);
    }
    missing_xstate(need, have, &list);
    missing_vendor(need, have, &list);
    missing_addresses(need, have, &list);
    names_end(&list);
    return list.count;
}

int cpu_profile_names(const struct cpuid_set *set, struct buf *names, struct err *err)
{
    for (unsigned i = 0; i < cpu_features_count; i++) {
        const struct cpu_feature *f = &cpu_features[i];
        if (!cpu_features_has(set, f))
            continue;
        if ((names->len && buf_append(names, " ", 1) < 0) ||
            buf_append(names, f->name, strlen(f->name)) < 0)
            return err_set(err, ENOSPC, "the list of CPU features does not fit %zu bytes",
                           names->max);
    }
    return 0;
}
