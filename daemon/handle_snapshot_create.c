/*
 * snapshot create: a directory is begun in the catalogue, the worker fills it, and it gets its
 * name. A client that leaves cancels it, and nothing is left of it.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "base/now.h"
#include "daemon/handlers.h"
#include "daemon/job_client.h"
#include "daemon/snapshot_reply.h"
#include "daemon/snapshot_task.h"
#include "daemon/tenant.h"
#include "proto/frame.h"
#include "snapshot/manifest.h"

struct create {
    struct snapshot_task task;
    char vm[NAME_MAX_CHARS + 1];
    bool stop;
    struct job_client client; /* its fd is locked (task.lock) while it is connected */
    Ferry__WorkerSnapshotDone done;
};

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
    ask.manifest = c->task.manifest;
    ask.hold = c->stop;
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

static int fill_and_publish(struct create *c, const struct uuid *uuid, int dirfd, struct err *err)
{
    int rc = connect_worker(c, dirfd, err);
    while (rc == 0)
        rc = take_reply(c, err);
    if (rc == -ECONNRESET)
        return err_set(err, ECONNRESET, "'%s' ended before it was saved", c->vm);
    return rc < 0 ? rc : catalogue_publish(&c->task.catalogue, uuid, c->task.name, err);
}

static int run(struct snapshot_task *t, struct err *err)
{
    struct uuid uuid;
    struct err ignored;
    manifest_uuid(&t->manifest->uuid, &uuid);
    CLEAN(clean_fd) int dirfd = catalogue_begin(&t->catalogue, &uuid, err);
    if (dirfd < 0)
        return dirfd;
    int rc = fill_and_publish((struct create *)t, &uuid, dirfd, err);
    if (rc < 0) {
        clean_fd(&dirfd);
        catalogue_abandon(&t->catalogue, &uuid, &ignored);
        return snapshot_task_is_cancelled(t) ? err_set(err, ECANCELED, "the snapshot was cancelled")
                                             : rc;
    }
    return snapshot_task_load(t, err);
}

/* the client's side -------------------------------------------------------------------- [loop] */

/* The guest is to end where its snapshot stands: it is killed while the worker still holds it. */
static void on_ended(struct snapshot_task *t)
{
    struct create *c = (struct create *)t;
    struct tenant *tenant = t->rq ? t->rq->tenant : NULL;
    if (t->err.code)
        return;
    if (c->stop && tenant && tenant_in(tenant, STATES_LIVE))
        tenant_kill(tenant, "stopped at its snapshot");
    log_info("%s: snapshot '%s', pause %.1f ms", c->vm, t->name, (double)c->done.pause_ns / 1e6);
}

static void reply(struct snapshot_task *t)
{
    snapshot_reply_detail(t, &((struct create *)t)->done);
}

static void cancel(struct snapshot_task *t)
{
    struct create *c = (struct create *)t;
    if (c->client.fd >= 0)
        job_client_cancel(&c->client);
}

static void fini(struct snapshot_task *t)
{
    job_client_close(&((struct create *)t)->client);
}

static const struct snapshot_work work = {
    .run = run, .ended = on_ended, .reply = reply, .cancel = cancel, .fini = fini};

static void on_moved(struct tenant_watch *watch, bool removed)
{
    struct request *rq = (struct request *)watch;
    if (!removed)
        return;
    tenant_unwatch(watch);
    rq->tenant = NULL;
}

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

int handle_snapshot_create(struct request *rq, struct err *err)
{
    const Ferry__SnapshotCreateRequest *ask = rq->message->snapshot_create;
    struct create *c = snapshot_task_new(rq, ask->snapshot, &work, sizeof(*c), err);
    if (!c)
        return -err->code;
    c->client.fd = -1;
    c->stop = ask->stop;
    snprintf(c->vm, sizeof(c->vm), "%s", rq->tenant->name);
    if (describe(&c->task, rq->tenant, err) < 0) {
        snapshot_task_free(&c->task);
        return -err->code;
    }
    tenant_watch(rq->tenant, &rq->watch, on_moved);
    return snapshot_task_start(&c->task, err);
}
