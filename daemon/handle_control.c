/*
 * pause, resume, reset: the worker does it, then its status is asked for, so that the state that a
 * client sees after the reply is the one it asked for.
 */
#include <errno.h>

#include "daemon/handlers.h"
#include "daemon/tenant.h"
#include "daemon/tenant_owner.h"

static void fail(struct request *rq, const struct err *why)
{
    struct err err = *why;
    err_wrap(&err, "'%s' cannot %s", rq->tenant->name, rq->row->name);
    request_fail(rq, &err);
}

/* A stop that came meanwhile has undone it. */
static bool is_overtaken(const struct request *rq)
{
    return rq->message->body_case == FERRY__REQUEST__BODY_PAUSE &&
           tenant_in(rq->tenant, STATE_BIT(STOPPING));
}

static void on_status(void *ctx, const Ferry__WorkerReply *reply, const struct err *err)
{
    struct request *rq = ctx;
    if (err) {
        fail(rq, err);
        return;
    }
    if (reply->body_case == FERRY__WORKER_REPLY__BODY_STATUS)
        tenant_apply(rq->tenant, reply->status);
    if (is_overtaken(rq)) {
        struct err late = {0};
        rpc_table_refuse_state(rq->row, rq->tenant->name, tenant_state(rq->tenant), &late);
        request_fail(rq, &late);
        return;
    }
    request_done(rq, NULL);
}

static void on_answer(void *ctx, const Ferry__WorkerReply *reply, const struct err *err)
{
    struct request *rq = ctx;
    struct err failed = {0};
    if (err)
        fail(rq, err);
    else if (tenant_ask(rq->tenant, FERRY__WORKER_REQUEST__BODY_STATUS, WORKER_PATIENCE_MS,
                        on_status, rq, &failed) < 0)
        fail(rq, &failed);
}

int handle_pause(struct request *rq, struct err *err)
{
    return tenant_ask(rq->tenant, FERRY__WORKER_REQUEST__BODY_PAUSE, WORKER_PATIENCE_MS, on_answer,
                      rq, err);
}

/* Its worker looks after that by itself, unless it is one that took another's place. */
int handle_resume(struct request *rq, struct err *err)
{
    if (tenant_owner_check(rq->tenant, err) < 0)
        return -err->code;
    return tenant_ask(rq->tenant, FERRY__WORKER_REQUEST__BODY_RESUME, WORKER_PATIENCE_MS, on_answer,
                      rq, err);
}

int handle_reset(struct request *rq, struct err *err)
{
    if (tenant_owner_check(rq->tenant, err) < 0)
        return -err->code;
    return tenant_ask(rq->tenant, FERRY__WORKER_REQUEST__BODY_RESET, WORKER_PATIENCE_MS, on_answer,
                      rq, err);
}
