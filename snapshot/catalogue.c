/* See catalogue.h. How snapshots come and go; how they are found: catalogue_list.c. */
#include "snapshot/catalogue.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fs.h"
#include "snapshot/manifest.h"

#define TEMP_PREFIX ".tmp-"
#define TEMP_SIZE (sizeof(TEMP_PREFIX) + UUID_TEXT_SIZE)

static void temp_name(const struct uuid *uuid, char name[TEMP_SIZE])
{
    char text[UUID_TEXT_SIZE];
    uuid_format(uuid, text);
    snprintf(name, TEMP_SIZE, TEMP_PREFIX "%s", text);
}

static int open_dir(const struct catalogue *c, const char *name)
{
    const int flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
    int fd = openat(c->fd, name, flags);
    return fd < 0 ? -errno : fd;
}

int catalogue_begin(const struct catalogue *c, const struct uuid *uuid, struct err *err)
{
    char name[TEMP_SIZE];
    temp_name(uuid, name);
    int rc = c->io->make_dir(c->io->ctx, c->fd, name, 0700);
    if (rc < 0)
        return err_sys(err, -rc, "cannot make '%s'", name);
    CLEAN(clean_fd) int fd = open_dir(c, name);
    if (fd < 0)
        return err_sys(err, -fd, "cannot open '%s'", name);
    if (flock(fd, LOCK_EX | LOCK_NB) < 0)
        return err_sys(err, errno, "cannot lock '%s'", name);
    return steal_fd(&fd);
}

int catalogue_abandon(const struct catalogue *c, const struct uuid *uuid, struct err *err)
{
    char name[TEMP_SIZE];
    temp_name(uuid, name);
    return fs_remove_tree(c->fd, name, err);
}

/* Steps from an entry to its full one; more than there may be for a circle. */
static unsigned depth_of(const struct catalogue_list *list, const struct catalogue_entry *e)
{
    unsigned depth = 1;
    for (; e->parent >= 0 && depth <= SNAPSHOT_CHAIN_MAX; depth++)
        e = &list->entries[e->parent];
    return depth;
}

static int check_below(const struct catalogue_list *list, const struct catalogue_entry *parent,
                       uint64_t ram_bytes, struct err *err)
{
    if (parent->ram_bytes != ram_bytes)
        return err_set(err, EINVAL, "its parent '%s' has another size of RAM", parent->name);
    if (depth_of(list, parent) >= SNAPSHOT_CHAIN_MAX)
        return err_set(err, ELOOP, "its parent '%s' is the end of a chain of %u: take a full one",
                       parent->name, SNAPSHOT_CHAIN_MAX);
    return 0;
}

static int check_parent(const struct catalogue_list *list, const Ferry__SnapshotManifest *m,
                        struct err *err)
{
    struct uuid uuid;
    manifest_uuid(&m->parent->uuid, &uuid);
    const struct catalogue_entry *parent = catalogue_find_uuid(list, &uuid);
    if (!parent)
        return err_set(err, ENOENT, "its parent '%s' is not there", m->parent->name);
    return check_below(list, parent, m->ram_bytes, err);
}

int catalogue_find_parent(const struct catalogue *c, const char *name, uint64_t ram_bytes,
                          struct uuid *uuid, struct err *err)
{
    struct catalogue_list list = {0};
    int rc = catalogue_list(c, &list, err);
    const struct catalogue_entry *parent = rc == 0 ? catalogue_find(&list, name) : NULL;
    if (rc == 0 && !parent)
        rc = err_set(err, ENOENT, "there is no snapshot '%s'", name);
    if (rc == 0 && parent->problem)
        rc = err_set(err, EBADMSG, "snapshot '%s' is damaged: %.300s", name, parent->problem);
    if (rc == 0)
        rc = check_below(&list, parent, ram_bytes, err);
    if (rc == 0)
        *uuid = parent->uuid;
    catalogue_list_fini(&list);
    return rc;
}

