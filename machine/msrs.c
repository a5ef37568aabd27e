/* See msrs.h. */
#include "machine/msrs.h"

#include <errno.h>
#include <linux/kvm.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define CHUNK 255u /* KVM refuses 256 in one call */

struct chunk {
    struct kvm_msrs head;
    struct kvm_msr_entry entries[CHUNK];
};

/* State that KVM_GET_MSR_INDEX_LIST of some kernels leaves out, as ranges. */
static const struct {
    uint32_t first, last;
} extra[] = {
    {0xda0, 0xda0},           /* IA32_XSS */
    {0x48, 0x48},             /* IA32_SPEC_CTRL */
    {0xc0000103, 0xc0000103}, /* TSC_AUX */
    {0x1d9, 0x1d9},           /* IA32_DEBUGCTL */
    {0x179, 0x17b},           /* MCG_CAP, STATUS, CTL */
    {0x400, 0x47f},           /* MCE banks: those that KVM has */
    {0x200, 0x20f},           /* variable MTRRs */
    {0x250, 0x250},           /* fixed MTRRs */
    {0x258, 0x259},
    {0x268, 0x26f},
    {0x277, 0x277}, /* PAT */
    {0x3a, 0x3a},   /* FEATURE_CONTROL */
    {0x480, 0x492}, /* VMX: what a nested hypervisor was told */
    {0x2ff, 0x2ff}, /* MTRR default type: after the others, which it enables */
};

/* Not state of the guest, or put back in another way. */
static const uint32_t left_out[] = {
    MSR_TSC_DEADLINE, /* after the LAPIC, by vcpu_state */
    0x10a,            /* ARCH_CAPABILITIES: the host's, and some hosts list but do not take it */
    0xcd,             /* FSB frequency: a constant */
    0x8b,             /* microcode revision: the host's */
    0x345,            /* PERF_CAPABILITIES: the host's */
    0xc0000104,       /* AMD TSC ratio: the host's */
};

/* May be dropped on the way in when the host has no such thing: nothing of the guest hangs on it.
 */
static const uint32_t droppable[] = {
    0x34,       /* SMI count */
    0x4b564d05, /* KVM poll control: a hint */
    0xc0011029, /* AMD DE_CFG: lfence behaviour, as the host has it */
    0x17a,      /* MCG status, on hosts without banks */
};

/* What the CPU can do, as far as MSRs say it. */
static bool is_feature(uint32_t index)
{
    return index == 0x3a || (index >= 0x480 && index <= 0x492);
}

/* What must come late, or early, among the others; the rest is 10 and keeps its order. */
static const struct {
    uint32_t first, last;
    int rank;
} ranks[] = {
    {MSR_TSC, MSR_TSC, 0},        {0x2ff, 0x2ff, 11}, /* MTRRs are switched on when they are all
                                                         there */
    {0x4b564d06, 0x4b564d06, 11},                     /* async page fault interrupt vector... */
    {0x4b564d02, 0x4b564d02, 12},                     /* ...before its enabling */
    {0x186, 0x18d, 20}, /* PMU: counters, then what each of them counts... */
    {0x38d, 0x38d, 20},           {0xc0010000, 0xc0010003, 20}, /* AMD's */
    {0xc0010200, 0xc0010200, 20}, {0xc0010202, 0xc0010202, 20}, {0xc0010204, 0xc0010204, 20},
    {0xc0010206, 0xc0010206, 20}, {0xc0010208, 0xc0010208, 20}, {0xc001020a, 0xc001020a, 20},
    {0x38f, 0x38f, 30}, /* ...then all begin; a new vCPU's stand */
    {0xc0000301, 0xc0000301, 30},
};

static int rank_of(uint32_t index)
{
    for (unsigned i = 0; i < sizeof(ranks) / sizeof(ranks[0]); i++)
        if (index >= ranks[i].first && index <= ranks[i].last)
            return ranks[i].rank;
    return 10;
}

static bool is_in(uint32_t index, const uint32_t *list, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (list[i] == index)
            return true;
    return false;
}

#define IS_IN(index, list) is_in(index, list, sizeof(list) / sizeof((list)[0]))

static void add(struct msr_list *l, uint32_t index)
{
    if (l->count < MSRS_MAX && !is_in(index, l->index, l->count) && !IS_IN(index, left_out))
        l->index[l->count++] = index;
}

/* Stable, by rank: insertion, because there are few. */
static void sort(struct msrs *m)
{
    for (uint32_t i = 1; i < m->count; i++) {
        struct msr one = m->list[i];
        uint32_t j = i;
        for (; j > 0 && rank_of(m->list[j - 1].index) > rank_of(one.index); j--)
            m->list[j] = m->list[j - 1];
        m->list[j] = one;
    }
}

static int list_all(const struct kvm *kvm, struct msr_list *out, struct err *err)
{
    union {
        struct kvm_msr_list head;
        uint32_t room[1 + MSRS_MAX];
    } u;
    u.head.nmsrs = MSRS_MAX;
    int rc = kvm_ioctl(kvm->fd, KVM_GET_MSR_INDEX_LIST, &u);
    if (rc < 0)
        return err_sys(err, -rc, "KVM gives no list of MSRs");
    *out = (struct msr_list){0};
    for (uint32_t i = 0; i < u.head.nmsrs && i < MSRS_MAX; i++)
        add(out, u.room[1 + i]);
    for (unsigned i = 0; i < sizeof(extra) / sizeof(extra[0]); i++)
        for (uint32_t index = extra[i].first; index <= extra[i].last; index++)
            add(out, index);
    return 0;
}

