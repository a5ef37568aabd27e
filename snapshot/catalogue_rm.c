/*
 * How snapshots go. Names are taken under the lock, children first, each by a rename that is synced
 * before the next; the directories, which may be big, are removed behind it. A kill in between
 * leaves directories that the next start removes.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/fs.h"
#include "snapshot/catalogue.h"
#include "snapshot/catalogue_names.h"

struct removal {
    const struct catalogue *c; /* borrowed */
    struct catalogue_removed done;
    char (*temps)[CATALOGUE_TEMP_SIZE]; /* owned; of each that is done */
};

void catalogue_removed_fini(struct catalogue_removed *removed)
{
    free(removed->names);
    *removed = (struct catalogue_removed){0};
}

static int removal_init(struct removal *r, const struct catalogue *c, size_t max, struct err *err)
{
    *r = (struct removal){.c = c};
    r->done.names = calloc(max + 1, sizeof(*r->done.names));
    r->temps = calloc(max + 1, sizeof(*r->temps));
    return r->done.names && r->temps ? 0
                                     : err_set(err, ENOMEM, "no memory to remove snapshots with");
}

static int take_name(struct removal *r, const char *name, struct err *err)
{
    const struct catalogue *c = r->c;
    char *temp = r->temps[r->done.count];
    struct uuid fresh;
    int rc = uuid_make(&fresh, err);
    if (rc < 0)
        return rc;
    catalogue_temp_name(&fresh, temp);
    rc = c->io->rename(c->io->ctx, c->fd, name, temp);
    if (rc < 0)
        return err_sys(err, -rc, "cannot remove snapshot '%s'", name);
    rc = fileio_sync(c->io, c->fd, "the directory of snapshots", err);
    if (rc < 0) {
        (void)c->io->rename(c->io->ctx, c->fd, temp, name);
        return err_wrap(err, "cannot remove snapshot '%s'", name);
    }
    snprintf(r->done.names[r->done.count++], NAME_MAX_CHARS + 1, "%s", name);
    return 0;
}

/* All that have lost their names are removed, also behind a failure; the first failure counts. */
static int finish(struct removal *r, int rc, struct catalogue_removed *removed, struct err *err)
{
    struct err later;
    for (size_t i = 0; r->temps && i < r->done.count; i++) {
        int failed = fs_remove_tree(r->c->fd, r->temps[i], rc < 0 ? &later : err);
        if (rc == 0 && failed < 0)
            rc = err_wrap(err, "snapshot '%s' is gone, but its files are still there",
                          r->done.names[i]);
    }
    free(r->temps);
    if (removed)
        *removed = r->done;
    else
        catalogue_removed_fini(&r->done);
    return rc;
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

static int take_family(struct removal *r, const struct catalogue_list *list, size_t entry,
                       struct err *err)
{
    CLEAN(clean_free) bool *marked = calloc(list->count, sizeof(*marked));
    int rc = 0;
    if (!marked)
        return err_set(err, ENOMEM, "no memory to remove snapshots with");
    mark_family(list, entry, marked);
    for (ssize_t i; rc == 0 && (i = next_leaf(list, marked)) >= 0;) {
        rc = take_name(r, list->entries[i].name, err);
        marked[i] = false;
    }
    return rc;
}

static int take_names(struct removal *r, const struct catalogue *c, const char *name,
                      bool with_children, struct err *err)
{
    struct catalogue_list list = {0};
    int rc = catalogue_list(c, &list, err);
    const struct catalogue_entry *entry = rc == 0 ? catalogue_find(&list, name) : NULL;
    if (rc == 0 && !entry)
        rc = err_set(err, ENOENT, "there is no snapshot '%s'", name);
    if (rc == 0 && !with_children)
        rc = refuse_needed(&list, entry, err);
    if (rc == 0)
        rc = removal_init(r, c, list.count, err);
    if (rc == 0)
        rc = take_family(r, &list, (size_t)(entry - list.entries), err);
    catalogue_list_fini(&list);
    return rc;
}

int catalogue_rm(const struct catalogue *c, const char *name, bool with_children,
                 struct catalogue_removed *removed, struct err *err)
{
    struct removal r = {.c = c};
    int rc = name_check(name, "the snapshot's name", err);
    CLEAN(clean_fd) int lock = rc < 0 ? rc : catalogue_lock_names(c, err);
    rc = lock < 0 ? lock : take_names(&r, c, name, with_children, err);
    clean_fd(&lock);
    return finish(&r, rc, removed, err);
}

static int take_chosen(struct removal *r, catalogue_choose *choose, void *ctx,
                       const struct catalogue_list *list, struct err *err)
{
    CLEAN(clean_free) size_t *order = calloc(list->count + 1, sizeof(*order));
    int rc = removal_init(r, r->c, list->count, err);
    if (rc == 0 && !order)
        rc = err_set(err, ENOMEM, "no memory to remove snapshots with");
    ssize_t count = rc == 0 ? choose(ctx, list, order, err) : rc;
    for (ssize_t i = 0; rc == 0 && i < count; i++)
        rc = take_name(r, list->entries[order[i]].name, err);
    return count < 0 ? (int)count : rc;
}

int catalogue_rm_chosen(const struct catalogue *c, catalogue_choose *choose, void *ctx,
                        struct catalogue_list *list, struct catalogue_removed *removed,
                        struct err *err)
{
    struct removal r = {.c = c};
    *list = (struct catalogue_list){0};
    CLEAN(clean_fd) int lock = catalogue_lock_names(c, err);
    int rc = lock < 0 ? lock : catalogue_list(c, list, err);
    if (rc == 0)
        rc = take_chosen(&r, choose, ctx, list, err);
    clean_fd(&lock);
    return finish(&r, rc, removed, err);
}
