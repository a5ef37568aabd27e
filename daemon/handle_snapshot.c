/*
 * snapshot create: a directory is begun in the catalogue, the worker fills it, and it gets its
 * name. list, show, rm: of the catalogue.
 *
 * All of it is reading and writing disks, so it runs in a task of its own (task.h). The request may
 * leave before its task: a create is cancelled then, the others end unheard.
 */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "base/name.h"
#include "base/now.h"
#include "daemon/handlers.h"
#include "daemon/job_client.h"
#include "daemon/task.h"
#include "daemon/tenant.h"
#include "proto/frame.h"
#include "snapshot/catalogue.h"
#include "snapshot/manifest.h"
#include "snapshot/verify.h"

struct snapshot_task {
    struct request *rq; /* [loop] NULL once it left */
    const struct root *root;
    struct catalogue catalogue;
    int (*work)(struct snapshot_task *t, struct err *err); /* [job] */
    struct err err;
    char vm[NAME_MAX_CHARS + 1], name[NAME_MAX_CHARS + 1];

    /* create */
    Ferry__SnapshotManifest *manifest; /* owned, of manifest_unpack */
    bool stop;
    struct task *task;
    pthread_mutex_t lock; /* for the two below, and for client.fd while it is connected */
    bool cancelled;
    Ferry__WorkerProgress progress; /* its stage is one of a few constants */
    struct job_client client;
    Ferry__WorkerSnapshotDone done;

    bool lists; /* the reply is the list */
    struct catalogue_list list;
};

static void task_free(struct snapshot_task *t)
{
    job_client_close(&t->client);
    manifest_free(t->manifest);
    catalogue_list_fini(&t->list);
    pthread_mutex_destroy(&t->lock);
    free(t);
}

static struct snapshot_task *task_new(struct request *rq, const char *name,
                                      int (*work)(struct snapshot_task *t, struct err *err),
                                      struct err *err)
{
    struct snapshot_task *t = calloc(1, sizeof(*t));
    if (!t) {
        err_set(err, ENOMEM, "no memory for a task");
        return NULL;
    }
    t->rq = rq;
    t->root = &rq->daemon->root;
    t->catalogue = (struct catalogue){.fd = t->root->snapshots_fd, .io = &fileio_system};
    t->work = work;
    t->client.fd = -1;
    snprintf(t->name, sizeof(t->name), "%s", name);
    pthread_mutex_init(&t->lock, NULL);
    return t;
}

static void on_run(struct task *task, void *ctx)
{
    struct snapshot_task *t = ctx;
    t->task = task;
    t->work(t, &t->err);
}

/* replies ------------------------------------------------------------------------------------- */

static void fill_summary(Ferry__SnapshotSummary *s, const struct catalogue_entry *e)
{
    ferry__snapshot_summary__init(s);
    s->name = (char *)e->name;
    s->vm = (char *)e->vm_name;
    s->uuid = (ProtobufCBinaryData){.data = (uint8_t *)e->uuid.bytes, .len = 16};
    s->wall_ns = e->wall_ns;
    s->ram_bytes = e->ram_bytes;
    s->disk_bytes = e->disk_bytes;
    s->parent = (char *)(e->has_parent ? e->parent_name : "");
}

/* "NAME: why". A directory may be called anything; what is no plain character is shown as '?'. */
static char *describe_broken(const struct catalogue_entry *e)
{
    char *text;
    if (asprintf(&text, "%s: %s", e->name, e->problem) < 0)
        return NULL;
    for (unsigned char *c = (unsigned char *)text; *c; c++)
        if (*c < 0x20 || *c >= 0x7f)
            *c = '?';
    return text;
}

static void free_texts(char **texts, size_t n)
{
    for (size_t i = 0; i < n; i++)
        free(texts[i]);
}

