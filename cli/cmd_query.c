/* vmctl list, show, stats, version: what ferryd knows, asked once. */
#include <inttypes.h>
#include <stdio.h>

#include "base/cleanup.h"
#include "base/now.h"
#include "cli/client.h"
#include "cli/commands.h"
#include "cli/stats.h"
#include "cli/table.h"
#include "cli/text.h"
#include "cli/vm.h"

static void print_names(const Ferry__VmList *list)
{
    for (size_t i = 0; i < list->n_vms; i++) {
        text_print_line(stdout, list->vms[i]->name);
        fputc('\n', stdout);
    }
}

int cmd_list(const struct args *args, struct err *err)
{
    CLEAN(client_clean_reply) Ferry__Reply *reply = NULL;
    Ferry__Request request = FERRY__REQUEST__INIT;
    Ferry__ListRequest list = FERRY__LIST_REQUEST__INIT;
    request.body_case = FERRY__REQUEST__BODY_LIST;
    request.list = &list;
    int rc = client_ask(args->run, &request, FERRY__REPLY__BODY_LIST, &reply, err);
    if (rc < 0)
        return rc;
    if (args->json)
        return vm_json_list(stdout, reply->list, err);
    if (!args->names)
        return vm_print_list(stdout, reply->list, now_wall_ns(), err);
    print_names(reply->list);
    return 0;
}

int cmd_show(const struct args *args, struct err *err)
{
    CLEAN(client_clean_reply) Ferry__Reply *reply = NULL;
    int rc = vm_ask(args->run, args->words[0], &reply, err);
    if (rc < 0)
        return rc;
    return args->json ? vm_json_detail(stdout, reply->vm, err)
                      : vm_print_detail(stdout, reply->vm, now_wall_ns(), err);
}

int cmd_stats(const struct args *args, struct err *err)
{
    CLEAN(client_clean_reply) Ferry__Reply *reply = NULL;
    Ferry__Request request = FERRY__REQUEST__INIT;
    Ferry__StatsRequest stats = FERRY__STATS_REQUEST__INIT;
    stats.name = (char *)args->words[0];
    request.body_case = FERRY__REQUEST__BODY_STATS;
    request.stats = &stats;
    int rc = client_ask(args->run, &request, FERRY__REPLY__BODY_STATS, &reply, err);
    if (rc < 0)
        return rc;
    return args->json ? stats_json(stdout, reply->stats, err)
                      : stats_print(stdout, reply->stats, err);
}

static int json_version(const Ferry__VersionReply *v, struct err *err)
{
    struct json j;
    json_begin(&j, stdout);
    json_object(&j, NULL);
    json_string(&j, "vmctl", FERRY_VERSION);
    json_object(&j, "ferryd");
    json_string(&j, "release", v->release);
    json_u64(&j, "protocol", v->protocol);
    json_u64(&j, "pid", v->pid);
    json_string(&j, "kvm", v->kvm);
    return json_finish(&j, err);
}

static int print_version(const Ferry__VersionReply *v, struct err *err)
{
    static const struct table_column columns[] = {{NULL}, {NULL}};
    CLEAN(table_fini) struct table t;
    table_init(&t, columns, 2);
    table_add(&t, "vmctl");
    table_add(&t, FERRY_VERSION);
    table_add(&t, "ferryd");
    table_addf(&t, "%.64s, protocol %" PRIu32 ", pid %" PRIu32, v->release, v->protocol, v->pid);
    table_add(&t, "kvm");
    table_add(&t, v->kvm);
    return table_print(&t, stdout, err);
}

int cmd_version(const struct args *args, struct err *err)
{
    CLEAN(client_clean_reply) Ferry__Reply *reply = NULL;
    Ferry__Request request = FERRY__REQUEST__INIT;
    Ferry__VersionRequest version = FERRY__VERSION_REQUEST__INIT;
    request.body_case = FERRY__REQUEST__BODY_VERSION;
    request.version = &version;
    int rc = client_ask(args->run, &request, FERRY__REPLY__BODY_VERSION, &reply, err);
    if (rc < 0)
        return rc;
    return args->json ? json_version(reply->version, err) : print_version(reply->version, err);
}
