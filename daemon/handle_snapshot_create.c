/*
 * snapshot create: a directory is begun in the catalogue, the worker fills it, it gets its name,
 * and the worker hears of that. A client that leaves cancels it until it gets its name, and nothing
 * is left of it. snapshot untrack ends what the worker remembers for the next one.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "base/now.h"
#include "daemon/handlers.h"
#include "daemon/job_client.h"
#include "daemon/snapshot_notice.h"
#include "daemon/snapshot_ref.h"
#include "daemon/snapshot_reply.h"
#include "daemon/snapshot_task.h"
#include "daemon/tenant.h"
#include "daemon/timeout.h"
#include "proto/frame.h"
#include "snapshot/manifest.h"

/* The VM that is to be off before the reply. */
struct stopping {
    struct tenant_watch watch; /* first: its callback gets it by that */
    struct create *create;
    struct tenant *tenant; /* NULL for none */
    struct timeout *later;
};

struct create {
    struct snapshot_task task;
    char vm[NAME_MAX_CHARS + 1];
    bool stop, or_full, track, pack;
    struct snapshot_ref parent; /* its uuid once it was looked up */
    struct job_client client;   /* its fd is locked (task.lock) while it is connected */
    struct snapshot_done done;
    char note[ERR_TEXT_MAX];
    struct stopping stopping;
    LIST_ENTRY(create) all;
    bool listed;
};

/* Those under way, because each needs a name of its own. [loop] */
static LIST_HEAD(create_list, create) creating = LIST_HEAD_INITIALIZER(creating);

/* the worker's side --------------------------------------------------------------------- [job] */

/* The words a worker may say, so that none of its bytes are kept. */
static const char *stage_of(const char *said)
{
    return strcmp(said, "memory") == 0 ? "memory" : "writing";
}

/* One reply of the worker: 1 for the last, 0 for progress. */
static int take_reply(struct create *c, struct err *err)
{
    Ferry__WorkerReply *reply = job_client_receive(&c->client, err);
    int rc = 0;
    if (!reply)
        return -err->code;
    if (reply->body_case == FERRY__WORKER_REPLY__BODY_PROGRESS) {
        const Ferry__WorkerProgress *p = reply->progress;
        snapshot_task_tell(&c->task, &(struct snapshot_progress){.stage = stage_of(p->stage),
                                                                 .done_bytes = p->done_bytes,
                                                                 .total_bytes = p->total_bytes,
                                                                 .round = p->round});
    } else if (reply->body_case == FERRY__WORKER_REPLY__BODY_SNAPSHOT_DONE) {
        c->done.pause_ns = reply->snapshot_done->pause_ns;
        c->done.total_ns = reply->snapshot_done->total_ns;
        c->done.rounds = reply->snapshot_done->rounds;
        if (reply->snapshot_done->note[0])
            snprintf(c->note, sizeof(c->note), "%s", reply->snapshot_done->note);
        rc = 1;
    } else {
        rc = err_set(err, EPROTO, "the worker of '%s' does not say how far it is", c->vm);
    }
    frame_free(&reply->base);
    return rc;
}

static int connect_worker(struct create *c, int dirfd, struct err *err)
{
    Ferry__WorkerSnapshot ask = FERRY__WORKER_SNAPSHOT__INIT;
    Ferry__WorkerRequest request = FERRY__WORKER_REQUEST__INIT;
    struct job_client client = {.fd = -1};
    Ferry__SnapshotManifest manifest = *c->task.manifest;
    Ferry__SnapshotRef parent;
    manifest.parent = snapshot_ref_fill(&parent, &c->parent);
    ask.manifest = &manifest;
    ask.hold = c->stop;
    ask.or_full = c->or_full;
    ask.track = c->track;
    ask.pack = c->pack;
    request.body_case = FERRY__WORKER_REQUEST__BODY_SNAPSHOT;
    request.snapshot = &ask;
    int rc = job_client_open(&client, c->task.root, c->vm, &request, &dirfd, 1, err);
    pthread_mutex_lock(&c->task.lock);
    c->client = client;
    if (rc == 0 && c->task.cancelled)
        rc = err_set(err, ECANCELED, "the snapshot was cancelled");
    pthread_mutex_unlock(&c->task.lock);
    return rc;
}

static bool same_message(const ProtobufCMessage *a, const ProtobufCMessage *b)
{
    size_t len = protobuf_c_message_get_packed_size(a);
    CLEAN(clean_free) uint8_t *bytes = malloc(2 * len + 1);
    if (!bytes || protobuf_c_message_get_packed_size(b) != len)
        return false;
    protobuf_c_message_pack(a, bytes);
    protobuf_c_message_pack(b, bytes + len);
    return memcmp(bytes, bytes + len, len) == 0;
}

/* A worker that its guest took over writes what it likes. What a restore would believe and open has
 * to be what was asked: the machine with its paths, and whose memory lies below. */