static void reply_list(struct snapshot_task *t)
{
    struct err err = {0};
    Ferry__SnapshotList list = FERRY__SNAPSHOT_LIST__INIT;
    Ferry__Reply reply = FERRY__REPLY__INIT;
    size_t n = t->list.count + 1;
    CLEAN(clean_free) Ferry__SnapshotSummary *space = calloc(n, sizeof(*space));
    CLEAN(clean_free) Ferry__SnapshotSummary **good = calloc(n, sizeof(*good));
    CLEAN(clean_free) char **broken = calloc(n, sizeof(*broken));
    if (!space || !good || !broken) {
        err_set(&err, ENOMEM, "no memory for the list");
        request_fail(t->rq, &err);
        return;
    }
    for (size_t i = 0; i < t->list.count; i++) {
        const struct catalogue_entry *e = &t->list.entries[i];
        if (e->problem) {
            char *text = describe_broken(e);
            if (text)
                broken[list.n_broken++] = text;
            continue;
        }
        fill_summary(&space[list.n_snapshots], e);
        good[list.n_snapshots] = &space[list.n_snapshots];
        list.n_snapshots++;
    }
    list.snapshots = good;
    list.broken = broken;
    reply.body_case = FERRY__REPLY__BODY_SNAPSHOTS;
    reply.snapshots = &list;
    request_done(t->rq, &reply);
    free_texts(broken, list.n_broken);
}

static void reply_detail(struct snapshot_task *t)
{
    const struct catalogue_entry *e = catalogue_find(&t->list, t->name);
    const Ferry__SnapshotManifest *m = t->manifest;
    Ferry__SnapshotSummary summary;
    Ferry__SnapshotDetail detail = FERRY__SNAPSHOT_DETAIL__INIT;
    Ferry__SnapshotFileDetail files[SNAPSHOT_FILES_MAX], *list[SNAPSHOT_FILES_MAX];
    Ferry__Reply reply = FERRY__REPLY__INIT;
    char path[4200];
    if (e) {
        fill_summary(&summary, e);
        detail.summary = &summary;
    }
    for (size_t i = 0; i < m->n_files && i < SNAPSHOT_FILES_MAX; i++) {
        ferry__snapshot_file_detail__init(&files[i]);
        files[i].name = m->files[i]->name;
        files[i].length = m->files[i]->length;
        list[detail.n_files++] = &files[i];
    }
    detail.files = list;
    detail.config = m->config;
    detail.release = m->release;
    if (m->cpu) {
        detail.cpu_vendor = m->cpu->vendor;
        detail.cpu_features = m->cpu->features;
    }
    detail.pause_ns = t->done.pause_ns;
    detail.total_ns = t->done.total_ns;
    detail.rounds = t->done.rounds;
    snprintf(path, sizeof(path), "%s/snapshots/%s", t->root->root, t->name);
    detail.path = path;
    reply.body_case = FERRY__REPLY__BODY_SNAPSHOT;
    reply.snapshot = &detail;
    request_done(t->rq, &reply);
}

/* the tasks' ends ----------------------------------------------------------------------------- */

static void on_done(void *ctx)
{
    struct snapshot_task *t = ctx;
    if (t->rq)
        t->rq->state = NULL; /* it is freed here, not with the request */
    if (t->rq && t->err.code)
        request_fail(t->rq, &t->err);
    else if (t->rq && t->manifest)
        reply_detail(t);
    else if (t->rq && t->lists)
        reply_list(t);
    else if (t->rq)
        request_done(t->rq, NULL);
    task_free(t);
}

/* The guest is to end where its snapshot stands: it is killed while the worker still holds it. */
static void on_created(void *ctx)
{
    struct snapshot_task *t = ctx;
    if (t->rq && !t->err.code && t->stop && t->rq->tenant && tenant_in(t->rq->tenant, STATES_LIVE))
        tenant_kill(t->rq->tenant, "stopped at its snapshot");
    if (!t->err.code)
        log_info("%s: snapshot '%s', pause %.1f ms", t->vm, t->name,
                 (double)t->done.pause_ns / 1e6);
    on_done(ctx);
}

static void on_news(void *ctx)
{
    struct snapshot_task *t = ctx;
    Ferry__Progress progress = FERRY__PROGRESS__INIT;
    Ferry__Reply reply = FERRY__REPLY__INIT;
    pthread_mutex_lock(&t->lock);
    progress.stage = t->progress.stage;
    progress.done_bytes = t->progress.done_bytes;
    progress.total_bytes = t->progress.total_bytes;
    progress.round = t->progress.round;
    pthread_mutex_unlock(&t->lock);
    if (!t->rq || !progress.stage || request_is_full(t->rq))
        return;
    reply.body_case = FERRY__REPLY__BODY_PROGRESS;
    reply.progress = &progress;
    request_send(t->rq, &reply);
}

