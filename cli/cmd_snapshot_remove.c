/* vmctl snapshot rm, prune: what went, and what stays and why. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/units.h"
#include "cli/act.h"
#include "cli/commands.h"
#include "cli/json.h"
#include "cli/table.h"
#include "cli/text.h"
#include "proto/frame.h"

/* Verdicts come in parts: each is kept until the last has come. */
struct verdicts {
    Ferry__Reply **replies; /* owned */
    size_t count, capacity;
};

static void verdicts_fini(struct verdicts *v)
{
    for (size_t i = 0; i < v->count; i++)
        client_clean_reply(&v->replies[i]);
    free(v->replies);
}

static int keep(struct verdicts *v, Ferry__Reply *reply, struct err *err)
{
    if (v->count == v->capacity) {
        size_t capacity = v->capacity ? 2 * v->capacity : 8;
        Ferry__Reply **replies = realloc(v->replies, capacity * sizeof(*replies));
        if (!replies)
            return err_set(err, ENOMEM, "no memory for what ferryd answers");
        v->replies = replies;
        v->capacity = capacity;
    }
    v->replies[v->count++] = reply;
    return 0;
}

static int on_part(void *ctx, const Ferry__Reply *reply, struct err *err)
{
    if (reply->body_case != FERRY__REPLY__BODY_SNAPSHOT_VERDICTS)
        return err_set(err, EPROTO, "ferryd answered something else than what was asked");
    Ferry__Reply *copy = (Ferry__Reply *)frame_copy(&reply->base, err);
    int rc = copy ? keep(ctx, copy, err) : -err->code;
    if (copy && rc < 0)
        frame_free(&copy->base);
    return rc;
}

static int ask(struct act *act, const char *run, Ferry__Request *request, struct verdicts *v,
               struct err *err)
{
    CLEAN(client_clean_reply) Ferry__Reply *last = NULL;
    act->part = on_part;
    act->ctx = v;
    int rc = act_ask(act, run, request, FERRY__REPLY__BODY_SNAPSHOT_VERDICTS, &last, err);
    if (rc == 0)
        rc = keep(v, last, err);
    if (rc == 0)
        last = NULL;
    return rc;
}

/* The n-th of all parts' verdicts; NULL behind the last. */
static const Ferry__SnapshotVerdict *at(const struct verdicts *v, size_t n)
{
    for (size_t i = 0; i < v->count; i++) {
        const Ferry__SnapshotVerdicts *part = v->replies[i]->snapshot_verdicts;
        if (n < part->n_snapshots)
            return part->snapshots[n];
        n -= part->n_snapshots;
    }
    return NULL;
}

/* rm ------------------------------------------------------------------------------------------ */

static int json_removed(const struct verdicts *v, const char *name, struct err *err)
{
    const Ferry__SnapshotVerdict *one;
    struct json j;
    json_begin(&j, stdout);
    json_object(&j, NULL);
    json_string(&j, "name", name);
    json_bool(&j, "removed", true);
    json_array(&j, "snapshots");
    for (size_t i = 0; (one = at(v, i)); i++)
        json_string(&j, NULL, one->name);
    return json_finish(&j, err);
}

/* Who removed one by name knows which; who removed what stands on it is told. */
static void print_removed(const struct verdicts *v)
{
    const Ferry__SnapshotVerdict *one;
    for (size_t i = 0; (one = at(v, i)); i++) {
        fputs("removed ", stdout);
        text_print_line(stdout, one->name);
        fputc('\n', stdout);
    }
}

int cmd_snapshot_remove(const struct args *args, struct err *err)
{
    CLEAN(verdicts_fini) struct verdicts v = {0};
    Ferry__Request request = FERRY__REQUEST__INIT;
    Ferry__SnapshotRemoveRequest body = FERRY__SNAPSHOT_REMOVE_REQUEST__INIT;
    struct act act = {.doing = "removing",
                      .name = args->words[0],
                      .undone = "'vmctl snapshot list' tells whether it is still there"};
    body.name = (char *)args->words[0];
    body.with_children = args->with_children;
    request.body_case = FERRY__REQUEST__BODY_SNAPSHOT_REMOVE;
    request.snapshot_remove = &body;
    int rc = ask(&act, args->run, &request, &v, err);
    if (rc == 0 && args->json)
        return json_removed(&v, args->words[0], err);
    if (rc == 0 && args->with_children)
        print_removed(&v);
    return rc;
}

/* prune --------------------------------------------------------------------------------------- */

static int print_verdicts(const struct verdicts *v, bool dry_run, struct err *err)
{
    static const struct table_column columns[] = {{NULL}, {NULL}, {NULL, true}, {NULL}};
    CLEAN(table_fini) struct table t;
    const Ferry__SnapshotVerdict *one;
    char size[32];
    table_init(&t, columns, sizeof(columns) / sizeof(columns[0]));
    for (size_t i = 0; (one = at(v, i)); i++) {
        table_add(&t, !one->removed ? "kept" : dry_run ? "would remove" : "removed");
        table_add(&t, one->name);
        table_add(&t, units_format_size(one->disk_bytes, size, sizeof(size)));
        table_add(&t, one->why);
    }
    return table_print(&t, stdout, err);
}

static void json_side(struct json *j, const char *key, const struct verdicts *v, bool removed)
{
    const Ferry__SnapshotVerdict *one;
    json_array(j, key);
    for (size_t i = 0; (one = at(v, i)); i++) {
        if (one->removed != removed)
            continue;
        json_object(j, NULL);
        json_string(j, "name", one->name);
        json_u64(j, "disk_bytes", one->disk_bytes);
        if (!removed)
            json_string(j, "why", one->why);
        json_end(j);
    }
    json_end(j);
}

static int json_verdicts(const struct verdicts *v, bool dry_run, struct err *err)
{
    struct json j;
    json_begin(&j, stdout);
    json_object(&j, NULL);
    json_bool(&j, "dry_run", dry_run);
    json_side(&j, "removed", v, true);
    json_side(&j, "kept", v, false);
    return json_finish(&j, err);
}

int cmd_snapshot_prune(const struct args *args, struct err *err)
{
    CLEAN(verdicts_fini) struct verdicts v = {0};
    Ferry__Request request = FERRY__REQUEST__INIT;
    Ferry__SnapshotPruneRequest body = FERRY__SNAPSHOT_PRUNE_REQUEST__INIT;
    struct act act = {.doing = "pruning",
                      .name = args->words[0] ? args->words[0] : "all VMs",
                      .undone = "'vmctl snapshot list' tells what is still there"};
    if (!args->keep_newest && !args->older_ms)
        return err_set(err, COMMAND_USAGE, "prune needs --keep N or --older TIME");
    body.keep = (uint32_t)args->keep_newest;
    body.older_ms = args->older_ms;
    body.vm = args->words[0] ? (char *)args->words[0] : body.vm;
    body.dry_run = args->dry_run;
    request.body_case = FERRY__REQUEST__BODY_SNAPSHOT_PRUNE;
    request.snapshot_prune = &body;
    int rc = ask(&act, args->run, &request, &v, err);
    if (rc < 0)
        return rc;
    return args->json ? json_verdicts(&v, args->dry_run, err)
                      : print_verdicts(&v, args->dry_run, err);
}
