/*
 * restore: machines that go on from a snapshot.
 *
 * The snapshot is opened and checked in a task; then each clone is defined and started like any VM,
 * but for the saved state that its worker gets. The reply comes when all of them run (or stand
 * paused). When one does not start, the client cancels, or leaves, all of them are undone.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/name.h"
#include "daemon/definition.h"
#include "daemon/handlers.h"
#include "daemon/task.h"
#include "daemon/tenant.h"
#include "proto/frame.h"
#include "snapshot/catalogue.h"
#include "snapshot/reader.h"

/* As many pieces of memory as one start message holds. */
#define RESTORE_EXTENTS_MAX 16384u

struct clone {
    struct tenant_watch watch; /* first: its callback gets the clone by it */
    struct restore_task *task; /* borrowed */
    struct tenant *tenant;     /* borrowed; NULL once it is removed */
    char name[NAME_MAX_CHARS + 1];
};

struct restore_task {
    struct request *rq; /* NULL once it left */
    struct daemon *daemon;
    struct err err; /* the first failure */
    char snapshot[NAME_MAX_CHARS + 1];
    char vm[NAME_MAX_CHARS + 1]; /* as asked; empty for the snapshot's own */
    unsigned count, starting;    /* clones; of them not yet running */
    bool paused;
    struct reader reader; /* open once the task has run well */
    bool is_open;
    Ferry__WorkerRestore message;
    Ferry__WorkerExtent *extents, **extent_list; /* owned */
    Ferry__SnapshotRef self, *lineage[SNAPSHOT_LINEAGE_MAX + 1];
    struct spawn_saved saved;
    struct clone *clones; /* owned */
};

static void restore_free(struct restore_task *t)
{
    if (t->is_open)
        reader_close(&t->reader);
    clean_fd(&t->saved.state_fd);
    free(t->extents);
    free(t->extent_list);
    free(t->clones);
    free(t);
}

/* reading the snapshot ------------------------------------------------------------------ [job] */

static int take_extents(struct restore_task *t, struct err *err)
{
    CLEAN(clean_free) struct reader_extent *all = NULL;
    size_t n;
    int rc = reader_extents(&t->reader, RESTORE_EXTENTS_MAX, &all, &n, err);
    if (rc < 0)
        return rc;
    t->extents = calloc(n + 1, sizeof(*t->extents));
    t->extent_list = calloc(n + 1, sizeof(*t->extent_list));
    if (!t->extents || !t->extent_list)
        return err_set(err, ENOMEM, "no memory for %zu pieces of memory", n);
    ferry__worker_restore__init(&t->message);
    for (size_t i = 0; i < n; i++) {
        Ferry__WorkerExtent *e = &t->extents[t->message.n_extents];
        if (all[i].layer == READER_ZERO)
            continue;
        ferry__worker_extent__init(e);
        e->offset = all[i].offset;
        e->bytes = all[i].length;
        e->file = (uint32_t)all[i].layer;
        e->at = all[i].file_offset;
        t->extent_list[t->message.n_extents++] = e;
    }
    t->message.extents = t->extent_list;
    return 0;
}

static int take_layers(struct restore_task *t, struct err *err)
{
    if (t->reader.count > SPAWN_LAYERS_MAX)
        return err_set(err, E2BIG, "'%s' is a chain of %u snapshots; at most %u can be started",
                       t->snapshot, t->reader.count, SPAWN_LAYERS_MAX);
    for (unsigned i = 0; i < t->reader.count; i++) {
        if (t->reader.layers[i].packed)
            return err_set(err, ENOTSUP, "'%s' is packed, and cannot be mapped", t->snapshot);
        t->saved.layers[i] = t->reader.layers[i].memory_fd;
    }
    t->message.files = t->reader.count;
    t->saved.message = &t->message;
    return 0;
}

