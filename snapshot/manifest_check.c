/* What a manifest may say: each part by itself, then against the others. See manifest.h. */
#include <errno.h>
#include <string.h>

#include "base/name.h"
#include "snapshot/manifest.h"

#define VENDOR_MAX 16u
#define FEATURES_MAX 16384u
#define RELEASE_MAX 128u
#define CPUS_MAX 64u
#define PAGE_BYTES 4096u
#define DISK_MAX (1ull << 46)

static int check_uuid(const ProtobufCBinaryData *uuid, const char *what, struct err *err)
{
    static const uint8_t none[16];
    if (uuid->len != sizeof(none))
        return err_set(err, EBADMSG, "%s has %zu bytes, not 16", what, uuid->len);
    if (memcmp(uuid->data, none, sizeof(none)) == 0)
        return err_set(err, EBADMSG, "%s is all zero", what);
    return 0;
}

static int check_version(const Ferry__SnapshotManifest *m, struct err *err)
{
    if (m->min_version == 0 || m->min_version > m->version)
        return err_set(err, EBADMSG, "min_version is %u with version %u", m->min_version,
                       m->version);
    if (m->min_version > SNAPSHOT_VERSION)
        return err_set(err, EPROTONOSUPPORT, "needs a reader of format %u, this one knows %u",
                       m->min_version, SNAPSHOT_VERSION);
    if (m->version < SNAPSHOT_VERSION_OLDEST)
        return err_set(err, EPROTONOSUPPORT, "has format %u, the oldest that is read is %u",
                       m->version, SNAPSHOT_VERSION_OLDEST);
    if (strlen(m->release) > RELEASE_MAX)
        return err_set(err, EBADMSG, "release is longer than %u bytes", RELEASE_MAX);
    return 0;
}

static int check_ref(const Ferry__SnapshotRef *ref, const char *what, struct err *err)
{
    int rc = check_uuid(&ref->uuid, "its uuid", err);
    if (rc == 0)
        rc = name_check(ref->name, "its name", err);
    return rc < 0 ? err_wrap(err, "%s", what) : 0;
}

static int check_identity(const Ferry__SnapshotManifest *m, struct err *err)
{
    int rc = name_check(m->name, "name", err);
    if (rc == 0)
        rc = check_uuid(&m->uuid, "uuid", err);
    if (rc == 0 && manifest_is_diff(m) && !m->parent)
        rc = err_set(err, EBADMSG, "parent is missing in a diff");
    if (rc == 0 && m->parent && !manifest_is_diff(m))
        rc = err_set(err, EBADMSG, "parent is there, but the image is full");
    if (rc == 0 && m->parent)
        rc = check_ref(m->parent, "parent", err);
    if (rc == 0 && m->parent && manifest_same_uuid(&m->parent->uuid, &m->uuid))
        rc = err_set(err, EBADMSG, "parent is the snapshot itself");
    if (rc == 0 && m->n_lineage > SNAPSHOT_LINEAGE_MAX)
        rc = err_set(err, EBADMSG, "lineage has %zu entries, at most %u", m->n_lineage,
                     SNAPSHOT_LINEAGE_MAX);
    for (size_t i = 0; rc == 0 && i < m->n_lineage; i++)
        rc = check_ref(m->lineage[i], "lineage", err);
    return rc;
}

static int check_config(const Ferry__SnapshotManifest *m, struct err *err)
{
    const Ferry__MachineConfig *c = m->config;
    if (!c)
        return err_set(err, EBADMSG, "config is missing");
    int rc = name_check(c->name, "config.name", err);
    if (rc == 0)
        rc = check_uuid(&c->uuid, "config.uuid", err);
    if (rc == 0 && c->memory_bytes != m->ram_bytes)
        rc = err_set(err, EBADMSG, "config.memory_bytes is %llu, but ram_bytes %llu",
                     (unsigned long long)c->memory_bytes, (unsigned long long)m->ram_bytes);
    if (rc == 0 && (c->cpus < 1 || c->cpus > CPUS_MAX))
        rc = err_set(err, EBADMSG, "config.cpus is %u, not 1 to %u", c->cpus, CPUS_MAX);
    return rc;
}

