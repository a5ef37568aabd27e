/* See snapshot_task.h. */
#include "daemon/snapshot_task.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "snapshot/manifest.h"

void *snapshot_task_new(struct request *rq, const char *name, const struct snapshot_work *work,
                        size_t size, struct err *err)
{
    if (name && name_check(name, "the snapshot", err) < 0)
        return NULL;
    struct snapshot_task *t = calloc(1, size);
    if (!t) {
        err_set(err, ENOMEM, "no memory for a task");
        return NULL;
    }
    t->rq = rq;
    t->daemon = rq->daemon;
    t->root = &rq->daemon->root;
    t->catalogue = (struct catalogue){.fd = t->root->snapshots_fd, .io = &fileio_system};
    t->work = work;
    snprintf(t->name, sizeof(t->name), "%s", name ? name : "");
    pthread_mutex_init(&t->lock, NULL);
    return t;
}

void snapshot_task_free(struct snapshot_task *t)
{
    if (t->work->fini)
        t->work->fini(t);
    manifest_free(t->manifest);
    catalogue_list_fini(&t->list);
    pthread_mutex_destroy(&t->lock);
    free(t);
}

static void on_run(struct task *task, void *ctx)
{
    struct snapshot_task *t = ctx;
    t->task = task;
    t->work->run(t, &t->err);
}

static void on_news(void *ctx)
{
    struct snapshot_task *t = ctx;
    Ferry__Progress progress = FERRY__PROGRESS__INIT;
    Ferry__Reply reply = FERRY__REPLY__INIT;
    if (t->work->news)
        t->work->news(t);
    pthread_mutex_lock(&t->lock);
    progress.stage = (char *)(uintptr_t)t->progress.stage;
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

void snapshot_task_finish(struct snapshot_task *t)
{
    if (t->rq)
        t->rq->state = NULL; /* it is freed here, not with the request */
    if (t->rq && t->err.code)
        request_fail(t->rq, &t->err);
    else if (t->rq && t->work->reply)
        t->work->reply(t);
    else if (t->rq)
        request_done(t->rq, NULL);
    snapshot_task_free(t);
}

static void on_done(void *ctx)
{
    struct snapshot_task *t = ctx;
    if (t->work->ended)
        t->work->ended(t);
    if (!t->work->waits || !t->work->waits(t))
        snapshot_task_finish(t);
}

/* [loop] */
static bool is_committed(struct request *rq)
{
    struct snapshot_task *t = rq->state;
    pthread_mutex_lock(&t->lock);
    bool committed = t->committed;
    pthread_mutex_unlock(&t->lock);
    return committed;
}

/* [loop] The client left or cancelled. */
static void drop(struct request *rq)
{
    struct snapshot_task *t = rq->state;
    rq->state = NULL; /* the task's, not the request's */
    t->rq = NULL;
    pthread_mutex_lock(&t->lock);
    t->cancelled = true;
    if (t->work->cancel && !t->committed)
        t->work->cancel(t);
    pthread_mutex_unlock(&t->lock);
}

int snapshot_task_start(struct snapshot_task *t, struct err *err)
{
    static const struct task_ops ops = {.run = on_run, .news = on_news, .done = on_done};
    struct request *rq = t->rq;
    int rc = task_start(&rq->daemon->loop, &ops, t, err);
    if (rc < 0) {
        snapshot_task_free(t);
        return rc;
    }
    rq->state = t;
    rq->drop = drop;
    rq->too_late = is_committed;
    return 0;
}

int snapshot_task_load(struct snapshot_task *t, struct err *err)
{
    CLEAN(clean_fd) int dirfd = catalogue_open(&t->catalogue, t->name, err);
    if (dirfd < 0)
        return dirfd;
    manifest_free(t->manifest);
    t->manifest = manifest_read(dirfd, err);
    int rc = t->manifest ? catalogue_list(&t->catalogue, &t->list, err) : -err->code;
    return rc < 0 ? rc : catalogue_refuse_copy(catalogue_find(&t->list, t->name), err);
}

void snapshot_task_tell(struct snapshot_task *t, const struct snapshot_progress *progress)
{
    pthread_mutex_lock(&t->lock);
    t->progress = *progress;
    pthread_mutex_unlock(&t->lock);
    task_tell(t->task);
}

bool snapshot_task_is_cancelled(struct snapshot_task *t)
{
    pthread_mutex_lock(&t->lock);
    bool cancelled = t->cancelled;
    pthread_mutex_unlock(&t->lock);
    return cancelled;
}

int snapshot_task_commit(struct snapshot_task *t, struct err *err)
{
    pthread_mutex_lock(&t->lock);
    t->committed = !t->cancelled;
    pthread_mutex_unlock(&t->lock);
    return t->committed ? 0 : err_set(err, ECANCELED, "the snapshot was cancelled");
}
