/* migrate, and migration show, cancel, resolve: a guest that goes to another host (migration.h). */
#include <errno.h>

#include "base/name.h"
#include "daemon/handlers.h"
#include "daemon/migration.h"
#include "daemon/tenant.h"
#include "daemon/tenant_owner.h"
#include "proto/frame.h"

int handle_migrate(struct request *rq, struct err *err)
{
    return migration_start(rq, err);
}

static void reply_report(struct request *rq, Ferry__MigrationReport *report)
{
    Ferry__Reply reply = FERRY__REPLY__INIT;
    reply.body_case = FERRY__REPLY__BODY_MIGRATION;
    reply.migration = report;
    request_done(rq, &reply);
}

int handle_migration_show(struct request *rq, struct err *err)
{
    const char *name = rq->message->migration_show->name;
    Ferry__MigrationReport now;
    Ferry__Progress progress;
    int rc = name_check(name, "the VM's name", err);
    if (rc < 0)
        return rc;
    struct migration *m = migration_find(rq->daemon, name);
    if (m) {
        migration_describe(m, &now, &progress);
        reply_report(rq, &now);
        return 0;
    }
    Ferry__MigrationReport *last = migration_load(rq->daemon, name, err);
    if (!last)
        return -err->code;
    reply_report(rq, last);
    frame_free(&last->base);
    return 0;
}

int handle_migration_cancel(struct request *rq, struct err *err)
{
    struct migration *m = migration_find(rq->daemon, rq->tenant->name);
    if (!m)
        return err_set(err, EALREADY, "'%s' is not being migrated", rq->tenant->name);
    migration_cancel(m, rq);
    return 0;
}

static void on_resolved(void *ctx, const Ferry__WorkerReply *reply, const struct err *err)
{
    struct request *rq = ctx;
    if (err)
        request_fail(rq, err);
    else
        request_done(rq, NULL);
}

/* Its worker is dead, or it never had one here. */
static int resolve_record(struct request *rq, bool keep, struct err *err)
{
    struct err ignored;
    struct tenant *t = rq->tenant;
    if (tenant_owner_check(t, &ignored) == 0)
        return err_set(err, EALREADY, "'%s' is not in doubt: it is this host's", t->name);
    tenant_unwatch(&rq->watch);
    if (tenant_owner_resolve(t, keep, err) < 0)
        return -err->code;
    if (!keep)
        rq->tenant = NULL;
    request_done(rq, NULL);
    return 0;
}

int handle_migration_resolve(struct request *rq, struct err *err)
{
    bool keep = rq->message->migration_resolve->keep;
    Ferry__WorkerResolve resolve = FERRY__WORKER_RESOLVE__INIT;
    Ferry__WorkerRequest request = FERRY__WORKER_REQUEST__INIT;
    if (!tenant_in(rq->tenant, STATES_LIVE))
        return resolve_record(rq, keep, err);
    resolve.keep = keep;
    request.body_case = FERRY__WORKER_REQUEST__BODY_RESOLVE;
    request.resolve = &resolve;
    return tenant_call(rq->tenant, &request, WORKER_PATIENCE_MS, on_resolved, rq, err);
}
