/*
 * restore: machines that go on from a snapshot.
 *
 * The snapshot is opened and checked in a task (restore_source.h); then each clone is defined and
 * started like any VM, but that its worker gets the snapshot. The reply comes when all of them run
 * (or stand paused). When one does not start, the client cancels, or leaves, all of them are
 * undone.
 * With `replace` the machine takes the place of the VM that has its name (replace.h).
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "base/name.h"
#include "base/uuid.h"
#include "daemon/definition.h"
#include "daemon/handlers.h"
#include "daemon/replace.h"
#include "daemon/restore_disks.h"
#include "daemon/restore_nets.h"
#include "daemon/restore_source.h"
#include "daemon/snapshot_task.h"
#include "daemon/tenant.h"
#include "proto/frame.h"

/* Begins with a task, which reads the snapshot; it ends before the first clone is defined. */
struct reading {
    struct snapshot_task task;
    struct restore_source source;
    const char *kvm; /* borrowed from the daemon */
    bool verify;
};

struct clone {
    struct tenant_watch watch; /* first: its callback gets the clone by it */
    struct restore *restore;   /* borrowed */
    struct tenant *tenant;     /* borrowed, watched; NULL when there is none */
    bool waiting;              /* for it to run, or, when all is undone, to end */
    char name[NAME_MAX_CHARS + 1];
};

struct restore {
    struct request *rq; /* NULL once it left */
    struct daemon *daemon;
    struct err err; /* the first failure */
    struct restore_source source;
    Ferry__SnapshotRef self, *lineage[SNAPSHOT_LINEAGE_MAX + 1];
    char text[NAME_MAX_CHARS + UUID_TEXT_SIZE + 32]; /* the event's */
    unsigned count, waiting;                         /* clones; of them those waited for */
    bool paused, undone, replaces;
    struct replace replace; /* when it does */
    struct timeout *later;
    struct spawn_saved saved;
    struct clone *clones; /* owned */
};

/* reading the snapshot ------------------------------------------------------------------ [job] */

static bool on_verified(void *ctx, uint64_t done, uint64_t total)
{
    struct snapshot_task *t = ctx;
    const struct snapshot_progress now = {
        .stage = "verifying", .done_bytes = done, .total_bytes = total};
    snapshot_task_tell(t, &now);
    return !snapshot_task_is_cancelled(t);
}

static int run(struct snapshot_task *t, struct err *err)
{
    struct reading *r = (struct reading *)t;
    const struct verify_watch watch = {.progress = on_verified, .ctx = t};
    int rc = restore_source_open(&r->source, &t->catalogue, t->name, r->kvm, err);
    return rc < 0 || !r->verify ? rc : restore_source_verify(&r->source, &watch, err);
}

static void fini(struct snapshot_task *t)
{
    restore_source_close(&((struct reading *)t)->source);
}

/* starting the clones ------------------------------------------------------------------ [loop] */

static void restore_free(struct restore *r)
{
    timeout_cancel(&r->later);
    restore_source_close(&r->source);
    free(r->clones);
    free(r);
}

static void end(struct restore *r)
{
    Ferry__RestoreReply restored = FERRY__RESTORE_REPLY__INIT;
    Ferry__Reply reply = FERRY__REPLY__INIT;
    CLEAN(clean_free) char **names = calloc(r->count + 1, sizeof(*names));
    struct request *rq = r->rq;
    for (unsigned i = 0; i < r->count; i++) {
        tenant_unwatch(&r->clones[i].watch);
        if (names)
            names[restored.n_names++] = r->clones[i].name;
    }
    restored.names = names;
    reply.body_case = FERRY__REPLY__BODY_RESTORED;
    reply.restored = &restored;
    if (rq)
        rq->state = NULL;
    if (rq && r->err.code)
        request_fail(rq, &r->err);
    else if (rq)
        request_done(rq, &reply);
    restore_free(r);
}

/* All workers are gone by now. One whose start failed has forgotten itself; one that was killed
 * for the others, or ended by itself meanwhile, is forgotten here. */
static void end_undone(void *ctx)
{
    struct restore *r = ctx;
    struct err err;
    for (unsigned i = 0; i < r->count; i++) {
        struct clone *clone = &r->clones[i];
        struct tenant *tenant = steal_ptr(&clone->tenant);
        tenant_unwatch(&clone->watch); /* or the last one would end this */
        if (tenant && registry_remove(tenant, &err) < 0)
            log_error("%s: %s", clone->name, err.text);
    }
    end(r);
}