static int check_written(const struct create *c, int dirfd, struct err *err)
{
    struct snapshot_ref parent;
    CLEAN(clean_manifest) Ferry__SnapshotManifest *m = manifest_read(dirfd, err);
    if (!m)
        return -err->code;
    snapshot_ref_take(&parent, m->parent);
    bool full_is_right = c->or_full || !snapshot_ref_is_set(&c->parent);
    if (m->parent ? !snapshot_ref_same(&parent, &c->parent) : !full_is_right)
        return err_set(err, EBADMSG, "the worker of '%s' wrote another parent", c->vm);
    if (!same_message(&m->config->base, &c->task.manifest->config->base))
        return err_set(err, EBADMSG, "the worker of '%s' wrote another machine", c->vm);
    return 0;
}

/* From here on it is the parent of what follows. A worker that does not hear of it keeps what
 * changed since the one before, so this need not succeed. */
static void tell_kept(struct create *c)
{
    struct err ignored;
    Ferry__WorkerRequest request = FERRY__WORKER_REQUEST__INIT;
    Ferry__WorkerEmpty body = FERRY__WORKER_EMPTY__INIT;
    request.body_case = FERRY__WORKER_REQUEST__BODY_KEPT;
    request.kept = &body;
    Ferry__WorkerReply *reply = job_client_send(&c->client, &request, &ignored) == 0
                                    ? job_client_receive(&c->client, &ignored)
                                    : NULL;
    if (reply)
        frame_free(&reply->base);
}

static int fill_and_publish(struct create *c, const struct uuid *uuid, int dirfd, struct err *err)
{
    int rc = connect_worker(c, dirfd, err);
    while (rc == 0)
        rc = take_reply(c, err);
    if (rc == -ECONNRESET)
        return err_set(err, ECONNRESET, "'%s' ended before it was saved", c->vm);
    rc = rc < 0 ? rc : check_written(c, dirfd, err);
    if (rc == 0)
        rc = snapshot_task_commit(&c->task, err);
    if (rc == 0)
        rc = catalogue_publish(&c->task.catalogue, uuid, c->task.name, err);
    if (rc == 0)
        tell_kept(c);
    return rc;
}

/* By its uuid: another one that took its name is another one. */
static int find_parent(struct create *c, struct err *err)
{
    uint64_t ram_bytes = c->task.manifest->config->memory_bytes;
    if (!snapshot_ref_is_set(&c->parent) ||
        catalogue_find_parent(&c->task.catalogue, c->parent.name, ram_bytes, &c->parent.uuid,
                              err) == 0)
        return 0;
    if (!c->or_full)
        return -err->code;
    snprintf(c->note, sizeof(c->note), "%s", err->text);
    *err = (struct err){0};
    c->parent = (struct snapshot_ref){.name = ""};
    return 0;
}

static int run(struct snapshot_task *t, struct err *err)
{
    struct create *c = (struct create *)t;
    struct uuid uuid;
    struct err ignored;
    int rc = catalogue_check_free(&t->catalogue, t->name, err);
    if (rc == 0)
        rc = find_parent(c, err);
    if (rc < 0)
        return rc;
    manifest_uuid(&t->manifest->uuid, &uuid);
    CLEAN(clean_fd) int dirfd = catalogue_begin(&t->catalogue, &uuid, err);
    if (dirfd < 0)
        return dirfd;
    rc = fill_and_publish(c, &uuid, dirfd, err);
    if (rc < 0) {
        clean_fd(&dirfd);
        catalogue_abandon(&t->catalogue, &uuid, &ignored);
        return snapshot_task_is_cancelled(t) ? err_set(err, ECANCELED, "the snapshot was cancelled")
                                             : rc;
    }
    return snapshot_task_load(t, err);
}

/* the client's side -------------------------------------------------------------------- [loop] */

/* The guest is to end where its snapshot stands: it is killed while the worker still holds it, also
 * when nobody waits for that any more. */
static void stop_guest(struct create *c)
{
    struct tenant *tenant = registry_find(&c->task.daemon->registry, c->vm);
    const Ferry__MachineConfig *saved = c->task.manifest->config;
    if (tenant && manifest_same_uuid(&tenant->config->uuid, &saved->uuid) &&
        tenant_in(tenant, STATES_LIVE)) {
        tenant_kill(tenant, "stopped at its snapshot");
        c->stopping.tenant = tenant_in(tenant, STATES_LIVE) ? tenant : NULL;
    }
}

static void on_ended(struct snapshot_task *t)
{
    struct create *c = (struct create *)t;
    const Ferry__SnapshotRef *parent = t->manifest ? t->manifest->parent : NULL;
    if (t->err.code) {
        snapshot_notice_failed(t->daemon, c->vm, t->name, &t->err);
        return;
    }
    if (c->stop)
        stop_guest(c);
    snapshot_notice_created(t->daemon, c->vm, t->name, parent ? parent->name : "");
    log_info("%s: snapshot '%s', pause %.1f ms", c->vm, t->name, (double)c->done.pause_ns / 1e6);
}