static int check_cpu(const Ferry__SnapshotManifest *m, struct err *err)
{
    if (strcmp(m->arch, SNAPSHOT_ARCH) != 0)
        return err_set(err, EPROTONOSUPPORT, "arch is '%.40s', not " SNAPSHOT_ARCH, m->arch);
    if (m->page_bytes != PAGE_BYTES)
        return err_set(err, EPROTONOSUPPORT, "page_bytes is %u, not %u", m->page_bytes, PAGE_BYTES);
    if (!m->cpu)
        return err_set(err, EBADMSG, "cpu is missing");
    if (strlen(m->cpu->vendor) > VENDOR_MAX)
        return err_set(err, EBADMSG, "cpu.vendor is longer than %u bytes", VENDOR_MAX);
    if (strlen(m->cpu->features) > FEATURES_MAX)
        return err_set(err, EBADMSG, "cpu.features is longer than %u bytes", FEATURES_MAX);
    return 0;
}

/* [from, from + size), in whole pages, without a wrap, up to `max`. */
static bool range_fits(uint64_t from, uint64_t size, uint64_t max)
{
    return size && from % PAGE_BYTES == 0 && size % PAGE_BYTES == 0 && size <= max &&
           from <= max - size;
}

/* Regions come in the order of addresses and of offsets, and their offsets leave no gap: so none
 * overlaps another and they are all of RAM. */
static int check_region(const Ferry__SnapshotManifest *m, size_t i, uint64_t *offset, uint64_t *gpa,
                        struct err *err)
{
    const Ferry__SnapshotRegion *r = m->regions[i];
    if (!range_fits(r->gpa, r->size, 1ull << 52) || !range_fits(r->offset, r->size, m->ram_bytes))
        return err_set(err, EBADMSG, "region %zu (gpa 0x%llx, size 0x%llx, offset 0x%llx) %s", i,
                       (unsigned long long)r->gpa, (unsigned long long)r->size,
                       (unsigned long long)r->offset, "is not whole pages of the guest's RAM");
    if (r->gpa < *gpa)
        return err_set(err, EBADMSG, "region %zu overlaps or precedes the one before it", i);
    if (r->offset != *offset)
        return err_set(err, EBADMSG, "region %zu has the offset 0x%llx, not 0x%llx", i,
                       (unsigned long long)r->offset, (unsigned long long)*offset);
    *offset += r->size;
    *gpa = r->gpa + r->size;
    return 0;
}

static int check_memory(const Ferry__SnapshotManifest *m, struct err *err)
{
    uint64_t offset = 0, gpa = 0;
    int rc = 0;
    if (m->memory < FERRY__SNAPSHOT_MEMORY__SNAPSHOT_MEMORY_RAW_FULL ||
        m->memory > FERRY__SNAPSHOT_MEMORY__SNAPSHOT_MEMORY_PACKED_DIFF)
        return err_set(err, EBADMSG, "memory has the unknown kind %d", (int)m->memory);
    if (!range_fits(0, m->ram_bytes, SNAPSHOT_RAM_MAX))
        return err_set(err, EBADMSG, "ram_bytes is %llu: not whole pages, none, or over 1 TiB",
                       (unsigned long long)m->ram_bytes);
    if (m->n_regions == 0 || m->n_regions > SNAPSHOT_REGIONS_MAX)
        return err_set(err, EBADMSG, "regions has %zu entries, not 1 to %u", m->n_regions,
                       SNAPSHOT_REGIONS_MAX);
    for (size_t i = 0; rc == 0 && i < m->n_regions; i++)
        rc = check_region(m, i, &offset, &gpa, err);
    if (rc == 0 && offset != m->ram_bytes)
        rc = err_set(err, EBADMSG, "regions have 0x%llx bytes, but ram_bytes is 0x%llx",
                     (unsigned long long)offset, (unsigned long long)m->ram_bytes);
    return rc;
}

static bool check_disk(const Ferry__SnapshotManifest *m, uint64_t length)
{
    return length <= DISK_MAX;
}

