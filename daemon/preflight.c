/* See preflight.h. */
#include "daemon/preflight.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/units.h"
#include "daemon/definition.h"
#include "daemon/nets.h"
#include "daemon/spawn.h"
#include "machine/cpu_profile.h"
#include "machine/mem.h"
#include "proto/utf8.h"

#define CPU_NAMES_SIZE 400

void reasons_add(struct reasons *r, const struct err *why)
{
    struct err clean = *why;
    utf8_clean(clean.text);
    char *text = r->count < REASONS_MAX ? strdup(clean.text) : NULL;
    if (text)
        r->texts[r->count++] = text;
}

void reasons_fini(struct reasons *r)
{
    for (unsigned i = 0; i < r->count; i++)
        free(r->texts[i]);
    r->count = 0;
}

#define AGAINST(r, ...)                                                                            \
    do {                                                                                           \
        struct err against = {0};                                                                  \
        err_set(&against, EPERM, __VA_ARGS__);                                                     \
        reasons_add(r, &against);                                                                  \
    } while (0)

static void check_names(const struct daemon *d, const Ferry__MachineConfig *c, struct reasons *r)
{
    struct tenant *t;
    TAILQ_FOREACH(t, &d->registry.all, all)
    if (strcmp(t->name, c->name) == 0)
        AGAINST(r, "a VM '%s' is here already", c->name);
    else if (c->uuid.len && t->config->uuid.len == c->uuid.len &&
             memcmp(t->config->uuid.data, c->uuid.data, c->uuid.len) == 0)
        AGAINST(r, "the same machine is here already, as '%s'", t->name);
    if (d->registry.count >= REGISTRY_MAX)
        AGAINST(r, "there are %u VMs here already", REGISTRY_MAX);
}

static void check_files(const Ferry__MachineConfig *c, struct reasons *r)
{
    struct err err = {0};
    CLEAN(clean_fd) int kernel = spawn_open_image(c->kernel, "kernel", &err);
    if (kernel < 0)
        AGAINST(r, "%.400s: a reset of the guest needs it there", err.text);
    if (!c->initrd[0])
        return;
    CLEAN(clean_fd) int initrd = spawn_open_image(c->initrd, "initrd", &err);
    if (initrd < 0)
        AGAINST(r, "%.400s: a reset of the guest needs it there", err.text);
}

/* A tap made for a bridge is gone again at once. */
static void check_nets(const Ferry__MachineConfig *c, struct reasons *r)
{
    struct err err = {0};
    struct nets nets;
    if (nets_open(&nets, c, &err) < 0)
        reasons_add(r, &err);
    else
        nets_fini(&nets);
}

static uint64_t memory_available(void)
{
    char line[128];
    uint64_t kib = UINT64_MAX / 1024;
    CLEAN(clean_file) FILE *f = fopen("/proc/meminfo", "re");
    while (f && fgets(line, sizeof(line), f))
        if (sscanf(line, "MemAvailable: %" SCNu64, &kib) == 1)
            break;
    return kib * 1024;
}

static void check_memory(const Ferry__MachineConfig *c, struct reasons *r)
{
    char has[32], needs[32];
    uint64_t available = memory_available();
    if (available >= c->memory_bytes)
        return;
    AGAINST(r, "%s of memory are available and the guest has %s",
            units_format_size(available, has, sizeof(has)),
            units_format_size(c->memory_bytes, needs, sizeof(needs)));
}

static int take_leaves(const Ferry__PeerOffer *offer, struct cpuid_set *set, struct err *err)
{
    if (offer->n_cpuid == 0 || offer->n_cpuid > CPUID_ENTRIES_MAX)
        return err_set(err, EBADMSG, "the offer has %zu leaves of CPUID", offer->n_cpuid);
    set->count = 0;
    for (size_t i = 0; i < offer->n_cpuid; i++) {
        const Ferry__CpuidLeaf *l = offer->cpuid[i];
        set->entries[set->count++] = (struct kvm_cpuid_entry2){
            .function = l->function,
            .index = l->index,
            .flags = l->flags,
            .eax = l->eax,
            .ebx = l->ebx,
            .ecx = l->ecx,
            .edx = l->edx,
        };
    }
    return 0;
}

static int compare_cpus(const struct daemon *d, const Ferry__PeerOffer *offer,
                        struct cpuid_set *need, struct cpuid_set *have, struct reasons *r,
                        struct err *err)
{
    char names[CPU_NAMES_SIZE];
    CLEAN(clean_fd) int kvm = spawn_open_kvm(d->options.kvm, err);
    if (kvm < 0)
        return kvm;
    int rc = cpuid_supported(kvm, have, err);
    if (rc == 0)
        rc = take_leaves(offer, need, err);
    if (rc == 0 && cpu_profile_missing(need, have, names, sizeof(names)) > 0)
        AGAINST(r, "the guest's CPU has what this host lacks: %s", names);
    return rc;
}

static void check_cpu(const struct daemon *d, const Ferry__PeerOffer *offer, struct reasons *r)
{
    struct err err = {0};
    CLEAN(clean_free) struct cpuid_set *sets = calloc(2, sizeof(*sets));
    int rc = sets ? compare_cpus(d, offer, &sets[0], &sets[1], r, &err)
                  : err_set(&err, ENOMEM, "no memory for two CPUs");
    if (rc < 0)
        reasons_add(r, &err);
}

static void check_kind(const Ferry__PeerOffer *offer, struct reasons *r)
{
    if (strcmp(offer->arch, "x86_64") != 0)
        AGAINST(r, "the guest is for %.32s, this host is x86_64",
                offer->arch[0] ? offer->arch : "nothing");
    if (offer->page_bytes != MEM_PAGE)
        AGAINST(r, "its pages have %u bytes, here they have %u", offer->page_bytes, MEM_PAGE);
    if (offer->epoch == 0)
        AGAINST(r, "the offer has no epoch");
}

void preflight(struct daemon *d, Ferry__PeerOffer *offer, struct reasons *r)
{
    struct err err = {0};
    Ferry__MachineConfig *c = offer->config;
    check_kind(offer, r);
    if (!c || c->uuid.len != 16) {
        AGAINST(r, "the offer has no machine with a uuid");
        return;
    }
    if (definition_complete(c, &err) < 0) {
        reasons_add(r, &err);
        return;
    }
    check_names(d, c, r);
    check_cpu(d, offer, r);
    check_memory(c, r);
    check_files(c, r);
    check_nets(c, r);
}