/* What the clones come from: what the snapshot came from, and itself. */
static void take_lineage(struct restore_task *t)
{
    const Ferry__SnapshotManifest *m = reader_manifest(&t->reader);
    ferry__snapshot_ref__init(&t->self);
    t->self.uuid = m->uuid;
    t->self.name = m->name;
    for (size_t i = 0; i < m->n_lineage; i++)
        t->lineage[i] = m->lineage[i];
    t->lineage[m->n_lineage] = &t->self;
    t->message.lineage = t->lineage;
    t->message.n_lineage = m->n_lineage + 1;
}

/* The state is read once here, to see that it is whole; the worker gets the file. */
static int take_state(struct restore_task *t, const struct catalogue *c, struct err *err)
{
    struct buf state;
    CLEAN(clean_fd) int dirfd = catalogue_open(c, t->snapshot, err);
    if (dirfd < 0)
        return dirfd;
    buf_init(&state, SNAPSHOT_STATE_MAX);
    int rc = reader_state(&t->reader, dirfd, &state, err);
    buf_fini(&state);
    if (rc < 0)
        return rc;
    rc = t->saved.state_fd = manifest_open_file(dirfd, reader_manifest(&t->reader), "state", err);
    return rc < 0 ? rc : 0;
}

static void on_run(struct task *task, void *ctx)
{
    struct restore_task *t = ctx;
    struct catalogue c = {.fd = t->daemon->root.snapshots_fd, .io = &fileio_system};
    struct err *err = &t->err;
    bool freeze = t->message.freeze_clock;
    if (reader_open(&t->reader, &c, t->snapshot, err) < 0)
        return;
    t->is_open = true;
    if (take_extents(t, err) == 0 && take_layers(t, err) == 0)
        take_state(t, &c, err);
    take_lineage(t);
    t->message.freeze_clock = freeze;
}

/* starting the clones ------------------------------------------------------------------ [loop] */

static void end(struct restore_task *t)
{
    Ferry__RestoreReply restored = FERRY__RESTORE_REPLY__INIT;
    Ferry__Reply reply = FERRY__REPLY__INIT;
    CLEAN(clean_free) char **names = calloc(t->count + 1, sizeof(*names));
    struct request *rq = t->rq;
    for (unsigned i = 0; names && t->clones && i < t->count; i++)
        names[restored.n_names++] = t->clones[i].name;
    restored.names = names;
    reply.body_case = FERRY__REPLY__BODY_RESTORED;
    reply.restored = &restored;
    if (rq)
        rq->state = NULL;
    if (rq && t->err.code)
        request_fail(rq, &t->err);
    else if (rq)
        request_done(rq, &reply);
    restore_free(t);
}

/* Those that run are killed and forgotten; those that start are killed and forget themselves. */
static void undo(struct restore_task *t)
{
    for (unsigned i = 0; i < t->count; i++) {
        struct tenant *tenant = t->clones[i].tenant;
        if (!tenant)
            continue;
        tenant->transient = true;
        if (tenant_in(tenant, STATES_LIVE))
            tenant_kill(tenant, "the restore was undone");
    }
}

/* Another one runs, or failed: when it was the last, that is the answer. */
static void one_less(struct restore_task *t)
{
    if (--t->starting > 0)
        return;
    if (t->err.code || !t->rq)
        undo(t);
    end(t);
}

static void on_moved(struct tenant_watch *watch, bool removed)
{
    struct clone *clone = (struct clone *)watch;
    struct restore_task *t = clone->task;
    struct tenant *tenant = clone->tenant;
    if (!removed && tenant_in(tenant, STATE_BIT(STARTING)))
        return;
    tenant_unwatch(watch);
    if (removed || !tenant_in(tenant, STATES_LIVE)) {
        if (!t->err.code)
            err_set(&t->err, !removed && tenant->gone_code ? tenant->gone_code : EIO, "'%s': %s",
                    clone->name, removed ? "removed meanwhile" : tenant_ending_text(tenant));
        clone->tenant = NULL; /* it forgets itself */
    }
    one_less(t);
}