static void on_stopped(void *ctx)
{
    snapshot_task_finish(ctx);
}

/* Whoever hears of it would finish within its move, while others are still to be told. */
static void on_moved(struct tenant_watch *watch, bool removed)
{
    struct stopping *s = (struct stopping *)watch;
    struct snapshot_task *t = &s->create->task;
    if (!removed && tenant_in(s->tenant, STATES_LIVE))
        return;
    tenant_unwatch(watch);
    timeout_set(&s->later, &t->daemon->loop, 0, on_stopped, t);
}

/* A guest that was to stop is off when its snapshot is told to be there. */
static bool waits(struct snapshot_task *t)
{
    struct create *c = (struct create *)t;
    if (!c->stopping.tenant)
        return false;
    c->stopping.create = c;
    tenant_watch(c->stopping.tenant, &c->stopping.watch, on_moved);
    return true;
}

static void reply(struct snapshot_task *t)
{
    struct create *c = (struct create *)t;
    c->done.note = c->note;
    snapshot_reply_detail(t, &c->done);
}

static void cancel(struct snapshot_task *t)
{
    struct create *c = (struct create *)t;
    if (c->client.fd >= 0)
        job_client_cancel(&c->client);
}

static void fini(struct snapshot_task *t)
{
    struct create *c = (struct create *)t;
    if (c->listed)
        LIST_REMOVE(c, all);
    timeout_cancel(&c->stopping.later);
    job_client_close(&c->client);
}

static const struct snapshot_work work = {
    .run = run, .ended = on_ended, .waits = waits, .reply = reply, .cancel = cancel, .fini = fini};

/* A message of its own, because the tenant's may go while the task runs. */
static int describe(struct snapshot_task *t, const struct tenant *tenant, struct err *err)
{
    Ferry__SnapshotManifest m = FERRY__SNAPSHOT_MANIFEST__INIT;
    struct uuid uuid;
    if (uuid_make(&uuid, err) < 0)
        return -err->code;
    m.name = t->name;
    m.uuid = (ProtobufCBinaryData){.data = uuid.bytes, .len = sizeof(uuid.bytes)};
    m.release = (char *)(uintptr_t)FERRY_VERSION;
    m.wall_ns = now_wall_ns();
    m.config = tenant->config;
    t->manifest = (Ferry__SnapshotManifest *)frame_copy(&m.base, err);
    return t->manifest ? 0 : -err->code;
}

/* A parent is followed by more of the chain unless it is said to be the last; an end by nothing. */
static int take_options(struct create *c, const Ferry__SnapshotCreateRequest *ask, struct err *err)
{
    bool ends = ask->last || ask->stop;
    if (ask->parent[0] && name_check(ask->parent, "the parent", err) < 0)
        return -err->code;
    if (ask->track && ends)
        return err_set(err, EINVAL, "what follows the last of a chain is not tracked");
    c->stop = ask->stop;
    c->or_full = ask->or_full;
    c->pack = ask->pack;
    c->track = ask->track || (ask->parent[0] && !ends);
    snprintf(c->parent.name, sizeof(c->parent.name), "%s", ask->parent);
    return 0;
}

static int take_name(struct create *c, struct err *err)
{
    struct create *other;
    LIST_FOREACH(other, &creating, all)
    if (strcmp(other->task.name, c->task.name) == 0)
        return err_set(err, EBUSY, "a snapshot '%s' is just being taken, of '%s'", c->task.name,
                       other->vm);
    LIST_INSERT_HEAD(&creating, c, all);
    c->listed = true;
    return 0;
}

int handle_snapshot_create(struct request *rq, struct err *err)
{
    const Ferry__SnapshotCreateRequest *ask = rq->message->snapshot_create;
    struct create *c = snapshot_task_new(rq, ask->snapshot, &work, sizeof(*c), err);
    if (!c)
        return -err->code;
    c->client.fd = -1;
    snprintf(c->vm, sizeof(c->vm), "%s", rq->tenant->name);
    if (take_options(c, ask, err) < 0 || take_name(c, err) < 0 ||
        describe(&c->task, rq->tenant, err) < 0) {
        snapshot_task_free(&c->task);
        return -err->code;
    }
    rq->tenant = NULL; /* it may go while the task runs */
    return snapshot_task_start(&c->task, err);
}

static void on_untracked(void *ctx, const Ferry__WorkerReply *reply, const struct err *err)
{
    struct request *rq = ctx;
    struct err why = err ? *err : (struct err){0};
    if (!err) {
        request_done(rq, NULL);
        return;
    }
    err_wrap(&why, "'%s'", rq->tenant->name);
    request_fail(rq, &why);
}

int handle_snapshot_untrack(struct request *rq, struct err *err)
{
    return tenant_ask(rq->tenant, FERRY__WORKER_REQUEST__BODY_UNTRACK, WORKER_PATIENCE_MS,
                      on_untracked, rq, err);
}