static int check_place(const struct catalogue *c, const Ferry__SnapshotManifest *m,
                       const struct uuid *uuid, const char *name, struct err *err)
{
    struct catalogue_list list = {0};
    struct uuid own;
    manifest_uuid(&m->uuid, &own);
    if (memcmp(&own, uuid, sizeof(own)) != 0 || strcmp(m->name, name) != 0)
        return err_set(err, EBADMSG, "its manifest is that of another snapshot, '%s'", m->name);
    int rc = catalogue_list(c, &list, err);
    const struct catalogue_entry *other = catalogue_find_uuid(&list, uuid);
    if (rc == 0 && catalogue_find(&list, name))
        rc = err_set(err, EEXIST, "there is a snapshot of that name");
    if (rc == 0 && other)
        rc = err_set(err, EEXIST, "it is there already, as '%s'", other->name);
    if (rc == 0 && m->parent)
        rc = check_parent(&list, m, err);
    catalogue_list_fini(&list);
    return rc;
}

/* The rename, and a sync of it. A name whose sync failed is taken back: who is told of a failure
 * must not find a snapshot. */
static int give_name(const struct catalogue *c, const char *temp, const char *name, struct err *err)
{
    int rc = c->io->rename(c->io->ctx, c->fd, temp, name);
    if (rc == -EEXIST || rc == -ENOTEMPTY)
        return err_set(err, EEXIST, "there is a snapshot of that name");
    if (rc < 0)
        return err_sys(err, -rc, "cannot rename '%s'", temp);
    rc = fileio_sync(c->io, c->fd, "the directory of snapshots", err);
    if (rc < 0)
        (void)c->io->rename(c->io->ctx, c->fd, name, temp);
    return rc;
}

/* Who comes and who goes look at the others first: one at a time, or a child is named while its
 * parent goes. A descriptor that holds the lock, of its own, because those of one opening share it.
 */
static int lock_names(const struct catalogue *c, struct err *err)
{
    CLEAN(clean_fd) int fd = open_dir(c, ".");
    if (fd < 0 || flock(fd, LOCK_EX) < 0)
        return err_sys(err, fd < 0 ? -fd : errno, "cannot lock the directory of snapshots");
    return steal_fd(&fd);
}

static int publish(const struct catalogue *c, const struct uuid *uuid, const char *name,
                   struct err *err)
{
    char temp[TEMP_SIZE];
    int rc = name_check(name, "the snapshot's name", err);
    if (rc < 0)
        return rc;
    temp_name(uuid, temp);
    CLEAN(clean_fd) int fd = open_dir(c, temp);
    if (fd < 0)
        return err_sys(err, -fd, "cannot open '%s'", temp);
    CLEAN(clean_manifest) Ferry__SnapshotManifest *m = manifest_read(fd, err);
    if (!m)
        return -err->code;
    rc = manifest_check_files(fd, m, err);
    if (rc == 0)
        rc = fileio_sync(c->io, fd, temp, err);
    CLEAN(clean_fd) int lock = rc < 0 ? rc : lock_names(c, err);
    if (lock < 0)
        return lock;
    rc = check_place(c, m, uuid, name, err);
    return rc < 0 ? rc : give_name(c, temp, name, err);
}

int catalogue_publish(const struct catalogue *c, const struct uuid *uuid, const char *name,
                      struct err *err)
{
    int rc = publish(c, uuid, name, err);
    return rc < 0 ? err_wrap(err, "snapshot '%.80s'", name) : 0;
}

/* 1 when it was removed, 0 when somebody has it locked. */
static int clean_one(const struct catalogue *c, const char *name, struct err *err)
{
    CLEAN(clean_fd) int fd = open_dir(c, name);
    if (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) < 0)
        return 0;
    int rc = fs_remove_tree(c->fd, name, err);
    return rc < 0 ? rc : 1;
}

int catalogue_clean(const struct catalogue *c, unsigned *removed, unsigned *busy, struct err *err)
{
    unsigned counts[2] = {0};
    int fd = openat(c->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), rc = 0;
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    if (!dir) {
        clean_fd(&fd);
        return err_sys(err, errno, "cannot list the snapshots");
    }
    for (struct dirent *e; rc >= 0 && (e = readdir(dir));) {
        if (strncmp(e->d_name, TEMP_PREFIX, strlen(TEMP_PREFIX)) != 0)
            continue;
        rc = clean_one(c, e->d_name, err);
        if (rc >= 0)
            counts[rc]++;
    }
    closedir(dir);
    if (removed)
        *removed = counts[1];
    if (busy)
        *busy = counts[0];
    return rc < 0 ? rc : 0;
}