static const struct task_ops look_ops = {.run = on_run, .news = on_news, .done = on_done};
static const struct task_ops create_ops = {.run = on_run, .news = on_news, .done = on_created};

/* [loop] The client left or cancelled. */
static void drop(struct request *rq)
{
    struct snapshot_task *t = rq->state;
    rq->state = NULL; /* the task's, not the request's */
    t->rq = NULL;
    pthread_mutex_lock(&t->lock);
    t->cancelled = true;
    if (t->client.fd >= 0)
        job_client_cancel(&t->client);
    pthread_mutex_unlock(&t->lock);
}

static void on_moved(struct tenant_watch *watch, bool removed)
{
    struct request *rq = (struct request *)watch;
    if (!removed)
        return;
    tenant_unwatch(watch);
    rq->tenant = NULL;
}

static int begin(struct snapshot_task *t, const struct task_ops *ops, struct err *err)
{
    struct request *rq = t->rq;
    int rc = task_start(&rq->daemon->loop, ops, t, err);
    if (rc < 0) {
        task_free(t);
        return rc;
    }
    rq->state = t;
    rq->drop = drop;
    return 0;
}

/* looking ------------------------------------------------------------------------------------- */

static int work_list(struct snapshot_task *t, struct err *err)
{
    t->lists = true;
    return catalogue_list(&t->catalogue, &t->list, err);
}

static int load(struct snapshot_task *t, struct err *err)
{
    CLEAN(clean_fd) int dirfd = catalogue_open(&t->catalogue, t->name, err);
    if (dirfd < 0)
        return dirfd;
    manifest_free(t->manifest);
    t->manifest = manifest_read(dirfd, err);
    return t->manifest ? catalogue_list(&t->catalogue, &t->list, err) : -err->code;
}

static int work_remove(struct snapshot_task *t, struct err *err)
{
    return catalogue_rm(&t->catalogue, t->name, false, err);
}

static bool on_verified(void *ctx, uint64_t done, uint64_t total)
{
    struct snapshot_task *t = ctx;
    pthread_mutex_lock(&t->lock);
    t->progress.stage = (char *)(uintptr_t) "verifying";
    t->progress.done_bytes = done;
    t->progress.total_bytes = total;
    bool go_on = !t->cancelled;
    pthread_mutex_unlock(&t->lock);
    task_tell(t->task);
    return go_on;
}

static int work_verify(struct snapshot_task *t, struct err *err)
{
    struct verify_result result;
    const struct verify_watch watch = {.progress = on_verified, .ctx = t};
    CLEAN(clean_fd) int dirfd = catalogue_open(&t->catalogue, t->name, err);
    return dirfd < 0 ? dirfd : verify_snapshot(dirfd, &watch, &result, err);
}

static int look(struct request *rq, const char *name,
                int (*work)(struct snapshot_task *t, struct err *err), struct err *err)
{
    if (name && name_check(name, "the snapshot", err) < 0)
        return -err->code;
    struct snapshot_task *t = task_new(rq, name ? name : "", work, err);
    return t ? begin(t, &look_ops, err) : -err->code;
}

int handle_snapshot_list(struct request *rq, struct err *err)
{
    return look(rq, NULL, work_list, err);
}

int handle_snapshot_show(struct request *rq, struct err *err)
{
    return look(rq, rq->message->snapshot_show->name, load, err);
}

int handle_snapshot_verify(struct request *rq, struct err *err)
{
    return look(rq, rq->message->snapshot_verify->name, work_verify, err);
}

int handle_snapshot_remove(struct request *rq, struct err *err)
{
    return look(rq, rq->message->snapshot_remove->name, work_remove, err);
}

/* creating ------------------------------------------------------------------------------------ */

/* The words a worker may say, so that none of its bytes are kept. */
static const char *stage_of(const char *said)
{
    return strcmp(said, "memory") == 0 ? "memory" : "writing";
}

