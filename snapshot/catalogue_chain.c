/*
 * Who is who in a catalogue: by name, by uuid, as a parent, as a mere copy; and the chain that a
 * snapshot stands on. See catalogue.h.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "snapshot/catalogue.h"
#include "snapshot/manifest.h"

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

/* Those that are one by uuid stand together, the true one first, damaged ones last. */
static int by_uuid(const void *a, const void *b)
{
    const struct catalogue_entry *x = *(struct catalogue_entry *const *)a;
    const struct catalogue_entry *y = *(struct catalogue_entry *const *)b;
    int order = memcmp(&x->uuid, &y->uuid, sizeof(x->uuid));
    if (order == 0)
        order = (x->problem != NULL) - (y->problem != NULL);
    if (order == 0)
        order = x->renamed - y->renamed;
    return order ? order : strcmp(x->name, y->name);
}

static bool same_uuid(const struct catalogue_entry *a, const struct catalogue_entry *b)
{
    return memcmp(&a->uuid, &b->uuid, sizeof(a->uuid)) == 0;
}

/* Leaves in `sorted` what has a uuid of its own. */
static int mark_copies(struct catalogue_entry **sorted, size_t *count, struct err *err)
{
    size_t kept = 0;
    for (size_t i = 0; i < *count; i++) {
        struct catalogue_entry *e = sorted[i];
        if (kept == 0 || !same_uuid(sorted[kept - 1], e)) {
            sorted[kept++] = e;
            continue;
        }
        if (e->problem)
            continue;
        e->is_copy = true;
        if (asprintf(&e->problem,
                     "it is a copy of '%s', with the same uuid: remove it, or import it anew",
                     sorted[kept - 1]->name) < 0) {
            e->problem = NULL;
            return err_set(err, ENOMEM, "no memory to list the snapshots with");
        }
    }
    *count = kept;
    return 0;
}

int catalogue_refuse_copy(const struct catalogue_entry *e, struct err *err)
{
    if (!e || !e->is_copy)
        return 0;
    return err_set(err, EEXIST, "snapshot '%s': %s", e->name, e->problem);
}

static int uuid_order(const void *key, const void *element)
{
    const struct catalogue_entry *e = *(struct catalogue_entry *const *)element;
    return memcmp(key, &e->uuid, sizeof(e->uuid));
}

static ssize_t find_parent(const struct catalogue_list *list, const struct catalogue_entry *child,
                           struct catalogue_entry **sorted, size_t count)
{
    struct catalogue_entry **found =
        bsearch(&child->parent_uuid, sorted, count, sizeof(*sorted), uuid_order);
    const struct catalogue_entry *parent = found ? *found : NULL;
    if (!parent) {
        parent = catalogue_find(list, child->parent_name);
        if (!parent || !parent->problem || parent->is_copy)
            return -1;
    }
    return parent == child ? -1 : parent - list->entries;
}

int catalogue_link(struct catalogue_list *list, struct err *err)
{
    CLEAN(clean_free) struct catalogue_entry **sorted = calloc(list->count + 1, sizeof(*sorted));
    size_t count = 0;
    if (!sorted)
        return err_set(err, ENOMEM, "no memory to list the snapshots with");
    for (size_t i = 0; i < list->count; i++)
        if (list->entries[i].has_uuid)
            sorted[count++] = &list->entries[i];
    qsort(sorted, count, sizeof(*sorted), by_uuid);
    int rc = mark_copies(sorted, &count, err);
    for (size_t i = 0; rc == 0 && i < list->count; i++) {
        struct catalogue_entry *e = &list->entries[i];
        e->parent = e->has_parent && !e->is_copy ? find_parent(list, e, sorted, count) : -1;
    }
    return rc;
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
    if (catalogue_refuse_copy(catalogue_find(&list, name), err) < 0)
        name = NULL;
    while (more && name && n < max) {
        int fd = open_link(c, name, &more, &parent, err);
        if (fd < 0)
            break;
        fds[n++] = fd;
        if (more)
            name = parent_of(&list, name, &parent, err);
    }
    if (name && more && n == max)
        err_set(err, ELOOP, "the chain of snapshots is longer than %u", max);
    catalogue_list_fini(&list);
    return n;
}

int catalogue_open_own(const struct catalogue *c, const char *name, struct err *err)
{
    struct catalogue_list list = {0};
    int rc = catalogue_list(c, &list, err);
    if (rc == 0)
        rc = catalogue_refuse_copy(catalogue_find(&list, name), err);
    catalogue_list_fini(&list);
    return rc < 0 ? rc : catalogue_open(c, name, err);
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
