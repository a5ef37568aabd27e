/* See worker_rpc.h. */
#include "daemon/worker_rpc.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "daemon/worker_console.h"
#include "daemon/worker_receive.h"
#include "daemon/worker_status.h"
#include "machine/vcpu.h"
#include "proto/utf8.h"

#define IN(state) (1u << FERRY__WORKER_STATE__WORKER_##state)
#define ALIVE (IN(RUNNING) | IN(PAUSED) | IN(FAILED))
#define MOVING (IN(INCOMING) | IN(MOVING) | IN(IN_DOUBT))
#define ANY (ALIVE | MOVING | IN(NEW) | IN(ENDED))

/* A handler answers by itself and returns 1, or returns 0 for an empty answer, or fails. */
struct row {
    const char *name;
    int (*handle)(struct session *s, const Ferry__WorkerRequest *r, struct err *err);
    unsigned states;
};

static void reply_code(struct session *s, uint32_t id, const struct err *err)
{
    Ferry__WorkerReply reply = FERRY__WORKER_REPLY__INIT;
    struct err clean = *err;
    utf8_clean(clean.text);
    reply.id = id;
    reply.code = (uint32_t)clean.code;
    reply.error = clean.text;
    session_reply(s, &reply);
}

static int on_hello(struct session *s, const Ferry__WorkerRequest *r, struct err *err)
{
    Ferry__WorkerHello ours = FERRY__WORKER_HELLO__INIT;
    Ferry__WorkerReply reply = FERRY__WORKER_REPLY__INIT;
    int rc = worker_negotiate(r->hello, &ours, err);
    if (rc < 0)
        return rc;
    ours.vm_name = s->worker->config->name;
    reply.id = r->id;
    reply.body_case = FERRY__WORKER_REPLY__BODY_HELLO;
    reply.hello = &ours;
    s->greeted = true;
    session_reply(s, &reply);
    return 1;
}

static int on_pause(struct session *s, const Ferry__WorkerRequest *r, struct err *err)
{
    return worker_pause(s->worker, err);
}

static int on_resume(struct session *s, const Ferry__WorkerRequest *r, struct err *err)
{
    return worker_resume(s->worker, err);
}

static int on_power_button(struct session *s, const Ferry__WorkerRequest *r, struct err *err)
{
    machine_press_power_button(s->worker->machine);
    return 0;
}

static int on_reset(struct session *s, const Ferry__WorkerRequest *r, struct err *err)
{
    int rc = worker_reset(s->worker, "by request", err);
    if (rc == 0 || s->worker->machine)
        return rc;
    reply_code(s, r->id, err);
    worker_quit(s->worker);
    return 1;
}

static int on_quit(struct session *s, const Ferry__WorkerRequest *r, struct err *err)
{
    Ferry__WorkerReply reply = FERRY__WORKER_REPLY__INIT;
    reply.id = r->id;
    session_reply(s, &reply);
    worker_quit(s->worker);
    return 1;
}

static int on_status(struct session *s, const Ferry__WorkerRequest *r, struct err *err)
{
    struct worker_status_storage storage;
    Ferry__WorkerStatus status = FERRY__WORKER_STATUS__INIT;
    Ferry__WorkerReply reply = FERRY__WORKER_REPLY__INIT;
    worker_status(s->worker, &status, &storage);
    reply.id = r->id;
    reply.body_case = FERRY__WORKER_REPLY__BODY_STATUS;
    reply.status = &status;
    session_reply(s, &reply);
    return 1;
}

/* A list of counters that is being filled, with room for all that there can be. */
#define STATS_MAX (COUNTER_KINDS + 1 + COUNTER_DEVICES_MAX * COUNTER_DEVICE_KINDS)
#define STAT_NAME 64

struct stats {
    Ferry__Counter counters[STATS_MAX], *list[STATS_MAX];
    char names[STATS_MAX][STAT_NAME];
    size_t count;
};

static void put(struct stats *s, const char *name, uint64_t value)
{
    Ferry__Counter *c = s->list[s->count] = &s->counters[s->count];
    ferry__counter__init(c);
    snprintf(s->names[s->count], STAT_NAME, "%s", name);
    c->name = s->names[s->count++];
    c->value = value;
}

static void put_devices(struct stats *s, const struct counters *counters)
{
    char name[STAT_NAME];
    for (unsigned i = 0; i < counters->ndevices; i++) {
        const struct device_counters *d = &counters->devices[i];
        for (unsigned kind = 0; counter_device_name(d, kind, name, sizeof(name)); kind++)
            put(s, name, atomic_load(&d->values[kind]));
    }
}

static int on_stats(struct session *s, const Ferry__WorkerRequest *r, struct err *err)
{
    const struct counters *counters = &s->worker->counters;
    Ferry__WorkerStats message = FERRY__WORKER_STATS__INIT;
    Ferry__WorkerReply reply = FERRY__WORKER_REPLY__INIT;
    CLEAN(clean_free) struct stats *stats = calloc(1, sizeof(*stats));
    if (!stats)
        return err_set(err, ENOMEM, "no memory for the counters");
    for (unsigned i = 0; i < COUNTER_KINDS; i++)
        put(stats, counter_name(i), atomic_load(&counters->exits[i]));
    put(stats, "console_bytes", console_end(&s->worker->console));
    put_devices(stats, counters);
    message.counters = stats->list;
    message.n_counters = stats->count;
    reply.id = r->id;
    reply.body_case = FERRY__WORKER_REPLY__BODY_STATS;
    reply.stats = &message;
    session_reply(s, &reply);
    return 1;
}

