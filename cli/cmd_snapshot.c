/* vmctl snapshot create, untrack, list, show, verify; vmctl restore. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/now.h"
#include "cli/act.h"
#include "cli/commands.h"
#include "cli/disk.h"
#include "cli/json.h"
#include "cli/net.h"
#include "cli/snapshot.h"
#include "cli/text.h"

static int check_detail(const Ferry__Reply *reply, const char *name, struct err *err)
{
    if (reply->snapshot->summary)
        return 0;
    return err_set(err, EPROTO, "ferryd described snapshot '%s' without a summary", name);
}

int cmd_snapshot_create(const struct args *args, struct err *err)
{
    CLEAN(client_clean_reply) Ferry__Reply *reply = NULL;
    Ferry__Request request = FERRY__REQUEST__INIT;
    Ferry__SnapshotCreateRequest body = FERRY__SNAPSHOT_CREATE_REQUEST__INIT;
    const struct act act = {
        .doing = "saving", .name = args->words[0], .undone = "nothing is left of the snapshot"};
    if (args->track && (args->last || args->stop))
        return err_set(err, COMMAND_USAGE, "--track goes neither with --last nor with --stop");
    body.name = (char *)args->words[0];
    body.snapshot = (char *)args->words[1];
    body.stop = args->stop;
    body.parent = args->parent ? (char *)args->parent : body.parent;
    body.or_full = args->full;
    body.track = args->track;
    body.last = args->last;
    body.pack = args->pack;
    request.body_case = FERRY__REQUEST__BODY_SNAPSHOT_CREATE;
    request.snapshot_create = &body;
    int rc = act_ask(&act, args->run, &request, FERRY__REPLY__BODY_SNAPSHOT, &reply, err);
    if (rc == 0)
        rc = check_detail(reply, args->words[1], err);
    if (rc < 0)
        return rc;
    return args->json ? snapshot_json_made(stdout, reply->snapshot, err)
                      : snapshot_print_made(stdout, reply->snapshot);
}

int cmd_snapshot_untrack(const struct args *args, struct err *err)
{
    Ferry__Request request = FERRY__REQUEST__INIT;
    Ferry__SnapshotUntrackRequest body = FERRY__SNAPSHOT_UNTRACK_REQUEST__INIT;
    const struct act act = {.doing = "ending the tracking of", .name = args->words[0]};
    body.name = (char *)act.name;
    request.body_case = FERRY__REQUEST__BODY_SNAPSHOT_UNTRACK;
    request.snapshot_untrack = &body;
    return act_run(&act, args, &request, err);
}

static void print_names(const Ferry__SnapshotList *list)
{
    for (size_t i = 0; i < list->n_snapshots; i++) {
        text_print_line(stdout, list->snapshots[i]->name);
        fputc('\n', stdout);
    }
}

static void warn_of_broken(const Ferry__SnapshotList *list)
{
    fflush(stdout);
    for (size_t i = 0; i < list->n_broken; i++)
        text_note("warning: broken snapshot %s", list->broken[i]);
}

int cmd_snapshot_list(const struct args *args, struct err *err)
{
    CLEAN(client_clean_reply) Ferry__Reply *reply = NULL;
    Ferry__Request request = FERRY__REQUEST__INIT;
    Ferry__SnapshotListRequest body = FERRY__SNAPSHOT_LIST_REQUEST__INIT;
    request.body_case = FERRY__REQUEST__BODY_SNAPSHOT_LIST;
    request.snapshot_list = &body;
    int rc = client_ask(args->run, &request, FERRY__REPLY__BODY_SNAPSHOTS, &reply, err);
    if (rc < 0)
        return rc;
    if (args->json)
        return snapshot_json_list(stdout, reply->snapshots, err);
    if (args->names)
        print_names(reply->snapshots);
    else
        rc = snapshot_print_list(stdout, reply->snapshots, now_wall_ns(), err);
    warn_of_broken(reply->snapshots);
    return rc;
}

int cmd_snapshot_show(const struct args *args, struct err *err)
{
    CLEAN(client_clean_reply) Ferry__Reply *reply = NULL;
    Ferry__Request request = FERRY__REQUEST__INIT;
    Ferry__SnapshotShowRequest body = FERRY__SNAPSHOT_SHOW_REQUEST__INIT;
    body.name = (char *)args->words[0];
    request.body_case = FERRY__REQUEST__BODY_SNAPSHOT_SHOW;
    request.snapshot_show = &body;
    int rc = client_ask(args->run, &request, FERRY__REPLY__BODY_SNAPSHOT, &reply, err);
    if (rc == 0)
        rc = check_detail(reply, args->words[0], err);
    if (rc < 0)
        return rc;
    return args->json ? snapshot_json_detail(stdout, reply->snapshot, err)
                      : snapshot_print_detail(stdout, reply->snapshot, err);
}

int cmd_snapshot_verify(const struct args *args, struct err *err)
{
    CLEAN(client_clean_reply) Ferry__Reply *reply = NULL;
    Ferry__Request request = FERRY__REQUEST__INIT;
    Ferry__SnapshotVerifyRequest body = FERRY__SNAPSHOT_VERIFY_REQUEST__INIT;
    const struct act act = {.doing = "verifying",
                            .name = args->words[0],
                            .undone = "what was read so far has no error"};
    body.name = (char *)args->words[0];
    request.body_case = FERRY__REQUEST__BODY_SNAPSHOT_VERIFY;
    request.snapshot_verify = &body;
    int rc = act_ask(&act, args->run, &request, FERRY__REPLY__BODY__NOT_SET, &reply, err);
    return rc < 0 || !args->json ? rc : act_report_done(act.name, "verified", err);
}

static int json_restored(const Ferry__RestoreReply *restored, struct err *err)
{
    struct json j;
    json_begin(&j, stdout);
    json_object(&j, NULL);
    json_array(&j, "names");
    for (size_t i = 0; i < restored->n_names; i++)
        json_string(&j, NULL, restored->names[i]);
    return json_finish(&j, err);
}

int cmd_restore(const struct args *args, struct err *err)
{
    CLEAN(client_clean_reply) Ferry__Reply *reply = NULL;
    CLEAN(disk_list_fini) struct disk_list disks = {.count = 0};
    CLEAN(net_list_fini) struct net_list nets = {.count = 0};
    Ferry__Request request = FERRY__REQUEST__INIT;
    Ferry__RestoreRequest body = FERRY__RESTORE_REQUEST__INIT;
    const struct act act = {.doing = "restoring",
                            .name = args->words[0],
                            .undone = "'vmctl list' tells which VMs there are"};
    body.snapshot = (char *)args->words[0];
    body.name = args->name ? (char *)args->name : body.name;
    body.count = (uint32_t)args->count;
    body.paused = args->paused;
    body.replace = args->replace;
    body.verify = args->verify;
    body.freeze_clock = strcmp(args->clock, "freeze") == 0;
    body.force = args->force;
    if (disk_list_parse(&disks, &args->disks, err) < 0 ||
        net_list_parse(&nets, &args->nets, err) < 0)
        return -err->code;
    body.disks = disks.list;
    body.n_disks = disks.count;
    body.nets = nets.list;
    body.n_nets = nets.count;
    request.body_case = FERRY__REQUEST__BODY_RESTORE;
    request.restore = &body;
    int rc = act_ask(&act, args->run, &request, FERRY__REPLY__BODY_RESTORED, &reply, err);
    return rc < 0 || !args->json ? rc : json_restored(reply->restored, err);
}
