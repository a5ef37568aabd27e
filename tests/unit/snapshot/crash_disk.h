/*
 * A disk that remembers every call made through its fileio (and every unlinkat), and can then say
 * what may be left of them after a power cut behind any of them.
 *
 *     crash_disk_begin ─► the calls ─► crash_disk_end
 *     crash_disk_step, until it says false: one call more has been made
 *         crash_disk_leave   what one power cut at this moment leaves, as a directory
 *
 * What was synced is there: a file's bytes and length by a sync of the file, names by a sync of
 * their directory. Of all else any part may be there, in no order: each write whole, not at all,
 * sector by sector, or as rubbish of the right length; each size, hole, new name, rename and
 * removal or not. Seed 0 loses all of it, seed 1 nothing (a killed process), every other seed
 * chooses.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "snapshot/fileio.h"

#define CRASH_NAME 80
#define CRASH_NODES 400
#define CRASH_ENTRIES 16

enum crash_kind {
    CRASH_WRITE,
    CRASH_TRUNCATE,
    CRASH_PUNCH,
    CRASH_SYNC,
    CRASH_LINK,
    CRASH_RENAME,
    CRASH_UNLINK,
};

struct crash_op {
    enum crash_kind kind;
    unsigned node;  /* the file or directory that it changes */
    unsigned child; /* of CRASH_LINK */
    uint64_t offset, length;
    uint8_t *data; /* owned; of CRASH_WRITE */
    char name[CRASH_NAME], to[CRASH_NAME];
};

struct crash_entry {
    char name[CRASH_NAME];
    unsigned node;
};

/* As it is on the disk for certain, and which calls are not. */
struct crash_node {
    ino_t ino;
    bool is_dir;
    uint8_t *data; /* owned; of a file */
    size_t size;
    struct crash_entry entries[CRASH_ENTRIES]; /* of a directory */
    unsigned count;
    unsigned *pending, npending; /* owned; indices of calls */
};

struct crash_disk {
    struct fileio io;
    struct crash_node nodes[CRASH_NODES]; /* 0 is the directory itself */
    unsigned nnodes;
    struct crash_op *ops; /* owned */
    unsigned nops, step;
};

/* What `dirfd` holds now is on the disk for certain. One disk records at a time. */
void crash_disk_begin(struct crash_disk *d, int dirfd);
void crash_disk_end(struct crash_disk *d);
void crash_disk_fini(struct crash_disk *d);

bool crash_disk_step(struct crash_disk *d);

/* Fills the empty directory `dirfd`. */
void crash_disk_leave(const struct crash_disk *d, uint64_t seed, int dirfd);
