/*
 * start: defines and starts, or starts again. The reply comes when the guest runs, or stands before
 * its first instruction. A start that fails, is cancelled, or whose client leaves is undone; when
 * it was to define the VM as well, nothing of it is left.
 */
#include <errno.h>
#include <string.h>

#include "base/cleanup.h"
#include "daemon/definition.h"
#include "daemon/handlers.h"
#include "daemon/spawn.h"
#include "daemon/tenant.h"
#include "proto/frame.h"

/* A copy that is not the request's: the tenant keeps it. */
static Ferry__MachineConfig *steal_config(struct request *rq)
{
    return steal_ptr(&rq->message->start->config);
}

static void end(struct request *rq)
{
    struct err err = {0};
    struct tenant *t = rq->tenant;
    if (tenant_in(t, STATE_BIT(RUNNING) | STATE_BIT(PAUSED) | STATE_BIT(STOPPING))) {
        request_done(rq, NULL);
        return;
    }
    err_set(&err, t->gone_code ? t->gone_code : EIO, "%s", tenant_ending_text(t));
    request_fail(rq, &err);
}

static void on_moved(struct tenant_watch *watch, bool removed)
{
    struct request *rq = (struct request *)watch;
    if (!tenant_in(rq->tenant, STATE_BIT(STARTING)))
        end(rq);
}

/* Nobody waits for it any more. */
static void drop(struct request *rq)
{
    struct tenant *t = rq->tenant;
    tenant_unwatch(&rq->watch);
    if (tenant_in(t, STATE_BIT(STARTING)))
        tenant_kill(t, "the start was cancelled");
}

static int start(struct request *rq, struct err *err)
{
    int rc = tenant_start(rq->daemon, rq->tenant, rq->message->start->paused, NULL, err);
    if (rc < 0)
        return rc;
    rq->drop = drop;
    tenant_watch(rq->tenant, &rq->watch, on_moved);
    return 0;
}

/* Opening comes before defining, so that a missing file defines nothing. */
static int check_inputs(const struct request *rq, const Ferry__MachineConfig *config,
                        struct err *err)
{
    CLEAN(spawn_fini) struct spawn s = SPAWN_EMPTY;
    return spawn_open_inputs(&s, rq->daemon->options.kvm, config, err);
}

static int define(struct request *rq, struct err *err)
{
    struct registry *registry = &rq->daemon->registry;
    Ferry__MachineConfig *config = rq->message->start->config;
    config->rng = true;
    int rc = definition_complete(config, err);
    if (rc == 0)
        rc = check_inputs(rq, config, err);
    if (rc < 0)
        return rc;
    rq->tenant = registry_define(registry, steal_config(rq), err);
    if (!rq->tenant)
        return -err->code;
    rq->tenant->transient = true;
    tenant_event(rq->tenant, FERRY__EVENT_KIND__EVENT_DEFINED, "");
    rc = start(rq, err);
    if (rc < 0) {
        struct err ignored;
        struct tenant *t = steal_ptr(&rq->tenant);
        registry_remove(t, &ignored);
    }
    return rc;
}

/* A frozen guest is given up first. */
static void on_frozen_gone(struct tenant_watch *watch, bool removed)
{
    struct request *rq = (struct request *)watch;
    struct err err = {0};
    tenant_unwatch(watch);
    if (removed) {
        rq->tenant = NULL;
        err_set(&err, ENOENT, "the VM was removed meanwhile");
        request_fail(rq, &err);
        return;
    }
    if (!tenant_in(rq->tenant, rq->row->states & ~STATE_BIT(FAILED)))
        rpc_table_refuse_state(rq->row, rq->tenant->name, tenant_state(rq->tenant), &err);
    if (err.code || start(rq, &err) < 0)
        request_fail(rq, &err);
}

static int again(struct request *rq, struct err *err)
{
    struct tenant *t = rq->tenant;
    if (!tenant_in(t, rq->row->states))
        return rpc_table_refuse_state(rq->row, t->name, tenant_state(t), err);
    if (!tenant_in(t, STATE_BIT(FAILED)))
        return start(rq, err);
    int rc = check_inputs(rq, t->config, err);
    if (rc < 0)
        return rc;
    tenant_watch(t, &rq->watch, on_frozen_gone);
    tenant_kill(t, "started again");
    return 0;
}

int handle_start(struct request *rq, struct err *err)
{
    const Ferry__MachineConfig *config = rq->message->start->config;
    if (!config)
        return err_set(err, EINVAL, "a start request needs a config");
    bool full = definition_is_full(config);
    rq->tenant = registry_find(&rq->daemon->registry, config->name);
    if (rq->tenant && full) {
        rq->tenant = NULL;
        return err_set(err, EEXIST, "'%s' exists: start it by its name alone, or rm it first",
                       config->name);
    }
    if (rq->tenant)
        return again(rq, err);
    if (!full)
        return err_set(err, ENOENT, "there is no VM '%.64s': give a kernel to define it",
                       config->name);
    return define(rq, err);
}
