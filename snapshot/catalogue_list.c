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
    e->has_uuid = true;
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
    e->renamed = strcmp(m->name, e->name) != 0;
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

static int add_broken(struct catalogue_list *list, const char *name, const char *problem,
                      struct err *err)
{
    struct catalogue_entry *e = add_entry(list, name);
    if (!e || !(e->problem = strdup(problem)))
        return err_set(err, ENOMEM, "no memory to list the snapshots with");
    list->count++;
    return 0;
}

/* What has a name that no snapshot can have is in nobody's way. */
static int list_one(const struct catalogue *c, const char *name, struct catalogue_list *list,
                    struct err *err)
{
    struct err problem = {0};
    if (!name_valid(name))
        return 0;
    CLEAN(clean_fd)
    int fd = openat(c->fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT)
        return 0;
    if (list->count >= CATALOGUE_MAX)
        return err_set(err, EMFILE, "there are more than %u snapshots", CATALOGUE_MAX);
    if (fd < 0 && (errno == ENOTDIR || errno == ELOOP))
        return add_broken(list, name, "it is no directory, but has the name of a snapshot", err);
    if (fd < 0)
        return err_sys(err, errno, "cannot open snapshot '%s'", name);
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
