/* What is in a catalogue, read anew each time: files are the only truth. See catalogue.h. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "snapshot/catalogue.h"
#include "snapshot/manifest.h"

void catalogue_list_fini(struct catalogue_list *list)
{
    for (size_t i = 0; i < list->count; i++)
        free(list->entries[i].problem);
    free(list->entries);
    *list = (struct catalogue_list){0};
}

static void take_manifest(struct catalogue_entry *e, const Ferry__SnapshotManifest *m)
{
    snprintf(e->vm_name, sizeof(e->vm_name), "%s", m->config->name);
    manifest_uuid(&m->uuid, &e->uuid);
    manifest_uuid(&m->config->uuid, &e->vm_uuid);
    e->memory = m->memory;
    e->wall_ns = m->wall_ns;
    e->ram_bytes = m->ram_bytes;
    e->has_parent = m->parent != NULL;
    if (m->parent) {
        snprintf(e->parent_name, sizeof(e->parent_name), "%s", m->parent->name);
        manifest_uuid(&m->parent->uuid, &e->parent_uuid);
    }
}

/* Room of its files, holes not counted. */
static uint64_t disk_bytes(int dirfd)
{
    uint64_t bytes = 0;
    struct stat st;
    int fd = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    if (!dir) {
        clean_fd(&fd);
        return 0;
    }
    for (struct dirent *e; (e = readdir(dir));)
        if (strcmp(e->d_name, "..") != 0 &&
            fstatat(dirfd, e->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0)
            bytes += (uint64_t)st.st_blocks * 512;
    closedir(dir);
    return bytes;
}

static int read_entry(int dirfd, struct catalogue_entry *e, struct err *err)
{
    CLEAN(clean_manifest) Ferry__SnapshotManifest *m = manifest_read(dirfd, err);
    if (!m)
        return -err->code;
    if (strcmp(m->name, e->name) != 0)
        return err_set(err, EBADMSG, "its manifest is that of '%s'", m->name);
    take_manifest(e, m);
    return manifest_check_files(dirfd, m, err);
}

static struct catalogue_entry *add_entry(struct catalogue_list *list, const char *name)
{
    if (list->count == list->capacity) {
        size_t capacity = list->capacity ? 2 * list->capacity : 64;
        struct catalogue_entry *entries = realloc(list->entries, capacity * sizeof(*entries));
        if (!entries)
            return NULL;
        list->entries = entries;
        list->capacity = capacity;
    }
    struct catalogue_entry *e = &list->entries[list->count];
    *e = (struct catalogue_entry){0};
    snprintf(e->name, sizeof(e->name), "%s", name);
    return e;
}

/* What is no directory with a name is not a snapshot, and nobody's business. */
static int list_one(const struct catalogue *c, const char *name, struct catalogue_list *list,
                    struct err *err)
{
    struct err problem = {0};
    if (!name_valid(name))
        return 0;
    CLEAN(clean_fd)
    int fd = openat(c->fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 && (errno == ENOTDIR || errno == ELOOP || errno == ENOENT))
        return 0;
    if (fd < 0)
        return err_sys(err, errno, "cannot open snapshot '%s'", name);
    if (list->count >= CATALOGUE_MAX)
        return err_set(err, EMFILE, "there are more than %u snapshots", CATALOGUE_MAX);
    struct catalogue_entry *e = add_entry(list, name);
    if (!e)
        return err_set(err, ENOMEM, "no memory to list the snapshots with");
    e->disk_bytes = disk_bytes(fd);
    if (read_entry(fd, e, &problem) < 0 && !(e->problem = strdup(problem.text)))
        return err_set(err, ENOMEM, "no memory to list the snapshots with");
    list->count++;
    return 0;
}

static int by_name(const void *a, const void *b)
{
    const struct catalogue_entry *x = a, *y = b;
    return strcmp(x->name, y->name);
}

int catalogue_list(const struct catalogue *c, struct catalogue_list *list, struct err *err)
{
    *list = (struct catalogue_list){0};
    int fd = openat(c->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), rc = 0;
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    if (!dir) {
        clean_fd(&fd);
        return err_sys(err, errno, "cannot list the snapshots");
    }
    for (struct dirent *e; rc == 0 && (e = readdir(dir));)
        rc = list_one(c, e->d_name, list, err);
    closedir(dir);
    if (rc == 0 && list->count)
        qsort(list->entries, list->count, sizeof(*list->entries), by_name);
    if (rc == 0)
        rc = catalogue_link(list, err);
    if (rc < 0)
        catalogue_list_fini(list);
    return rc;
}

const struct catalogue_entry *catalogue_find(const struct catalogue_list *list, const char *name)
{
    for (size_t i = 0; i < list->count; i++)
        if (strcmp(list->entries[i].name, name) == 0)
            return &list->entries[i];
    return NULL;
}

const struct catalogue_entry *catalogue_find_uuid(const struct catalogue_list *list,
                                                  const struct uuid *uuid)
{
    for (size_t i = 0; i < list->count; i++)
        if (!list->entries[i].problem && memcmp(&list->entries[i].uuid, uuid, sizeof(*uuid)) == 0)
            return &list->entries[i];
    return NULL;
}

static int by_uuid(const void *a, const void *b)
{
    const struct catalogue_entry *const *x = a, *const *y = b;
    return memcmp(&(*x)->uuid, &(*y)->uuid, sizeof((*x)->uuid));
}

static ssize_t find_parent(const struct catalogue_list *list, const struct catalogue_entry *child,
                           const struct catalogue_entry **sorted)
{
    const struct catalogue_entry key = {.uuid = child->parent_uuid}, *wanted = &key;
    const struct catalogue_entry **found =
        bsearch(&wanted, sorted, list->count, sizeof(*sorted), by_uuid);
    const struct catalogue_entry *parent = found ? *found : NULL;
    if (!parent) {
        parent = catalogue_find(list, child->parent_name);
        if (!parent || !parent->problem)
            return -1;
    }
    return parent == child ? -1 : parent - list->entries;
}

int catalogue_link(struct catalogue_list *list, struct err *err)
{
    CLEAN(clean_free)
    const struct catalogue_entry **sorted = calloc(list->count + 1, sizeof(*sorted));
    if (!sorted)
        return err_set(err, ENOMEM, "no memory to list the snapshots with");
    for (size_t i = 0; i < list->count; i++)
        sorted[i] = &list->entries[i];
    qsort(sorted, list->count, sizeof(*sorted), by_uuid);
    for (size_t i = 0; i < list->count; i++) {
        struct catalogue_entry *e = &list->entries[i];
        e->parent = e->has_parent ? find_parent(list, e, sorted) : -1;
    }
    return 0;
}

/* Reads one link of the chain: its directory, and the uuid of its parent if it has one. */
static int open_link(const struct catalogue *c, const char *name, bool *has_parent,
                     struct uuid *parent, struct err *err)
{
    CLEAN(clean_fd) int fd = catalogue_open(c, name, err);
    if (fd < 0)
        return fd;
    CLEAN(clean_manifest) Ferry__SnapshotManifest *m = manifest_read(fd, err);
    if (!m)
        return err_wrap(err, "snapshot '%s'", name);
    *has_parent = m->parent != NULL;
    if (m->parent)
        manifest_uuid(&m->parent->uuid, parent);
    return steal_fd(&fd);
}

static const char *parent_of(const struct catalogue_list *list, const char *name,
                             const struct uuid *parent, struct err *err)
{
    const struct catalogue_entry *e = catalogue_find_uuid(list, parent);
    const struct catalogue_entry *child = catalogue_find(list, name);
    if (e)
        return e->name;
    if (child && child->parent >= 0)
        err_set(err, EBADMSG, "snapshot '%s' needs '%s', which is damaged: %.300s", name,
                list->entries[child->parent].name, list->entries[child->parent].problem);
    else
        err_set(err, ENOENT, "snapshot '%s' needs '%s', which is not there", name,
                child && child->has_parent ? child->parent_name : "its parent");
    return NULL;
}

/* Top first. How many were opened, also when it fails. */
static unsigned open_links(const struct catalogue *c, const char *name, int *fds, unsigned max,
                           struct err *err)
{
    struct catalogue_list list = {0};
    struct uuid parent;
    bool more = true;
    unsigned n = 0;
    if (catalogue_list(c, &list, err) < 0)
        return 0;
    while (more && name && n < max) {
        int fd = open_link(c, name, &more, &parent, err);
        if (fd < 0)
            break;
        fds[n++] = fd;
        if (more)
            name = parent_of(&list, name, &parent, err);
    }
    if (more && n == max)
        err_set(err, ELOOP, "the chain of snapshots is longer than %u", max);
    catalogue_list_fini(&list);
    return n;
}

int catalogue_open_chain(const struct catalogue *c, const char *name, int *fds, unsigned max,
                         struct err *err)
{
    struct err problem = {0};
    unsigned n = open_links(c, name, fds, max, &problem);
    if (problem.code == 0) {
        for (unsigned i = 0; i < n / 2; i++) {
            int fd = fds[i];
            fds[i] = fds[n - 1 - i];
            fds[n - 1 - i] = fd;
        }
        return (int)n;
    }
    while (n--)
        clean_fd(&fds[n]);
    *err = problem;
    return -problem.code;
}