static void take_progress(struct snapshot_task *t, const Ferry__WorkerProgress *p)
{
    pthread_mutex_lock(&t->lock);
    t->progress.stage = (char *)(uintptr_t)stage_of(p->stage);
    t->progress.done_bytes = p->done_bytes;
    t->progress.total_bytes = p->total_bytes;
    t->progress.round = p->round;
    pthread_mutex_unlock(&t->lock);
    task_tell(t->task);
}

/* One reply of the worker: 1 for the last, 0 for progress. */
static int take_reply(struct snapshot_task *t, struct err *err)
{
    Ferry__WorkerReply *reply = job_client_receive(&t->client, err);
    int rc = 0;
    if (!reply)
        return -err->code;
    if (reply->body_case == FERRY__WORKER_REPLY__BODY_PROGRESS)
        take_progress(t, reply->progress);
    else if (reply->body_case == FERRY__WORKER_REPLY__BODY_SNAPSHOT_DONE) {
        t->done.pause_ns = reply->snapshot_done->pause_ns;
        t->done.total_ns = reply->snapshot_done->total_ns;
        t->done.rounds = reply->snapshot_done->rounds;
        rc = 1;
    } else {
        rc = err_set(err, EPROTO, "the worker of '%s' does not say how far it is", t->vm);
    }
    frame_free(&reply->base);
    return rc;
}

static int connect_worker(struct snapshot_task *t, int dirfd, struct err *err)
{
    Ferry__WorkerSnapshot ask = FERRY__WORKER_SNAPSHOT__INIT;
    Ferry__WorkerRequest request = FERRY__WORKER_REQUEST__INIT;
    struct job_client client = {.fd = -1};
    ask.manifest = t->manifest;
    ask.hold = t->stop;
    request.body_case = FERRY__WORKER_REQUEST__BODY_SNAPSHOT;
    request.snapshot = &ask;
    int rc = job_client_open(&client, t->root, t->vm, &request, &dirfd, 1, err);
    pthread_mutex_lock(&t->lock);
    t->client = client;
    if (rc == 0 && t->cancelled)
        rc = err_set(err, ECANCELED, "the snapshot was cancelled");
    pthread_mutex_unlock(&t->lock);
    return rc;
}

static int fill_and_publish(struct snapshot_task *t, const struct uuid *uuid, int dirfd,
                            struct err *err)
{
    int rc = connect_worker(t, dirfd, err);
    while (rc == 0)
        rc = take_reply(t, err);
    if (rc == -ECONNRESET)
        return err_set(err, ECONNRESET, "'%s' ended before it was saved", t->vm);
    return rc < 0 ? rc : catalogue_publish(&t->catalogue, uuid, t->name, err);
}

static bool is_cancelled(struct snapshot_task *t)
{
    pthread_mutex_lock(&t->lock);
    bool cancelled = t->cancelled;
    pthread_mutex_unlock(&t->lock);
    return cancelled;
}

static int work_create(struct snapshot_task *t, struct err *err)
{
    struct uuid uuid;
    struct err ignored;
    manifest_uuid(&t->manifest->uuid, &uuid);
    CLEAN(clean_fd) int dirfd = catalogue_begin(&t->catalogue, &uuid, err);
    if (dirfd < 0)
        return dirfd;
    int rc = fill_and_publish(t, &uuid, dirfd, err);
    if (rc < 0) {
        clean_fd(&dirfd);
        catalogue_abandon(&t->catalogue, &uuid, &ignored);
        return is_cancelled(t) ? err_set(err, ECANCELED, "the snapshot was cancelled") : rc;
    }
    return load(t, err);
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
    if (name_check(ask->snapshot, "the snapshot", err) < 0)
        return -err->code;
    struct snapshot_task *t = task_new(rq, ask->snapshot, work_create, err);
    if (!t)
        return -err->code;
    snprintf(t->vm, sizeof(t->vm), "%s", rq->tenant->name);
    t->stop = ask->stop;
    if (describe(t, rq->tenant, err) < 0) {
        task_free(t);
        return -err->code;
    }
    tenant_watch(rq->tenant, &rq->watch, on_moved);
    return begin(t, &create_ops, err);
}
