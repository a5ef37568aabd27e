/*
 * snapshot export and import: the bytes of a snapshot to a client, and from one.
 *
 * ferryd opens no file and no address for them: a client may do neither by ferryd what it could not
 * do by itself. An export is a stream of replies that waits for its reader. An import is a request
 * that stays open while others (import_data) bring the bytes; each of those is answered when there
 * is room for the next, so that memory is bounded both ways.
 *
 * What is imported has a name only when every byte of it has been verified. A client that leaves
 * leaves nothing.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "daemon/byte_queue.h"
#include "daemon/client.h"
#include "daemon/handlers.h"
#include "daemon/snapshot_reply.h"
#include "daemon/snapshot_task.h"
#include "snapshot/export.h"
#include "snapshot/import.h"

/* Pieces of one import that may wait for their answer. */
#define WAITING_MAX 4u

struct transfer {
    struct snapshot_task task; /* first */
    struct byte_queue queue;
    bool alone;
    uint64_t bytes;                       /* so far. [job] */
    struct request *waiting[WAITING_MAX]; /* import_data to be answered. [loop] */
};

static void fini(struct snapshot_task *task)
{
    byte_queue_fini(&((struct transfer *)task)->queue);
}

static void cancel(struct snapshot_task *task)
{
    byte_queue_stop(&((struct transfer *)task)->queue);
}

static struct transfer *transfer_new(struct request *rq, const char *name,
                                     const struct snapshot_work *work, struct err *err)
{
    struct transfer *t = snapshot_task_new(rq, name, work, sizeof(*t), err);
    if (t)
        byte_queue_init(&t->queue);
    return t;
}

/* export -------------------------------------------------------------------------------------- */

static int on_bytes(void *ctx, const uint8_t *data, size_t len, struct err *err)
{
    struct transfer *t = ctx;
    int rc = byte_queue_put(&t->queue, data, len, err);
    t->bytes += len;
    task_tell(t->task.task);
    return rc;
}

static bool on_exported(void *ctx, uint64_t done, uint64_t total)
{
    struct transfer *t = ctx;
    snapshot_task_tell(&t->task, &(struct snapshot_progress){
                                     .stage = "sending", .done_bytes = done, .total_bytes = total});
    return !snapshot_task_is_cancelled(&t->task);
}

static int run_export(struct snapshot_task *task, struct err *err)
{
    struct transfer *t = (struct transfer *)task;
    const struct export_options options = {.alone = t->alone};
    const struct export_sink sink = {.write = on_bytes, .progress = on_exported, .ctx = t};
    int rc = export_snapshot(&task->catalogue, task->name, &options, &sink, err);
    if (rc == 0)
        byte_queue_flush(&t->queue);
    return rc;
}

/* [loop] As much as the client reads. */
static void send_bytes(struct snapshot_task *task)
{
    struct transfer *t = (struct transfer *)task;
    uint8_t piece[BYTE_QUEUE_PIECE];
    size_t n;
    while (task->rq && !request_is_full(task->rq) &&
           (n = byte_queue_take(&t->queue, piece, sizeof(piece)))) {
        Ferry__SnapshotData data = FERRY__SNAPSHOT_DATA__INIT;
        Ferry__Reply reply = FERRY__REPLY__INIT;
        data.data = (ProtobufCBinaryData){.data = piece, .len = n};
        reply.body_case = FERRY__REPLY__BODY_SNAPSHOT_DATA;
        reply.snapshot_data = &data;
        request_send(task->rq, &reply);
    }
}

static void drained(struct request *rq)
{
    send_bytes(rq->state);
}

int handle_snapshot_export(struct request *rq, struct err *err)
{
    static const struct snapshot_work work = {
        .run = run_export, .news = send_bytes, .cancel = cancel, .fini = fini};
    const Ferry__SnapshotExportRequest *ask = rq->message->snapshot_export;
    struct transfer *t = transfer_new(rq, ask->name, &work, err);
    if (!t)
        return -err->code;
    t->alone = ask->alone;
    rq->drained = drained;
    return snapshot_task_start(&t->task, err);
}

/* import -------------------------------------------------------------------------------------- */

static bool on_verified(void *ctx, uint64_t done, uint64_t total)
{
    struct transfer *t = ctx;
    snapshot_task_tell(&t->task, &(struct snapshot_progress){.stage = "verifying",
                                                             .done_bytes = done,
                                                             .total_bytes = total});
    return !snapshot_task_is_cancelled(&t->task);
}

/* Who is told that it was cancelled must not find it. */
static int on_ready(void *ctx, struct err *err)
{
    return snapshot_task_commit(ctx, err);
}