static bool has_tenants(const struct restore *r)
{
    for (unsigned i = 0; i < r->count; i++)
        if (r->clones[i].tenant)
            return true;
    return false;
}

static void undo(struct restore *r);

/* Another one runs, or failed: when it was the last, that is the answer. The answer to a failure
 * comes when nothing is left of it, and not from within a move: others are still to be told. */
static void one_less(struct restore *r)
{
    if (--r->waiting > 0)
        return;
    bool failed = r->err.code || !r->rq;
    if (failed && !r->undone)
        undo(r);
    else if (failed && has_tenants(r))
        timeout_set(&r->later, &r->daemon->loop, 0, end_undone, r);
    else
        end(r);
}

static void undo(struct restore *r)
{
    r->undone = true;
    r->waiting = 1; /* ours */
    for (unsigned i = 0; i < r->count; i++) {
        struct clone *clone = &r->clones[i];
        if (!clone->tenant || !tenant_in(clone->tenant, STATES_LIVE))
            continue;
        clone->waiting = true;
        r->waiting++;
        tenant_kill(clone->tenant, "the restore was undone");
    }
    one_less(r);
}

static void on_moved(struct tenant_watch *watch, bool removed)
{
    struct clone *clone = (struct clone *)watch;
    struct restore *r = clone->restore;
    struct tenant *tenant = clone->tenant;
    bool live = !removed && tenant_in(tenant, STATES_LIVE);
    if (live && (r->undone || tenant_in(tenant, STATE_BIT(STARTING))))
        return;
    if (!live && clone->waiting && !r->err.code)
        err_set(&r->err, !removed && tenant->gone_code ? tenant->gone_code : EIO, "'%s': %s",
                clone->name, removed ? "removed meanwhile" : tenant_ending_text(tenant));
    if (removed) {
        tenant_unwatch(watch);
        clone->tenant = NULL;
    }
    if (clone->waiting) {
        clone->waiting = false;
        one_less(r);
    } else if (r->undone && r->waiting == 0 && !has_tenants(r)) {
        end(r); /* others removed what we were about to */
    }
}

/* The definition of a clone, with the disks and networks that it is to have. */
static Ferry__MachineConfig *make_config(struct restore *r, const char *name, unsigned number,
                                         struct err *err)
{
    const Ferry__RestoreRequest *ask = r->rq->message->restore;
    Ferry__MachineConfig named = *r->source.manifest->config;
    named.name = (char *)(uintptr_t)name;
    named.uuid = (ProtobufCBinaryData){0}; /* a machine of its own */
    Ferry__MachineConfig *copy = (Ferry__MachineConfig *)frame_copy(&named.base, err);
    if (copy && (restore_disks(copy, ask, number, &r->saved.other_disks, err) < 0 ||
                 restore_nets(copy, ask, number, err) < 0 || definition_complete(copy, err) < 0)) {
        frame_free(&copy->base);
        copy = NULL;
    }
    return copy;
}

static int start_clone(struct restore *r, unsigned index, struct err *err)
{
    struct registry *registry = &r->daemon->registry;
    struct clone *clone = &r->clones[index];
    struct err ignored;
    Ferry__MachineConfig *config = make_config(r, clone->name, r->count > 1 ? index + 1 : 0, err);
    struct tenant *tenant = config ? registry_define(registry, config, err) : NULL;
    if (!tenant)
        return -err->code;
    tenant->transient = true;
    tenant_event(tenant, FERRY__EVENT_KIND__EVENT_DEFINED, "");
    tenant_event(tenant, FERRY__EVENT_KIND__EVENT_RESTORED, r->text);
    int rc = tenant_start(r->daemon, tenant, r->paused, &r->saved, err);
    if (rc < 0) {
        registry_remove(tenant, &ignored);
        return rc;
    }
    clone->tenant = tenant;
    clone->restore = r;
    clone->waiting = true;
    r->waiting++;
    tenant_watch(tenant, &clone->watch, on_moved);
    return 0;
}

static int name_clones(struct restore *r, const Ferry__RestoreRequest *ask, struct err *err)
{
    const char *base = ask->name[0] ? ask->name : r->source.manifest->config->name;
    for (unsigned i = 0; i < r->count; i++) {
        char name[NAME_MAX_CHARS + 16];
        if (r->count > 1)
            snprintf(name, sizeof(name), "%s-%u", base, i + 1);
        else
            snprintf(name, sizeof(name), "%s", base);
        if (name_check(name, "the new VM's name", err) < 0)
            return r->count > 1 ? err_wrap(err, "with its number") : -err->code;
        bool exists = registry_find(&r->daemon->registry, name);
        if (exists && !ask->replace)
            return err_set(err, EEXIST, "'%s' exists: give another --name%s", name,
                           r->count > 1 ? "" : ", or --replace to drop it");
        r->replaces = exists;
        memcpy(r->clones[i].name, name, strlen(name) + 1);
    }
    return 0;
}