static Ferry__MachineConfig *copy_config(const Ferry__MachineConfig *from, const char *name,
                                         struct err *err)
{
    Ferry__MachineConfig named = *from;
    named.name = (char *)(uintptr_t)name;
    named.uuid = (ProtobufCBinaryData){0}; /* a machine of its own */
    Ferry__MachineConfig *copy = (Ferry__MachineConfig *)frame_copy(&named.base, err);
    if (copy && definition_complete(copy, err) < 0) {
        frame_free(&copy->base);
        copy = NULL;
    }
    return copy;
}

static int start_clone(struct restore_task *t, struct clone *clone, struct err *err)
{
    struct registry *registry = &t->daemon->registry;
    struct err ignored;
    Ferry__MachineConfig *config =
        copy_config(reader_manifest(&t->reader)->config, clone->name, err);
    struct tenant *tenant = config ? registry_define(registry, config, err) : NULL;
    if (!tenant)
        return -err->code;
    tenant->transient = true;
    tenant_event(tenant, FERRY__EVENT_KIND__EVENT_DEFINED, "");
    int rc = tenant_start(t->daemon, tenant, t->paused, &t->saved, err);
    if (rc < 0) {
        registry_remove(tenant, &ignored);
        return rc;
    }
    clone->tenant = tenant;
    clone->task = t;
    t->starting++;
    tenant_watch(tenant, &clone->watch, on_moved);
    return 0;
}

static int name_clones(struct restore_task *t, struct err *err)
{
    const char *base = t->vm[0] ? t->vm : reader_manifest(&t->reader)->config->name;
    for (unsigned i = 0; i < t->count; i++) {
        char name[NAME_MAX_CHARS + 16];
        if (t->count > 1)
            snprintf(name, sizeof(name), "%s-%u", base, i + 1);
        else
            snprintf(name, sizeof(name), "%s", base);
        if (name_check(name, "the new VM's name", err) < 0)
            return -err->code;
        if (registry_find(&t->daemon->registry, name))
            return err_set(err, EEXIST, "'%s' exists: give another --name, or rm it first", name);
        memcpy(t->clones[i].name, name, strlen(name) + 1);
    }
    return 0;
}

static void on_read(void *ctx)
{
    struct restore_task *t = ctx;
    t->clones = calloc(t->count, sizeof(*t->clones));
    if (!t->clones && !t->err.code)
        err_set(&t->err, ENOMEM, "no memory for %u clones", t->count);
    if (!t->rq && !t->err.code)
        err_set(&t->err, ECANCELED, "the restore was cancelled");
    if (t->err.code || name_clones(t, &t->err) < 0) {
        end(t);
        return;
    }
    t->starting = 1; /* ours, until all are on their way */
    for (unsigned i = 0; i < t->count && !t->err.code; i++)
        start_clone(t, &t->clones[i], &t->err);
    one_less(t);
}

static const struct task_ops ops = {.run = on_run, .done = on_read};

static void drop(struct request *rq)
{
    struct restore_task *t = rq->state;
    rq->state = NULL;
    t->rq = NULL;
}

int handle_restore(struct request *rq, struct err *err)
{
    const Ferry__RestoreRequest *ask = rq->message->restore;
    if (name_check(ask->snapshot, "the snapshot", err) < 0 ||
        (ask->name[0] && name_check(ask->name, "the new VM's name", err) < 0))
        return -err->code;
    if (ask->count > REGISTRY_MAX)
        return err_set(err, EINVAL, "%u clones are too many: at most %u", ask->count, REGISTRY_MAX);
    struct restore_task *t = calloc(1, sizeof(*t));
    if (!t)
        return err_set(err, ENOMEM, "no memory for a restore");
    t->rq = rq;
    t->daemon = rq->daemon;
    t->count = ask->count ? ask->count : 1;
    t->paused = ask->paused;
    t->saved.state_fd = -1;
    t->message.freeze_clock = ask->freeze_clock;
    snprintf(t->snapshot, sizeof(t->snapshot), "%s", ask->snapshot);
    snprintf(t->vm, sizeof(t->vm), "%s", ask->name);
    int rc = task_start(&rq->daemon->loop, &ops, t, err);
    if (rc < 0) {
        restore_free(t);
        return rc;
    }
    rq->state = t;
    rq->drop = drop;
    return 0;
}
