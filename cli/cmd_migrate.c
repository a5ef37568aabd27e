/* vmctl migrate; vmctl migration show, cancel, resolve. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "cli/act.h"
#include "cli/commands.h"
#include "cli/migration.h"

static Ferry__OnStall on_stall(const char *word)
{
    if (strcmp(word, "cancel") == 0)
        return FERRY__ON_STALL__STALL_CANCEL;
    return strcmp(word, "force") == 0 ? FERRY__ON_STALL__STALL_FORCE
                                      : FERRY__ON_STALL__STALL_THROTTLE;
}

static Ferry__Compress compress(const char *word)
{
    if (strcmp(word, "zstd") == 0)
        return FERRY__COMPRESS__COMPRESS_ZSTD;
    return strcmp(word, "off") == 0 ? FERRY__COMPRESS__COMPRESS_OFF
                                    : FERRY__COMPRESS__COMPRESS_AUTO;
}

/* A check that finds something is refused, once all of it is printed. */
static int print(const struct args *args, const Ferry__MigrationReport *r, struct err *err)
{
    int rc = args->json    ? migration_json(stdout, r, err)
             : args->check ? migration_print_reasons(stdout, r)
                           : migration_print_done(stdout, r);
    if (rc == 0 && args->check && r->n_reasons)
        rc = err_set(err, EPERM, "'%s' cannot go to %s", r->name, r->peer);
    return rc;
}

int cmd_migrate(const struct args *args, struct err *err)
{
    CLEAN(client_clean_reply) Ferry__Reply *reply = NULL;
    Ferry__Request request = FERRY__REQUEST__INIT;
    Ferry__MigrateRequest body = FERRY__MIGRATE_REQUEST__INIT;
    const struct act act = {.doing = args->check ? "checking" : "migrating",
                            .name = args->words[0],
                            .undone = args->check ? "nothing was changed" : "it runs on here"};
    bool detach = args->detach && !args->check;
    body.name = (char *)args->words[0];
    body.peer = (char *)args->words[1];
    body.downtime_ms = args->downtime_ms;
    body.timeout_ms = args->timeout_ms;
    body.bandwidth = args->bandwidth;
    body.on_stall = on_stall(args->on_stall);
    body.compress = compress(args->compress);
    body.streams = (uint32_t)args->streams;
    body.check = args->check;
    body.detach = detach;
    request.body_case = FERRY__REQUEST__BODY_MIGRATE;
    request.migrate = &body;
    int rc =
        act_ask(&act, args->run, &request,
                detach ? FERRY__REPLY__BODY__NOT_SET : FERRY__REPLY__BODY_MIGRATION, &reply, err);
    if (rc < 0)
        return rc;
    if (detach)
        return args->json ? act_report_done(act.name, "begun", err) : 0;
    return print(args, reply->migration, err);
}

int cmd_migration_show(const struct args *args, struct err *err)
{
    CLEAN(client_clean_reply) Ferry__Reply *reply = NULL;
    Ferry__Request request = FERRY__REQUEST__INIT;
    Ferry__MigrationShowRequest body = FERRY__MIGRATION_SHOW_REQUEST__INIT;
    body.name = (char *)args->words[0];
    request.body_case = FERRY__REQUEST__BODY_MIGRATION_SHOW;
    request.migration_show = &body;
    int rc = client_ask(args->run, &request, FERRY__REPLY__BODY_MIGRATION, &reply, err);
    if (rc < 0)
        return rc;
    return args->json ? migration_json(stdout, reply->migration, err)
                      : migration_print(stdout, reply->migration, err);
}

int cmd_migration_cancel(const struct args *args, struct err *err)
{
    Ferry__Request request = FERRY__REQUEST__INIT;
    Ferry__MigrationCancelRequest body = FERRY__MIGRATION_CANCEL_REQUEST__INIT;
    const struct act act = {.doing = "cancelling the migration of", .name = args->words[0]};
    body.name = (char *)act.name;
    request.body_case = FERRY__REQUEST__BODY_MIGRATION_CANCEL;
    request.migration_cancel = &body;
    return act_run(&act, args, &request, err);
}

int cmd_migration_resolve(const struct args *args, struct err *err)
{
    Ferry__Request request = FERRY__REQUEST__INIT;
    Ferry__MigrationResolveRequest body = FERRY__MIGRATION_RESOLVE_REQUEST__INIT;
    const struct act act = {
        .doing = "resolving the migration of", .name = args->words[0], .gone = args->discard};
    if (args->keep == args->discard) {
        err_set(err, EINVAL, "'migration resolve' needs one of --keep and --discard");
        err->code = COMMAND_USAGE;
        return -COMMAND_USAGE;
    }
    body.name = (char *)act.name;
    body.keep = args->keep;
    request.body_case = FERRY__REQUEST__BODY_MIGRATION_RESOLVE;
    request.migration_resolve = &body;
    return act_run(&act, args, &request, err);
}