static int on_describe(struct session *s, const Ferry__WorkerRequest *r, struct err *err)
{
    const struct cpuid_set *set = &machine_vcpu(s->worker->machine, 0)->cpuid;
    Ferry__WorkerDescription description = FERRY__WORKER_DESCRIPTION__INIT;
    Ferry__WorkerReply reply = FERRY__WORKER_REPLY__INIT;
    Ferry__CpuidLeaf leaves[CPUID_ENTRIES_MAX], *list[CPUID_ENTRIES_MAX];
    for (uint32_t i = 0; i < set->count; i++) {
        const struct kvm_cpuid_entry2 *e = &set->entries[i];
        ferry__cpuid_leaf__init(&leaves[i]);
        leaves[i].function = e->function;
        leaves[i].index = e->index;
        leaves[i].flags = e->flags;
        leaves[i].eax = e->eax;
        leaves[i].ebx = e->ebx;
        leaves[i].ecx = e->ecx;
        leaves[i].edx = e->edx;
        list[i] = &leaves[i];
    }
    description.cpuid = list;
    description.n_cpuid = set->count;
    reply.id = r->id;
    reply.body_case = FERRY__WORKER_REPLY__BODY_DESCRIPTION;
    reply.description = &description;
    session_reply(s, &reply);
    return 1;
}

static int on_resolve(struct session *s, const Ferry__WorkerRequest *r, struct err *err)
{
    return worker_move_resolve(s->worker, r->resolve->keep, err);
}

static int on_abandon(struct session *s, const Ferry__WorkerRequest *r, struct err *err)
{
    if (worker_receive_abandon(s->worker, err) < 0)
        return -err->code;
    reply_code(s, r->id, &(struct err){0});
    worker_quit(s->worker);
    return 1;
}

static int on_console_read(struct session *s, const Ferry__WorkerRequest *r, struct err *err)
{
    return worker_console_read(s, r->id, r->console_read, err);
}

static int on_console_watch(struct session *s, const Ferry__WorkerRequest *r, struct err *err)
{
    return worker_console_watch(s, r->id, r->console_watch, err);
}

static int on_console_write(struct session *s, const Ferry__WorkerRequest *r, struct err *err)
{
    return worker_console_write(s, r->id, r->console_write, err);
}

static int on_untrack(struct session *s, const Ferry__WorkerRequest *r, struct err *err)
{
    return worker_untrack(s->worker, err);
}

// clang-format off
static const struct row rows[] = {
    [FERRY__WORKER_REQUEST__BODY_HELLO]         = {"hello",         on_hello,         ANY},
    [FERRY__WORKER_REQUEST__BODY_PAUSE]         = {"pause",         on_pause,         IN(RUNNING)},
    [FERRY__WORKER_REQUEST__BODY_RESUME]        = {"resume",        on_resume,        IN(PAUSED)},
    [FERRY__WORKER_REQUEST__BODY_POWER_BUTTON]  = {"power_button",  on_power_button,  IN(RUNNING) | IN(PAUSED)},
    [FERRY__WORKER_REQUEST__BODY_RESET]         = {"reset",         on_reset,         ALIVE},
    [FERRY__WORKER_REQUEST__BODY_QUIT]          = {"quit",          on_quit,          ALIVE | MOVING},
    [FERRY__WORKER_REQUEST__BODY_STATUS]        = {"status",        on_status,        ANY},
    [FERRY__WORKER_REQUEST__BODY_STATS]         = {"stats",         on_stats,         ANY},
    [FERRY__WORKER_REQUEST__BODY_CONSOLE_READ]  = {"console_read",  on_console_read,  ANY},
    [FERRY__WORKER_REQUEST__BODY_CONSOLE_WATCH] = {"console_watch", on_console_watch, ALIVE | MOVING},
    [FERRY__WORKER_REQUEST__BODY_CONSOLE_WRITE] = {"console_write", on_console_write, ALIVE},
    [FERRY__WORKER_REQUEST__BODY_UNTRACK]       = {"untrack",       on_untrack,       ALIVE},
    [FERRY__WORKER_REQUEST__BODY_DESCRIBE]      = {"describe",      on_describe,      ALIVE},
    [FERRY__WORKER_REQUEST__BODY_ABANDON]       = {"abandon",       on_abandon,       IN(INCOMING)},
    [FERRY__WORKER_REQUEST__BODY_RESOLVE]       = {"resolve",       on_resolve,       IN(IN_DOUBT)},
};
// clang-format on

static const struct row *find_row(const Ferry__WorkerRequest *r)
{
    unsigned i = r->body_case;
    return i < sizeof(rows) / sizeof(rows[0]) && rows[i].handle ? &rows[i] : NULL;
}

static int dispatch(struct session *s, const Ferry__WorkerRequest *r, struct err *err)
{
    const struct row *row = find_row(r);
    struct sm *life = &s->worker->life;
    if (!row)
        return err_set(err, ENOSYS, "this worker knows no such request");
    if (!(row->states & 1u << life->now))
        return err_set(err, EPERM, "%s is not possible while the guest is %s", row->name,
                       sm_name(life));
    return row->handle(s, r, err);
}

int worker_rpc_handle(struct session *s, const Ferry__WorkerRequest *r, struct err *err)
{
    struct err refused = {0};
    if (!s->greeted && r->body_case != FERRY__WORKER_REQUEST__BODY_HELLO)
        return err_set(err, EPROTO, "the first request must be a hello");
    int rc = dispatch(s, r, &refused);
    if (rc <= 0)
        reply_code(s, r->id, &refused);
    return 0;
}
