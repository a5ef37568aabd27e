/*
 * make-snapshot CATALOGUE NAME VM ID MIB AGE-SECONDS [PARENT PARENT-ID]
 *
 * A snapshot without any guest, for tests of what is done with snapshots: its RAM is made of ID, so
 * that a diff differs from its parent in one page of four, and packs badly, so that a stream of it
 * is about as long as the RAM.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/now.h"
#include "snapshot/catalogue.h"
#include "snapshot/image.h"

struct made {
    Ferry__SnapshotManifest m;
    Ferry__SnapshotRef parent;
    Ferry__SnapshotRegion region, *regions[1];
    Ferry__MachineConfig config;
    Ferry__SnapshotCpu cpu;
    uint8_t uuid[16], parent_uuid[16], vm_uuid[16];
};

static void describe(struct made *d, char **argv, const char *parent, const char *parent_id)
{
    uint64_t bytes = strtoull(argv[5], NULL, 10) << 20;
    ferry__snapshot_manifest__init(&d->m);
    ferry__snapshot_ref__init(&d->parent);
    ferry__snapshot_region__init(&d->region);
    ferry__machine_config__init(&d->config);
    ferry__snapshot_cpu__init(&d->cpu);
    memset(d->uuid, atoi(argv[4]), 16);
    memset(d->parent_uuid, parent ? atoi(parent_id) : 0, 16);
    memset(d->vm_uuid, argv[3][0], 16);
    d->m.name = argv[2];
    d->m.uuid = (ProtobufCBinaryData){16, d->uuid};
    d->m.release = (char *)"test";
    d->m.wall_ns = now_wall_ns() - strtoull(argv[6], NULL, 10) * 1000000000u;
    d->parent.name = (char *)(uintptr_t)parent;
    d->parent.uuid = (ProtobufCBinaryData){16, d->parent_uuid};
    d->m.parent = parent ? &d->parent : NULL;
    d->region.size = bytes;
    d->regions[0] = &d->region;
    d->m.regions = d->regions;
    d->m.n_regions = 1;
    d->config.name = argv[3];
    d->config.uuid = (ProtobufCBinaryData){16, d->vm_uuid};
    d->config.memory_bytes = bytes;
    d->config.cpus = 1;
    d->config.kernel = (char *)"/boot/vmlinux";
    d->m.config = &d->config;
    d->cpu.vendor = (char *)"GenuineIntel";
    d->cpu.features = (char *)"sse2";
    d->m.cpu = &d->cpu;
}

static int write_pages(struct image_writer *w, uint64_t bytes, unsigned id, bool diff,
                       struct err *err)
{
    uint64_t page[512], seed = 0x9e3779b97f4a7c15ull * id;
    int rc = 0;
    for (uint64_t at = 0; rc == 0 && at < bytes; at += sizeof(page)) {
        if (diff && at / sizeof(page) % 4)
            continue;
        for (unsigned i = 0; i < 512; i++) {
            seed = seed * 6364136223846793005ull + 1442695040888963407ull;
            page[i] = seed ^ seed >> 29;
        }
        rc = at / sizeof(page) % 8 == 5 ? image_write_zero(w, at, sizeof(page), err)
                                        : image_write_pages(w, at, page, sizeof(page), err);
    }
    return rc;
}

static int make(const struct catalogue *c, struct made *d, unsigned id, struct err *err)
{
    struct image_writer w = {.raw_fd = -1, .state_fd = -1};
    struct image_totals totals;
    struct uuid uuid;
    memcpy(uuid.bytes, d->uuid, 16);
    CLEAN(clean_fd) int dirfd = catalogue_begin(c, &uuid, err);
    const struct image_options options = {
        .io = &fileio_system,
        .dirfd = dirfd,
        .ram_bytes = d->region.size,
        .memory = d->m.parent ? FERRY__SNAPSHOT_MEMORY__SNAPSHOT_MEMORY_RAW_DIFF
                              : FERRY__SNAPSHOT_MEMORY__SNAPSHOT_MEMORY_RAW_FULL};
    int rc = dirfd < 0 ? dirfd : image_begin(&w, &options, err);
    if (rc == 0)
        rc = write_pages(&w, d->region.size, id, d->m.parent != NULL, err);
    if (rc == 0)
        rc = image_write_state(&w, d->m.name, strlen(d->m.name), err);
    if (rc == 0)
        rc = image_finish(&w, &d->m, &totals, err);
    image_abandon(&w);
    return rc < 0 ? rc : catalogue_publish(c, &uuid, d->m.name, err);
}

int main(int argc, char **argv)
{
    struct made d;
    struct err err;
    if (argc != 7 && argc != 9)
        return 2;
    (void)mkdir(argv[1], 0700);
    CLEAN(clean_fd) int fd = open(argv[1], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    const struct catalogue c = {.fd = fd, .io = &fileio_system};
    describe(&d, argv, argc == 9 ? argv[7] : NULL, argc == 9 ? argv[8] : NULL);
    if (fd < 0 || make(&c, &d, (unsigned)atoi(argv[4]), &err) < 0) {
        fprintf(stderr, "make-snapshot: %s\n", fd < 0 ? argv[1] : err.text);
        return 1;
    }
    return 0;
}
