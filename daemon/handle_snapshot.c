/* snapshot list, show, verify: looking at the catalogue, without any guest. */
#include <unistd.h>

#include "base/cleanup.h"
#include "daemon/handlers.h"
#include "daemon/snapshot_reply.h"
#include "daemon/snapshot_task.h"
#include "snapshot/manifest.h"
#include "snapshot/verify.h"

static int run_list(struct snapshot_task *t, struct err *err)
{
    return catalogue_list(&t->catalogue, &t->list, err);
}

static void reply_show(struct snapshot_task *t)
{
    snapshot_reply_detail(t, NULL);
}

static bool on_verified(void *ctx, uint64_t done, uint64_t total)
{
    struct snapshot_task *t = ctx;
    const struct snapshot_progress now = {
        .stage = "verifying", .done_bytes = done, .total_bytes = total};
    snapshot_task_tell(t, &now);
    return !snapshot_task_is_cancelled(t);
}

/* What it stands on, without which it is nothing. */
static int verify_parents(struct snapshot_task *t, const struct verify_watch *watch,
                          struct err *err)
{
    struct verify_result result;
    int layers[SNAPSHOT_CHAIN_MAX];
    int count = catalogue_open_chain(&t->catalogue, t->name, layers, SNAPSHOT_CHAIN_MAX, err);
    int rc = count < 0 ? count : 0;
    for (int i = count - 2; rc == 0 && i >= 0; i--)
        rc = verify_snapshot(layers[i], watch, &result, err);
    while (count > 0)
        close(layers[--count]);
    return rc;
}

static int run_verify(struct snapshot_task *t, struct err *err)
{
    struct verify_result result;
    const struct verify_watch watch = {.progress = on_verified, .ctx = t};
    CLEAN(clean_fd) int dirfd = catalogue_open_own(&t->catalogue, t->name, err);
    if (dirfd < 0)
        return dirfd;
    CLEAN(clean_manifest) Ferry__SnapshotManifest *m = manifest_read(dirfd, err);
    if (!m)
        return err_wrap(err, "snapshot '%s'", t->name);
    int rc = verify_snapshot(dirfd, &watch, &result, err);
    return rc < 0 || !m->parent ? rc : verify_parents(t, &watch, err);
}

static const struct snapshot_work list_work = {.run = run_list, .reply = snapshot_reply_list};
static const struct snapshot_work show_work = {.run = snapshot_task_load, .reply = reply_show};
static const struct snapshot_work verify_work = {.run = run_verify};

static int start(struct request *rq, const char *name, const struct snapshot_work *work,
                 struct err *err)
{
    struct snapshot_task *t = snapshot_task_new(rq, name, work, sizeof(*t), err);
    return t ? snapshot_task_start(t, err) : -err->code;
}

int handle_snapshot_list(struct request *rq, struct err *err)
{
    return start(rq, NULL, &list_work, err);
}

int handle_snapshot_show(struct request *rq, struct err *err)
{
    return start(rq, rq->message->snapshot_show->name, &show_work, err);
}

int handle_snapshot_verify(struct request *rq, struct err *err)
{
    return start(rq, rq->message->snapshot_verify->name, &verify_work, err);
}