static int receive(struct transfer *t, struct import *im, struct err *err)
{
    uint8_t piece[BYTE_QUEUE_PIECE];
    ssize_t n;
    int rc = 0;
    while (rc == 0 && (n = byte_queue_get(&t->queue, piece, sizeof(piece), err)) != 0) {
        rc = n < 0 ? (int)n : import_push(im, piece, (size_t)n, err);
        t->bytes += n < 0 ? 0 : (uint64_t)n;
        snapshot_task_tell(
            &t->task, &(struct snapshot_progress){.stage = "receiving", .done_bytes = t->bytes});
    }
    return rc;
}

static int run_import(struct snapshot_task *task, struct err *err)
{
    struct transfer *t = (struct transfer *)task;
    const struct verify_watch watch = {.progress = on_verified, .ctx = t};
    char name[NAME_MAX_CHARS + 1];
    struct import im;
    int rc = import_init(&im, &task->catalogue, task->name[0] ? task->name : NULL, 0, err);
    im.watch = &watch;
    im.commit = on_ready;
    im.ctx = t;
    if (rc == 0)
        rc = receive(t, &im, err);
    if (rc == 0)
        rc = import_finish(&im, name, err);
    import_fini(&im);
    if (rc < 0)
        return rc;
    memcpy(task->name, name, sizeof(name));
    log_info("snapshot '%s' was imported", name);
    return snapshot_task_load(task, err);
}

/* [loop] Pieces are answered when there is room for more. */
static void answer_waiting(struct snapshot_task *task)
{
    struct transfer *t = (struct transfer *)task;
    for (unsigned i = 0; i < WAITING_MAX && byte_queue_wants(&t->queue); i++)
        if (t->waiting[i]) {
            struct request *rq = t->waiting[i];
            t->waiting[i] = NULL;
            rq->state = NULL;
            request_done(rq, NULL);
        }
}

/* [loop] Nobody takes what still comes: the import's own answer says why. */
static void import_ended(struct snapshot_task *task)
{
    byte_queue_stop(&((struct transfer *)task)->queue);
    answer_waiting(task);
}

static void cancel_import(struct snapshot_task *task)
{
    cancel(task);
    answer_waiting(task);
}

static void reply_imported(struct snapshot_task *task)
{
    snapshot_reply_detail(task, NULL);
}

static const struct snapshot_work import_work = {.run = run_import,
                                                 .news = answer_waiting,
                                                 .ended = import_ended,
                                                 .reply = reply_imported,
                                                 .cancel = cancel_import,
                                                 .fini = fini};

int handle_snapshot_import(struct request *rq, struct err *err)
{
    const char *name = rq->message->snapshot_import->name;
    struct transfer *t = transfer_new(rq, *name ? name : NULL, &import_work, err);
    return t ? snapshot_task_start(&t->task, err) : -err->code;
}

static struct transfer *find_import(const struct request *rq, uint32_t id)
{
    struct request *other;
    TAILQ_FOREACH(other, &rq->client->requests, all)
    {
        if (other->id == id && other->row->handle == handle_snapshot_import)
            return other->state;
    }
    return NULL;
}

/* [loop] The client left or cancelled a piece, which is in the queue already. */
static void drop_piece(struct request *rq)
{
    struct transfer *t = rq->state;
    rq->state = NULL;
    for (unsigned i = 0; i < WAITING_MAX; i++)
        if (t->waiting[i] == rq)
            t->waiting[i] = NULL;
}

int handle_snapshot_import_data(struct request *rq, struct err *err)
{
    const Ferry__SnapshotImportData *ask = rq->message->snapshot_import_data;
    struct transfer *t = find_import(rq, ask->target);
    unsigned slot = 0;
    if (!t)
        return err_set(err, ENOENT, "request %u is no import that is open", ask->target);
    if (ask->data.len > BYTE_QUEUE_PIECE)
        return err_set(err, EMSGSIZE, "data has %zu bytes, at most %u", ask->data.len,
                       BYTE_QUEUE_PIECE);
    while (slot < WAITING_MAX && t->waiting[slot])
        slot++;
    if (slot == WAITING_MAX)
        return err_set(err, EAGAIN, "%u pieces of this import wait already", WAITING_MAX);
    int rc = byte_queue_add(&t->queue, ask->data.data, ask->data.len, ask->end, err);
    if (rc < 0)
        return rc;
    t->waiting[slot] = rq;
    rq->state = t;
    rq->drop = drop_piece;
    answer_waiting(&t->task);
    return 0;
}
