/*
 * The snapshots in one directory: each a subdirectory under its name.
 *
 *     catalogue_begin   .tmp-UUID, locked ─► image.h fills it ─► catalogue_publish   NAME
 *                                                            └─► catalogue_abandon   gone
 *
 * A snapshot gets its name by one rename, after everything in it has been synced, and loses it by
 * one rename, before anything in it is removed. So at any moment, also after a kill or a power cut,
 * a name is a whole snapshot or is not there. What a dead writer left is removed by
 * catalogue_clean; what a living one still writes is not, because it holds the lock of its
 * directory, whoever has inherited it.
 *
 * Nothing is ever overwritten. Damage in one snapshot never hides another.
 *
 * A snapshot is its uuid, and its name is that of its directory. So one that was renamed by hand is
 * a snapshot like any other, and of several directories with one uuid only one is: the one with the
 * name in its manifest, else the first by name. The others are copies: shown as such, removable,
 * and nothing else.
 *
 * Functions may be called by several threads. What takes or gives names does so one at a time, so
 * that no parent goes while a child comes.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/name.h"
#include "base/uuid.h"
#include "proto/snapshot.pb-c.h"
#include "snapshot/fileio.h"

#define CATALOGUE_MAX 65536u

struct catalogue {
    int fd;                  /* borrowed: the directory */
    const struct fileio *io; /* borrowed */
};

struct catalogue_entry {
    char name[NAME_MAX_CHARS + 1];
    char vm_name[NAME_MAX_CHARS + 1];
    char parent_name[NAME_MAX_CHARS + 1]; /* of a diff: as it was called then */
    struct uuid uuid, vm_uuid, parent_uuid;
    bool has_parent;
    Ferry__SnapshotMemory memory;
    uint64_t wall_ns, ram_bytes;
    uint64_t disk_bytes; /* what it takes on disk */
    ssize_t parent;      /* its index in the list, -1 for none or one that is not there */
    char *problem;       /* owned; why it cannot be read, NULL when it can. Then only names count */
    bool has_uuid;       /* known: also of a damaged one, if its manifest is whole */
    bool renamed;        /* by hand: its manifest calls it otherwise, which does no harm */
    bool is_copy;        /* made by hand, of one that is in the list; has a problem */
};

struct catalogue_list {
    struct catalogue_entry *entries; /* owned; by name */
    size_t count, capacity;
};

/* A new directory for the snapshot with that uuid, locked through the descriptor it returns. */
int catalogue_begin(const struct catalogue *c, const struct uuid *uuid, struct err *err);

/* What catalogue_begin made goes away. */
int catalogue_abandon(const struct catalogue *c, const struct uuid *uuid, struct err *err);

/*
 * Reads the manifest (it may come from a worker that its guest took over), checks it against uuid,
 * name and the files, that the parent of a diff is there, and gives it its name. -EEXIST when the
 * name or the uuid is taken. After a failure nothing is published.
 */
/* Refuses a name that is taken, before anything is made for it; whether it still is free is looked
 * at again when it is given. */
int catalogue_check_free(const struct catalogue *c, const char *name, struct err *err);

int catalogue_publish(const struct catalogue *c, const struct uuid *uuid, const char *name,
                      struct err *err);

/* Directories that somebody still wrote; more than these wait for the next start. */
#define CATALOGUE_BUSY_MAX 256u
struct catalogue_busy {
    int fds[CATALOGUE_BUSY_MAX]; /* owned */
    unsigned count;
};

/* Removes what dead writers left. Only before there are writers here. `busy` may be NULL. */
int catalogue_clean(const struct catalogue *c, unsigned *removed, struct catalogue_busy *busy,
                    struct err *err);

/* Waits until nobody writes them any more, as long as that takes, and removes those too. [job] */
int catalogue_clean_busy(const struct catalogue *c, struct catalogue_busy *busy, struct err *err);

int catalogue_list(const struct catalogue *c, struct catalogue_list *list, struct err *err);
void catalogue_list_fini(struct catalogue_list *list);

const struct catalogue_entry *catalogue_find(const struct catalogue_list *list, const char *name);
const struct catalogue_entry *catalogue_find_uuid(const struct catalogue_list *list,
                                                  const struct uuid *uuid);

/* The uuid of a snapshot that a diff with so much RAM can stand on; says why there is none. */
int catalogue_find_parent(const struct catalogue *c, const char *name, uint64_t ram_bytes,
                          struct uuid *uuid, struct err *err);

/* Finds copies and each one's parent anew; catalogue_list has done it. A parent whose manifest
 * cannot be read has no uuid: then the name that its children knew decides. */
int catalogue_link(struct catalogue_list *list, struct err *err);

/* -EEXIST with a sentence when that entry is a copy. NULL is none. */
int catalogue_refuse_copy(const struct catalogue_entry *entry, struct err *err);

/* A descriptor of the snapshot's directory. */
int catalogue_open(const struct catalogue *c, const char *name, struct err *err);

/* The same, but of no copy. */
int catalogue_open_own(const struct catalogue *c, const char *name, struct err *err);

/* Descriptors of it and of all that it needs, the full one first; how many. */
int catalogue_open_chain(const struct catalogue *c, const char *name, int *fds, unsigned max,
                         struct err *err);

/* Names that went, in that order; count is also right after a failure. */
struct catalogue_removed {
    char (*names)[NAME_MAX_CHARS + 1]; /* owned */
    size_t count;
};
void catalogue_removed_fini(struct catalogue_removed *removed);

/* -EBUSY with their names when others need it; with_children removes those first. `removed` may be
 * NULL; else it is filled in, also when it fails, and freed by the caller. */
int catalogue_rm(const struct catalogue *c, const char *name, bool with_children,
                 struct catalogue_removed *removed, struct err *err);

/*
 * Chooses (under the lock, as nothing comes or goes meanwhile) which to remove: fills `order` with
 * indices, children before parents, and returns how many, or -errno.
 */
typedef ssize_t catalogue_choose(void *ctx, const struct catalogue_list *list, size_t *order,
                                 struct err *err);

/* Lists, asks and removes; the list stays the caller's, to say more about it. */
int catalogue_rm_chosen(const struct catalogue *c, catalogue_choose *choose, void *ctx,
                        struct catalogue_list *list, struct catalogue_removed *removed,
                        struct err *err);