static bool check_state(const Ferry__SnapshotManifest *m, uint64_t length)
{
    return length && length <= SNAPSHOT_STATE_MAX;
}

/* A frame that zstd cannot make smaller grows by less than a part in 128. */
static bool check_image(const Ferry__SnapshotManifest *m, uint64_t length)
{
    return manifest_is_packed(m)
               ? length <= m->ram_bytes + m->ram_bytes / 128 + manifest_chunks(m->ram_bytes) * 64
               : length == m->ram_bytes;
}

static bool check_pages(const Ferry__SnapshotManifest *m, uint64_t length)
{
    return manifest_has_pages(m) && length == (m->ram_bytes / PAGE_BYTES + 3) / 4;
}

static bool check_index(const Ferry__SnapshotManifest *m, uint64_t length)
{
    return manifest_is_packed(m) && length == manifest_chunks(m->ram_bytes) * SNAPSHOT_INDEX_ENTRY;
}

/* The files there are, and whether a length can be. */
static const struct file_rule {
    const char *name;
    bool (*length_fits)(const Ferry__SnapshotManifest *m, uint64_t length);
} file_rules[] = {
    {"state", check_state},
    {"memory", check_image},
    {"pages", check_pages},
    {"index", check_index},
};
#define FILE_RULES (sizeof(file_rules) / sizeof(file_rules[0]))

static const struct file_rule *find_rule(const char *name)
{
    static const struct file_rule disk = {"disk-", check_disk};
    for (size_t i = 0; i < FILE_RULES; i++)
        if (strcmp(file_rules[i].name, name) == 0)
            return &file_rules[i];
    return strncmp(name, "disk-", 5) == 0 && name_valid(name) ? &disk : NULL;
}

static int check_file(const Ferry__SnapshotManifest *m, size_t i, struct err *err)
{
    const Ferry__SnapshotFile *f = m->files[i];
    const struct file_rule *rule = find_rule(f->name);
    if (!rule)
        return err_set(err, EBADMSG, "files has '%.80s', which no snapshot has", f->name);
    for (size_t k = 0; k < i; k++)
        if (strcmp(m->files[k]->name, f->name) == 0)
            return err_set(err, EBADMSG, "files has '%s' twice", f->name);
    if (!rule->length_fits(m, f->length))
        return err_set(err, EBADMSG, "files: '%s' cannot have %llu bytes", f->name,
                       (unsigned long long)f->length);
    uint64_t covered = strcmp(f->name, "memory") == 0 ? m->ram_bytes : f->length;
    uint64_t want = 4 * manifest_chunks(covered);
    if (f->crc32c.len != want)
        return err_set(err, EBADMSG, "files: '%s' has %zu bytes of checksums, not %llu", f->name,
                       f->crc32c.len, (unsigned long long)want);
    return 0;
}

static int check_file_list(const Ferry__SnapshotManifest *m, struct err *err)
{
    const bool needed[FILE_RULES] = {true, true, manifest_has_pages(m), manifest_is_packed(m)};
    int rc = 0;
    if (m->n_files > SNAPSHOT_FILES_MAX)
        return err_set(err, EBADMSG, "files has %zu entries, at most %u", m->n_files,
                       SNAPSHOT_FILES_MAX);
    for (size_t i = 0; rc == 0 && i < m->n_files; i++)
        rc = check_file(m, i, err);
    for (size_t i = 0; rc == 0 && i < FILE_RULES; i++)
        if (needed[i] && !manifest_file(m, file_rules[i].name))
            rc = err_set(err, EBADMSG, "files lacks '%s'", file_rules[i].name);
    return rc;
}

int manifest_check(const Ferry__SnapshotManifest *m, struct err *err)
{
    static int (*const checks[])(const Ferry__SnapshotManifest *m, struct err *err) = {
        check_version, check_identity, check_cpu, check_memory, check_config, check_file_list,
    };
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < sizeof(checks) / sizeof(checks[0]); i++)
        rc = checks[i](m, err);
    return rc;
}