int catalogue_open(const struct catalogue *c, const char *name, struct err *err)
{
    int rc = name_check(name, "the snapshot's name", err);
    if (rc < 0)
        return rc;
    int fd = open_dir(c, name);
    if (fd == -ENOENT)
        return err_set(err, ENOENT, "there is no snapshot '%s'", name);
    return fd < 0 ? err_sys(err, -fd, "cannot open snapshot '%s'", name) : fd;
}

/* Its name goes first, so that a half removed one is never seen. */
static int remove_one(const struct catalogue *c, const char *name, struct err *err)
{
    struct uuid fresh;
    char temp[TEMP_SIZE];
    int rc = uuid_make(&fresh, err);
    if (rc < 0)
        return rc;
    temp_name(&fresh, temp);
    rc = c->io->rename(c->io->ctx, c->fd, name, temp);
    if (rc < 0)
        return err_sys(err, -rc, "cannot remove snapshot '%s'", name);
    rc = fileio_sync(c->io, c->fd, "the directory of snapshots", err);
    if (rc < 0) {
        (void)c->io->rename(c->io->ctx, c->fd, temp, name);
        return err_wrap(err, "cannot remove snapshot '%s'", name);
    }
    return fs_remove_tree(c->fd, temp, err);
}

static void append_name(char *names, size_t size, const char *name)
{
    size_t used = strlen(names);
    if (used + strlen(name) + 8 < size)
        snprintf(names + used, size - used, "%s%s", used ? ", " : "", name);
    else if (used + 6 < size && (used < 3 || strcmp(names + used - 3, "...") != 0))
        snprintf(names + used, size - used, ", ...");
}

static int refuse_needed(const struct catalogue_list *list, const struct catalogue_entry *entry,
                         struct err *err)
{
    char names[300] = "";
    for (size_t i = 0; i < list->count; i++)
        if (list->entries[i].parent == entry - list->entries)
            append_name(names, sizeof(names), list->entries[i].name);
    if (names[0])
        return err_set(err, EBUSY, "snapshot '%s' is needed by %s", entry->name, names);
    return 0;
}

/* Marks an entry and all that needs it; what is marked already has been seen. */
static void mark_family(const struct catalogue_list *list, size_t entry, bool *marked)
{
    marked[entry] = true;
    for (bool more = true; more;) {
        more = false;
        for (size_t i = 0; i < list->count; i++) {
            ssize_t parent = list->entries[i].parent;
            if (!marked[i] && parent >= 0 && marked[parent])
                more = marked[i] = true;
        }
    }
}

/* One that is marked and that no other marked one needs; -1 for none. In a circle, which only a
 * forged catalogue has, any is as good as the other. */
static ssize_t next_leaf(const struct catalogue_list *list, const bool *marked)
{
    ssize_t some = -1;
    for (size_t i = 0; i < list->count; i++) {
        bool needed = false;
        for (size_t k = 0; marked[i] && !needed && k < list->count; k++)
            needed = marked[k] && list->entries[k].parent == (ssize_t)i;
        if (marked[i] && !needed)
            return (ssize_t)i;
        if (marked[i])
            some = (ssize_t)i;
    }
    return some;
}

static int remove_family(const struct catalogue *c, const struct catalogue_list *list, size_t entry,
                         struct err *err)
{
    CLEAN(clean_free) bool *marked = calloc(list->count, sizeof(*marked));
    int rc = 0;
    if (!marked)
        return err_set(err, ENOMEM, "no memory to remove snapshots with");
    mark_family(list, entry, marked);
    for (ssize_t i; rc == 0 && (i = next_leaf(list, marked)) >= 0;) {
        rc = remove_one(c, list->entries[i].name, err);
        marked[i] = false;
    }
    return rc;
}

int catalogue_rm(const struct catalogue *c, const char *name, bool with_children, struct err *err)
{
    struct catalogue_list list = {0};
    int rc = name_check(name, "the snapshot's name", err);
    CLEAN(clean_fd) int lock = rc < 0 ? rc : lock_names(c, err);
    if (lock < 0)
        return lock;
    rc = catalogue_list(c, &list, err);
    const struct catalogue_entry *entry = rc == 0 ? catalogue_find(&list, name) : NULL;
    if (rc == 0 && !entry)
        rc = err_set(err, ENOENT, "there is no snapshot '%s'", name);
    if (rc == 0 && !with_children)
        rc = refuse_needed(&list, entry, err);
    if (rc == 0)
        rc = remove_family(c, &list, (size_t)(entry - list.entries), err);
    catalogue_list_fini(&list);
    return rc;
}
