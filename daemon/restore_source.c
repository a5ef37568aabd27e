/* See restore_source.h. */
#include "daemon/restore_source.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/sysinfo.h>

#include "base/cleanup.h"
#include "machine/cpu_profile.h"
#include "snapshot/reader.h"

#define CPU_NAMES_MAX 16384u
#define MIB_SHIFT 20

static int compare(const Ferry__SnapshotManifest *m, const struct cpuid_set *host, struct err *err)
{
    struct buf features;
    char vendor[CPUID_VENDOR_SIZE], names[300];
    unsigned missing = 0;
    buf_init(&features, CPU_NAMES_MAX);
    cpuid_vendor(host, vendor);
    int rc = cpu_profile_names(host, &features, err);
    if (rc == 0 && buf_append(&features, "", 1) < 0)
        rc = err_set(err, ENOMEM, "no memory for the names of CPU features");
    if (rc == 0)
        missing =
            manifest_cpu_missing(m, vendor, (const char *)features.data, names, sizeof(names));
    if (missing)
        rc = err_set(err, ENOTSUP, "the guest of snapshot '%s' needs what this CPU lacks: %s",
                     m->name, names);
    buf_fini(&features);
    return rc;
}

/* Where KVM cannot be opened, the start will say why. */
static int check_cpu(const Ferry__SnapshotManifest *m, const char *kvm, struct err *err)
{
    struct cpuid_set supported, host;
    CLEAN(clean_fd) int fd = open(kvm, O_RDWR | O_CLOEXEC);
    if (fd < 0)
        return 0;
    int rc = cpuid_supported(fd, &supported, err);
    if (rc == 0)
        rc = cpu_profile_build(NULL, &supported, &host, err);
    if (rc < 0)
        return rc;
    cpu_profile_set_cpu(&host, 0, m->config->cpus); /* some features come with the number of CPUs */
    return compare(m, &host, err);
}

/* What is mapped takes no memory before it is written, but what is packed is unpacked, all of it.
 */
static uint64_t unpacked_bytes(const struct reader *r)
{
    uint64_t pages = 0;
    for (unsigned i = 0; i < r->count; i++)
        if (r->layers[i].packed)
            pages += pages_count(&r->layers[i].pages, 0, r->npages, PAGES_DATA);
    return (pages < r->npages ? pages : r->npages) * PAGES_PAGE_BYTES;
}

/* More than what is free may be promised, but not more than there is. */
static int check_ram(const struct reader *r, const char *name, struct err *err)
{
    struct sysinfo info;
    uint64_t needs = unpacked_bytes(r);
    if (sysinfo(&info) < 0)
        return err_sys(err, errno, "cannot ask for this host's memory");
    uint64_t have = ((uint64_t)info.totalram + info.totalswap) * info.mem_unit;
    if (needs <= have)
        return 0;
    return err_set(
        err, ENOMEM, "the packed memory of snapshot '%s' has %llu MiB, this host only %llu MiB",
        name, (unsigned long long)(needs >> MIB_SHIFT), (unsigned long long)(have >> MIB_SHIFT));
}

/* The worker reads all of this again for itself; here it is found once for all clones, and before
 * any of them is defined. */
static int check(struct restore_source *s, struct err *err)
{
    struct reader r;
    struct buf state;
    int rc = reader_open_dirs(&r, s->layers, s->count, err);
    if (rc < 0)
        return rc;
    buf_init(&state, SNAPSHOT_STATE_MAX);
    rc = reader_state(&r, s->layers[s->count - 1], &state, err);
    buf_fini(&state);
    if (rc == 0)
        rc = check_ram(&r, r.layers[s->count - 1].manifest->name, err);
    s->manifest = steal_ptr(&r.layers[s->count - 1].manifest);
    reader_close(&r);
    return rc;
}

int restore_source_open(struct restore_source *s, const struct catalogue *c, const char *name,
                        const char *kvm, struct err *err)
{
    *s = (struct restore_source){0};
    int rc = catalogue_open_chain(c, name, s->layers, SNAPSHOT_CHAIN_MAX, err);
    if (rc < 0)
        return rc;
    s->count = (unsigned)rc;
    rc = check(s, err);
    if (rc == 0)
        rc = check_cpu(s->manifest, kvm, err);
    if (rc < 0)
        restore_source_close(s);
    return rc;
}

void restore_source_close(struct restore_source *s)
{
    while (s->count)
        clean_fd(&s->layers[--s->count]);
    clean_manifest(&s->manifest);
}

int restore_source_verify(const struct restore_source *s, const struct verify_watch *watch,
                          struct err *err)
{
    struct verify_result result;
    int rc = 0;
    for (unsigned i = 0; rc == 0 && i < s->count; i++)
        rc = verify_snapshot(s->layers[i], watch, &result, err);
    return rc;
}
