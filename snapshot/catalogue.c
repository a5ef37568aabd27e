/* See catalogue.h. How snapshots come; how they go: catalogue_rm.c. */
#include "snapshot/catalogue.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fs.h"
#include "snapshot/catalogue_names.h"
#include "snapshot/manifest.h"

void catalogue_temp_name(const struct uuid *uuid, char name[CATALOGUE_TEMP_SIZE])
{
    char text[UUID_TEXT_SIZE];
    uuid_format(uuid, text);
    snprintf(name, CATALOGUE_TEMP_SIZE, CATALOGUE_TEMP_PREFIX "%s", text);
}

static int open_dir(const struct catalogue *c, const char *name)
{
    const int flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
    int fd = openat(c->fd, name, flags);
    return fd < 0 ? -errno : fd;
}

int catalogue_begin(const struct catalogue *c, const struct uuid *uuid, struct err *err)
{
    char name[CATALOGUE_TEMP_SIZE];
    catalogue_temp_name(uuid, name);
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
    char name[CATALOGUE_TEMP_SIZE];
    catalogue_temp_name(uuid, name);
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
int catalogue_lock_names(const struct catalogue *c, struct err *err)
{
    CLEAN(clean_fd) int fd = open_dir(c, ".");
    if (fd < 0 || flock(fd, LOCK_EX) < 0)
        return err_sys(err, fd < 0 ? -fd : errno, "cannot lock the directory of snapshots");
    return steal_fd(&fd);
}

int catalogue_check_free(const struct catalogue *c, const char *name, struct err *err)
{
    struct stat st;
    if (fstatat(c->fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return errno == ENOENT ? 0 : err_sys(err, errno, "cannot look for snapshot '%s'", name);
    return err_set(err, EEXIST, "snapshot '%s': there is %s of that name", name,
                   S_ISDIR(st.st_mode) ? "a snapshot" : "something else");
}

static int publish(const struct catalogue *c, const struct uuid *uuid, const char *name,
                   struct err *err)
{
    char temp[CATALOGUE_TEMP_SIZE];
    int rc = name_check(name, "the snapshot's name", err);
    if (rc < 0)
        return rc;
    catalogue_temp_name(uuid, temp);
    CLEAN(clean_fd) int fd = open_dir(c, temp);
    if (fd < 0)
        return err_sys(err, -fd, "cannot open '%s'", temp);
    CLEAN(clean_manifest) Ferry__SnapshotManifest *m = manifest_read(fd, err);
    if (!m)
        return -err->code;
    rc = manifest_check_files(fd, m, err);
    if (rc == 0)
        rc = fileio_sync(c->io, fd, temp, err);
    CLEAN(clean_fd) int lock = rc < 0 ? rc : catalogue_lock_names(c, err);
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

/* 1 when it was removed, 0 when somebody has it locked: then it is in `busy`. */
static int clean_one(const struct catalogue *c, const char *name, struct catalogue_busy *busy,
                     struct err *err)
{
    CLEAN(clean_fd) int fd = open_dir(c, name);
    if (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) < 0) {
        if (busy && busy->count < CATALOGUE_BUSY_MAX)
            busy->fds[busy->count++] = steal_fd(&fd);
        return 0;
    }
    int rc = fs_remove_tree(c->fd, name, err);
    return rc < 0 ? rc : 1;
}

int catalogue_clean(const struct catalogue *c, unsigned *removed, struct catalogue_busy *busy,
                    struct err *err)
{
    int fd = openat(c->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), rc = 0;
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    *removed = 0;
    if (busy)
        busy->count = 0;
    if (!dir) {
        clean_fd(&fd);
        return err_sys(err, errno, "cannot list the snapshots");
    }
    for (struct dirent *e; rc >= 0 && (e = readdir(dir));) {
        if (strncmp(e->d_name, CATALOGUE_TEMP_PREFIX, strlen(CATALOGUE_TEMP_PREFIX)) != 0)
            continue;
        rc = clean_one(c, e->d_name, busy, err);
        *removed += rc > 0;
    }
    closedir(dir);
    return rc < 0 ? rc : 0;
}

/* The directory may be gone, or have a name by now: what counts is what the descriptor is. */
static int clean_open(const struct catalogue *c, int dirfd, struct err *err)
{
    struct stat here, there;
    int fd = openat(c->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), rc = 0;
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    if (!dir || fstat(dirfd, &here) < 0) {
        rc = err_sys(err, errno, "cannot list the snapshots");
        dir ? (void)closedir(dir) : clean_fd(&fd);
        return rc;
    }
    for (struct dirent *e; rc == 0 && (e = readdir(dir));)
        if (strncmp(e->d_name, CATALOGUE_TEMP_PREFIX, strlen(CATALOGUE_TEMP_PREFIX)) == 0 &&
            fstatat(c->fd, e->d_name, &there, AT_SYMLINK_NOFOLLOW) == 0 &&
            there.st_ino == here.st_ino && there.st_dev == here.st_dev)
            rc = fs_remove_tree(c->fd, e->d_name, err);
    closedir(dir);
    return rc;
}

int catalogue_clean_busy(const struct catalogue *c, struct catalogue_busy *busy, struct err *err)
{
    struct err later;
    int rc = 0;
    while (busy->count) {
        int *fd = &busy->fds[--busy->count];
        while (flock(*fd, LOCK_EX) < 0 && errno == EINTR)
            ;
        int failed = clean_open(c, *fd, rc < 0 ? &later : err);
        rc = rc < 0 ? rc : failed;
        clean_fd(fd);
    }
    return rc;
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
