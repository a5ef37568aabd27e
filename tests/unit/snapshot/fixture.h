/*
 * A catalogue in a directory of its own, snapshots of small RAM in it, and a disk whose N-th call
 * fails, writes half of it, or is the last one of the process.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "snapshot/catalogue.h"
#include "snapshot/fileio.h"
#include "snapshot/image.h"
#include "snapshot/manifest.h"

#define FIXTURE_PAGES (2 * 256 + 5u) /* two chunks and a short one */
#define FIXTURE_RAM (FIXTURE_PAGES * 4096u)

/* Kinds of calls. */
#define DISK_OPEN 0x01u
#define DISK_MAKE_DIR 0x02u
#define DISK_WRITE 0x04u
#define DISK_TRUNCATE 0x08u
#define DISK_PUNCH 0x10u
#define DISK_SYNC 0x20u
#define DISK_RENAME 0x40u
#define DISK_REMOVE 0x80u
#define DISK_ALL 0xffu

enum disk_fault { DISK_FAIL, DISK_DIE, DISK_DIE_HALF };

struct disk {
    struct fileio io;
    unsigned kinds; /* what counts */
    unsigned at;    /* which of them is hit, from 1; 0 for none */
    enum disk_fault fault;
    int code; /* of DISK_FAIL */
    unsigned count;
    char log[1 << 16]; /* one line a call: "sync memory" */
    size_t hit;        /* where in the log the call is that failed */
};

struct fixture {
    char root[64];
    int dir;
    struct disk disk;
    struct catalogue catalogue;
    uint8_t *ram; /* FIXTURE_RAM */
};

int fixture_setup(void **state);
int fixture_teardown(void **state);

/* Page i gets a byte pattern that depends on i and seed; seed 0 makes it zero. */
void fixture_fill(struct fixture *f, unsigned page, unsigned count, unsigned seed);

/* A manifest that lacks only what image_finish gives. `parent` NULL for a full one. */
struct fixture_manifest {
    Ferry__SnapshotManifest m;
    Ferry__SnapshotRef parent;
    Ferry__SnapshotRegion regions[2], *region_list[2];
    Ferry__MachineConfig config;
    Ferry__SnapshotCpu cpu;
    uint8_t uuid[16], parent_uuid[16], vm_uuid[16];
};
void fixture_manifest(struct fixture_manifest *fm, const char *name, unsigned id,
                      const char *parent, unsigned parent_id);

/* uuid number `id`. */
struct uuid fixture_uuid(unsigned id);

/*
 * Takes a snapshot of f->ram. For a diff, `base` is the parent's RAM and only what differs is
 * written. Returns 0 or -errno; what failed is removed as a caller would.
 */
int fixture_take(struct fixture *f, const char *name, unsigned id, Ferry__SnapshotMemory memory,
                 const char *parent, unsigned parent_id, const uint8_t *base, struct err *err);

/* The same with the image's own calls left to the caller: the directory, locked. */
int fixture_begin(struct fixture *f, unsigned id, Ferry__SnapshotMemory memory,
                  struct image_writer *w, int *dirfd, struct err *err);

/* A file of a snapshot as a whole; *len of it. Freed by the caller. */
uint8_t *fixture_load(const struct fixture *f, const char *name, const char *file, size_t *len);
void fixture_store(const struct fixture *f, const char *name, const char *file, const void *data,
                   size_t len);

/* Flips one bit of a file in place. */
void fixture_flip(const struct fixture *f, const char *name, const char *file, uint64_t offset,
                  unsigned bit);

/* Entries of the catalogue's directory, those of `prefix`. */
unsigned fixture_count(const struct fixture *f, const char *prefix);