static void drop(struct request *rq)
{
    struct restore *r = rq->state;
    rq->state = NULL;
    r->rq = NULL;
    if (r->replaces)
        replace_cancel(&r->replace);
}

/* What the clones come from: what the snapshot came from, and itself. */
static void take_lineage(struct restore *r)
{
    const Ferry__SnapshotManifest *m = r->source.manifest;
    struct uuid uuid;
    char text[UUID_TEXT_SIZE];
    ferry__snapshot_ref__init(&r->self);
    r->self.uuid = m->uuid;
    r->self.name = m->name;
    for (size_t i = 0; i < m->n_lineage; i++)
        r->lineage[i] = m->lineage[i];
    r->lineage[m->n_lineage] = &r->self;
    r->saved.lineage = r->lineage;
    r->saved.n_lineage = m->n_lineage + 1;
    manifest_uuid(&m->uuid, &uuid);
    uuid_format(&uuid, text);
    snprintf(r->text, sizeof(r->text), "from snapshot '%s', %s", m->name, text);
}

static struct restore *restore_new(struct request *rq, struct restore_source *source,
                                   struct err *err)
{
    const Ferry__RestoreRequest *ask = rq->message->restore;
    unsigned count = ask->count ? ask->count : 1;
    struct restore *r = calloc(1, sizeof(*r));
    struct clone *clones = calloc(count, sizeof(*clones));
    if (!r || !clones) {
        free(r);
        free(clones);
        err_set(err, ENOMEM, "no memory for %u clones", count);
        return NULL;
    }
    *r = (struct restore){.rq = rq,
                          .daemon = rq->daemon,
                          .source = *source,
                          .count = count,
                          .paused = ask->paused,
                          .clones = clones};
    *source = (struct restore_source){0};
    r->saved = (struct spawn_saved){
        .layers = r->source.layers, .count = r->source.count, .freeze_clock = ask->freeze_clock};
    take_lineage(r);
    return r;
}

static void on_replaced(void *ctx, const struct err *err)
{
    struct restore *r = ctx;
    if (err)
        r->err = *err;
    end(r);
}

static void start_replacing(struct restore *r)
{
    const char *name = r->clones[0].name;
    Ferry__MachineConfig *config = make_config(r, name, 0, &r->err);
    r->replace = (struct replace){
        .daemon = r->daemon, .text = r->text, .paused = r->paused, .done = on_replaced, .ctx = r};
    snprintf(r->replace.vm, sizeof(r->replace.vm), "%s", name);
    if (!config || replace_start(&r->replace, config, &r->saved, &r->err) < 0)
        end(r);
}

static void start_clones(struct restore *r)
{
    r->waiting = 1; /* ours, until all are on their way */
    for (unsigned i = 0; i < r->count && !r->err.code; i++)
        start_clone(r, i, &r->err);
    one_less(r);
}

/* The snapshot is good. */
static void on_read(struct snapshot_task *t)
{
    struct err err = {0};
    struct request *rq = t->rq;
    struct restore *r = restore_new(rq, &((struct reading *)t)->source, &err);
    if (!r || name_clones(r, rq->message->restore, &err) < 0) {
        if (r)
            restore_free(r);
        request_fail(rq, &err);
        return;
    }
    rq->state = r;
    rq->drop = drop;
    if (r->replaces)
        start_replacing(r);
    else
        start_clones(r);
}

static const struct snapshot_work work = {.run = run, .reply = on_read, .fini = fini};

int handle_restore(struct request *rq, struct err *err)
{
    const Ferry__RestoreRequest *ask = rq->message->restore;
    if (ask->name[0] && name_check(ask->name, "the new VM's name", err) < 0)
        return -err->code;
    if (ask->replace && ask->count > 1)
        return err_set(err, EINVAL, "only one VM can be replaced, not %u", ask->count);
    if (ask->count > REGISTRY_MAX)
        return err_set(err, EINVAL, "%u clones are too many: at most %u", ask->count, REGISTRY_MAX);
    struct reading *r = snapshot_task_new(rq, ask->snapshot, &work, sizeof(*r), err);
    if (!r)
        return -err->code;
    r->kvm = rq->daemon->options.kvm;
    r->verify = ask->verify;
    return snapshot_task_start(&r->task, err);
}
