/* version, list, show, stats: looking, without touching. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "daemon/client.h"
#include "daemon/handlers.h"
#include "daemon/tenant.h"
#include "machine/kvm.h"

#define SHOW_LOG_BYTES 8192u
#define STATS_MAX 1024u

static void describe_kvm(const char *path, char *to, size_t size)
{
    struct kvm kvm;
    struct err err = {0};
    CLEAN(clean_fd) int fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0)
        snprintf(to, size, "none: %s: %s", path, strerrordesc_np(errno));
    else if (kvm_init(&kvm, fd, &err) < 0)
        snprintf(to, size, "none: %s: %s", path, err.text);
    else
        snprintf(to, size, "kvm api 12, %s", path);
}

int handle_version(struct request *rq, struct err *err)
{
    char kvm[ERR_TEXT_MAX + 300];
    Ferry__VersionReply version = FERRY__VERSION_REPLY__INIT;
    Ferry__Reply reply = FERRY__REPLY__INIT;
    describe_kvm(rq->daemon->options.kvm, kvm, sizeof(kvm));
    version.release = FERRY_VERSION;
    version.protocol = CLIENT_PROTOCOL;
    version.kvm = kvm;
    version.pid = (uint32_t)getpid();
    reply.body_case = FERRY__REPLY__BODY_VERSION;
    reply.version = &version;
    request_done(rq, &reply);
    return 0;
}

/* The texts are borrowed from the tenant. */
static void summarize(const struct tenant *t, Ferry__VmSummary *s)
{
    ferry__vm_summary__init(s);
    s->name = (char *)t->name;
    s->state = tenant_state(t);
    s->cpus = t->config->cpus;
    s->memory_bytes = t->config->memory_bytes;
    s->pid = (uint32_t)t->process.pid;
    s->boot_wall_ns = t->boot_wall_ns;
    if (tenant_in(t, STATE_BIT(STOPPED) | STATE_BIT(FAILED) | STATE_BIT(CRASHED)))
        s->reason = (char *)tenant_ending_text(t);
}

int handle_list(struct request *rq, struct err *err)
{
    const struct registry *r = &rq->daemon->registry;
    Ferry__VmList list = FERRY__VM_LIST__INIT;
    Ferry__Reply reply = FERRY__REPLY__INIT;
    CLEAN(clean_free) Ferry__VmSummary *space = calloc(r->count + 1, sizeof(*space));
    CLEAN(clean_free) Ferry__VmSummary **vms = calloc(r->count + 1, sizeof(*vms));
    struct tenant *t;
    if (!space || !vms)
        return err_set(err, ENOMEM, "no memory for the list");
    TAILQ_FOREACH(t, &r->all, all)
    {
        summarize(t, &space[list.n_vms]);
        vms[list.n_vms] = &space[list.n_vms];
        list.n_vms++;
    }
    list.vms = vms;
    reply.body_case = FERRY__REPLY__BODY_LIST;
    reply.list = &list;
    request_done(rq, &reply);
    return 0;
}

int handle_show(struct request *rq, struct err *err)
{
    struct tenant *t = rq->tenant;
    char definition[4300], log[4300], tail[SHOW_LOG_BYTES];
    Ferry__VmSummary summary;
    Ferry__SnapshotRef origin, tracked;
    Ferry__VmDetail vm = FERRY__VM_DETAIL__INIT;
    Ferry__Reply reply = FERRY__REPLY__INIT;
    summarize(t, &summary);
    tenant_log_tail(t, tail, sizeof(tail));
    snprintf(definition, sizeof(definition), "%s/vms/%s/definition", rq->daemon->root.root,
             t->name);
    snprintf(log, sizeof(log), "%s/vms/%s/log", rq->daemon->root.root, t->name);
    vm.summary = &summary;
    vm.config = t->config;
    vm.ending = t->ending;
    vm.resets = t->resets;
    if (t->has_generation)
        vm.generation = (ProtobufCBinaryData){sizeof(t->generation.bytes), t->generation.bytes};
    vm.log_tail = tail;
    vm.definition_path = definition;
    if (tenant_in(t, STATES_LIVE)) {
        vm.origin = snapshot_ref_fill(&origin, &t->origin);
        vm.tracked = snapshot_ref_fill(&tracked, &t->tracked);
    }
    vm.log_path = log;
    reply.body_case = FERRY__REPLY__BODY_VM;
    reply.vm = &vm;
    request_done(rq, &reply);
    return 0;
}

static void put(Ferry__Counter *counter, const char *name, uint64_t value)
{
    ferry__counter__init(counter);
    counter->name = (char *)name;
    counter->value = value;
}

/* What the worker counts, and what its process costs. */
static void on_stats(void *ctx, const Ferry__WorkerReply *reply, const struct err *err)
{
    struct request *rq = ctx;
    Ferry__Counter own[2], *all[STATS_MAX];
    Ferry__VmStats stats = FERRY__VM_STATS__INIT;
    Ferry__Reply out = FERRY__REPLY__INIT;
    struct process_usage usage;
    if (err) {
        request_fail(rq, err);
        return;
    }
    stats.name = (char *)rq->tenant->name;
    stats.counters = all;
    if (process_usage(&rq->tenant->process, &usage) == 0) {
        put(&own[0], "worker_cpu_ns", usage.cpu_ns);
        put(&own[1], "worker_rss_bytes", usage.rss_bytes);
        all[stats.n_counters++] = &own[0];
        all[stats.n_counters++] = &own[1];
    }
    if (reply->body_case == FERRY__WORKER_REPLY__BODY_STATS)
        for (size_t i = 0; i < reply->stats->n_counters && stats.n_counters < STATS_MAX; i++)
            all[stats.n_counters++] = reply->stats->counters[i];
    out.body_case = FERRY__REPLY__BODY_STATS;
    out.stats = &stats;
    request_done(rq, &out);
}

int handle_stats(struct request *rq, struct err *err)
{
    return tenant_ask(rq->tenant, FERRY__WORKER_REQUEST__BODY_STATS, WORKER_PATIENCE_MS, on_stats,
                      rq, err);
}