int msrs_get(int vcpu_fd, uint32_t index, uint64_t *value)
{
    struct chunk c = {.head.nmsrs = 1, .entries[0].index = index};
    int rc = kvm_ioctl(vcpu_fd, KVM_GET_MSRS, &c);
    *value = c.entries[0].data;
    return rc == 1 ? 0 : -EINVAL;
}

int msrs_set(int vcpu_fd, uint32_t index, uint64_t value)
{
    struct chunk c = {.head.nmsrs = 1, .entries[0] = {.index = index, .data = value}};
    return kvm_ioctl(vcpu_fd, KVM_SET_MSRS, &c) == 1 ? 0 : -EINVAL;
}

/* Reads from `first` on, and appends; returns how many KVM gave before it refused one, or -errno.
 */
static int get_chunk(int vcpu_fd, const struct msr_list *l, uint32_t first, struct msrs *out)
{
    struct chunk c;
    uint32_t n = l->count - first < CHUNK ? l->count - first : CHUNK;
    memset(&c.head, 0, sizeof(c.head));
    c.head.nmsrs = n;
    for (uint32_t i = 0; i < n; i++)
        c.entries[i] = (struct kvm_msr_entry){.index = l->index[first + i]};
    int got = kvm_ioctl(vcpu_fd, KVM_GET_MSRS, &c);
    for (int i = 0; i < got; i++)
        out->list[out->count++] =
            (struct msr){.index = c.entries[i].index, .value = c.entries[i].data};
    return got;
}

int msrs_save(int vcpu_fd, const struct msr_list *l, struct msrs *out, struct err *err)
{
    out->count = 0;
    for (uint32_t done = 0; done < l->count;) {
        int got = get_chunk(vcpu_fd, l, done, out);
        if (got < 0)
            return err_sys(err, -got, "KVM gives no MSRs");
        uint32_t asked = l->count - done < CHUNK ? l->count - done : CHUNK;
        done += (uint32_t)got + ((uint32_t)got < asked);
    }
    return 0;
}

/* Both are in the order of asking: what is missing was refused. */
static void note_refused(struct msr_list *l, const struct msrs *given)
{
    for (uint32_t i = 0, g = 0; i < l->count; i++) {
        bool is_given = g < given->count && given->list[g].index == l->index[i];
        if (!is_given && l->refused++ == 0)
            l->first_refused = l->index[i];
        g += is_given;
    }
}

int msrs_probe(const struct kvm *kvm, int vcpu_fd, struct msr_list *out, struct err *err)
{
    struct msrs *given = calloc(1, sizeof(*given));
    if (!given)
        return err_set(err, ENOMEM, "no memory for MSRs");
    int rc = list_all(kvm, out, err);
    if (rc == 0)
        rc = msrs_save(vcpu_fd, out, given, err);
    if (rc == 0) {
        note_refused(out, given);
        sort(given);
        out->count = given->count;
        for (uint32_t i = 0; i < given->count; i++)
            out->index[i] = given->list[i].index;
    }
    free(given);
    return rc;
}

/* Sets from `first` on; returns how many KVM took before it refused one, or -errno. */
static int set_chunk(int vcpu_fd, const struct msrs *m, uint32_t first)
{
    struct chunk c;
    uint32_t n = m->count - first < CHUNK ? m->count - first : CHUNK;
    memset(&c, 0, sizeof(c));
    c.head.nmsrs = n;
    for (uint32_t i = 0; i < n; i++)
        c.entries[i] = (struct kvm_msr_entry){.index = m->list[first + i].index,
                                              .data = m->list[first + i].value};
    return kvm_ioctl(vcpu_fd, KVM_SET_MSRS, &c);
}

/* A refused MSR is fine when it already has the value, is 0, or may be dropped. */
static bool may_skip(int vcpu_fd, uint32_t index, uint64_t value)
{
    uint64_t now;
    return value == 0 || IS_IN(index, droppable) ||
           (msrs_get(vcpu_fd, index, &now) == 0 && now == value);
}

static int load_sorted(int vcpu_fd, const struct msrs *m, struct err *err)
{
    for (uint32_t done = 0; done < m->count;) {
        int got = set_chunk(vcpu_fd, m, done);
        if (got < 0)
            return err_sys(err, -got, "KVM takes no MSRs");
        uint32_t asked = m->count - done < CHUNK ? m->count - done : CHUNK;
        done += (uint32_t)got;
        if ((uint32_t)got == asked)
            continue;
        const struct msr *refused = &m->list[done];
        if (!may_skip(vcpu_fd, refused->index, refused->value))
            return err_set(err, EINVAL, "KVM does not take MSR 0x%x with value 0x%llx",
                           refused->index, (unsigned long long)refused->value);
        done++;
    }
    return 0;
}

static int load_some(int vcpu_fd, const struct msrs *msrs, bool features, struct err *err)
{
    struct msrs *sorted = calloc(1, sizeof(*sorted));
    if (!sorted)
        return err_set(err, ENOMEM, "no memory for MSRs");
    for (uint32_t i = 0; i < msrs->count && i < MSRS_MAX; i++)
        if (is_feature(msrs->list[i].index) == features)
            sorted->list[sorted->count++] = msrs->list[i];
    sort(sorted);
    int rc = load_sorted(vcpu_fd, sorted, err);
    free(sorted);
    return rc;
}

int msrs_load_features(int vcpu_fd, const struct msrs *msrs, struct err *err)
{
    return load_some(vcpu_fd, msrs, true, err);
}

int msrs_load(int vcpu_fd, const struct msrs *msrs, struct err *err)
{
    return load_some(vcpu_fd, msrs, false, err);
}
