/* See migration.h. */
#include "daemon/migration.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "base/name.h"
#include "base/now.h"
#include "daemon/job_client.h"
#include "daemon/offer.h"
#include "daemon/ownership.h"
#include "daemon/slots.h"
#include "daemon/task.h"
#include "daemon/tenant.h"
#include "machine/mem.h"
#include "proto/frame.h"

#define WHY_MAX 160u
#define SLICE_MS 100
#define CANCEL_MS 6000 /* what is left of a switch, a peer's silence included, takes less */

static const struct slots_kind report_kind = {.what = "record of the migration",
                                              .magic = 0x47494d46, /* "FMIG" */
                                              .slot_bytes = 16384,
                                              .message = &ferry__migration_report__descriptor};

struct migration {
    struct tenant_watch watch; /* first: its callback gets the migration by it */
    TAILQ_ENTRY(migration) all;
    struct daemon *daemon;      /* borrowed */
    struct request *rq;         /* who waits for the report; NULL for nobody */
    struct request *canceller;  /* who waits for the end; NULL for nobody */
    Ferry__MigrateRequest *ask; /* owned copy */
    char vm[NAME_MAX_CHARS + 1], peer_name[PEER_ADDRESS_MAX];
    struct peer_address peer;
    struct uuid uuid;
    Ferry__MachineConfig *config;          /* owned copy */
    Ferry__WorkerDescription *description; /* owned copy */
    struct ownership owner;                /* [job] */
    uint64_t began_wall_ns, began_ns, epoch;
    struct err err;                 /* [job] why it failed */
    Ferry__Owner left;              /* [job] whose the guest is when the worker told nothing */
    Ferry__MigrationReport *report; /* [job] owned: the worker's */
    Ferry__PeerAnswer *refusal;     /* [job] owned: the peer's reasons */
    struct task *task;
    atomic_bool cancelled;
    pthread_mutex_t lock;         /* for the rest */
    struct job_client client;     /* while it is connected */
    Ferry__WorkerProgress latest; /* its texts are `why` and constants */
    char why[WHY_MAX];
};

static void migration_free(struct migration *m)
{
    job_client_close(&m->client);
    ownership_close(&m->owner);
    frame_free((ProtobufCMessage *)m->ask);
    frame_free((ProtobufCMessage *)m->config);
    frame_free((ProtobufCMessage *)m->description);
    frame_free((ProtobufCMessage *)m->report);
    frame_free((ProtobufCMessage *)m->refusal);
    pthread_mutex_destroy(&m->lock);
    free(m);
}

struct migration *migration_find(struct daemon *d, const char *vm)
{
    struct migration *m;
    TAILQ_FOREACH(m, &d->migrations, all)
    if (strcmp(m->vm, vm) == 0)
        return m;
    return NULL;
}

/* the way there ------------------------------------------------------------------------- [job] */

/* The number of this attempt is larger than that of any before, also one that broke off. */
static int claim(struct migration *m, struct err *err)
{
    struct err why = {0}; /* also of a record that is still empty, which is no failure */
    int fd = root_open_owner(&m->daemon->root, &m->uuid, &why);
    int rc = fd < 0 ? fd : ownership_open(&m->owner, fd, &m->uuid, &why);
    if (rc < 0) {
        *err = why;
        return rc;
    }
    if (m->owner.owner != FERRY__OWNER__OWNER_NONE && m->owner.owner != FERRY__OWNER__OWNER_OURS)
        return err_set(err, EPERM, "the record of ownership says that '%s' is %s", m->vm,
                       ownership_name(m->owner.owner));
    m->epoch = m->owner.epoch + 1;
    if (m->ask->check)
        return 0;
    rc = ownership_write(&m->owner, FERRY__OWNER__OWNER_OURS, m->epoch, m->peer_name, err);
    return rc < 0 ? rc : ownership_sync(&m->owner, err);
}

static int make_offer(struct migration *m, struct offered *offered, struct err *err)
{
    Ferry__PeerOffer body = FERRY__PEER_OFFER__INIT;
    const struct offer offer = {.identity = m->daemon->tls,
                                .to = &m->peer,
                                .vm = m->vm,
                                .peer_name = m->peer_name,
                                .body = &body,
                                .cancel = &m->cancelled};
    body.config = m->config;
    body.epoch = m->epoch;
    body.check = m->ask->check;
    body.cpuid = m->description->cpuid;
    body.n_cpuid = m->description->n_cpuid;
    body.from = m->vm;
    body.page_bytes = MEM_PAGE;
    body.arch = "x86_64";
    body.streams = m->ask->streams;
    int rc = offer_make(&offer, offered, err);
    m->refusal = steal_ptr(&offered->refusal);
    return rc;
}

static void take_progress(struct migration *m, const Ferry__WorkerProgress *p)
{
    pthread_mutex_lock(&m->lock);
    m->latest = *p;
    m->latest.stage = "memory";
    snprintf(m->why, sizeof(m->why), "%s", p->why);
    m->latest.why = m->why;
    pthread_mutex_unlock(&m->lock);
    task_tell(m->task);
}

/* A worker that was cancelled says what came of it, and soon; only one that is frozen does not. */
static int await_reply(struct migration *m, struct err *err)
{
    struct pollfd p = {.fd = m->client.fd, .events = POLLIN};
    unsigned slices = 0;
    while (poll(&p, 1, SLICE_MS) <= 0)
        if (atomic_load(&m->cancelled) && ++slices > CANCEL_MS / SLICE_MS)
            return err_set(err, ECANCELED, "the migration was cancelled, and the worker is silent");
    return 0;
}

/* One reply of the worker: 1 for the last. */
static int take_reply(struct migration *m, struct err *err)
{
    Ferry__WorkerReply *reply =
        await_reply(m, err) < 0 ? NULL : job_client_receive(&m->client, err);
    int rc = 0;
    if (!reply)
        return -err->code;
    if (reply->body_case == FERRY__WORKER_REPLY__BODY_PROGRESS) {
        take_progress(m, reply->progress);
    } else if (reply->body_case == FERRY__WORKER_REPLY__BODY_MIGRATED) {
        m->report = steal_ptr(&reply->migrated);
        rc = 1;
    } else {
        rc = err_set(err, EPROTO, "the worker of '%s' does not say how far it is", m->vm);
    }
    frame_free(&reply->base);
    return rc;
}

static int send_guest(struct migration *m, struct offered *offered, struct err *err)
{
    Ferry__WorkerMigrate ask = FERRY__WORKER_MIGRATE__INIT;
    Ferry__WorkerRequest request = FERRY__WORKER_REQUEST__INIT;
    struct job_client client = {.fd = -1};
    int fds[1 + OFFER_STREAMS_MAX] = {offered->fds[0], m->owner.fd};
    ProtobufCBinaryData keys[OFFER_STREAMS_MAX];
    for (unsigned i = 0; i < offered->count; i++)
        keys[i] = (ProtobufCBinaryData){offered->keys[i].len, offered->keys[i].bytes};
    for (unsigned i = 1; i < offered->count; i++)
        fds[1 + i] = offered->fds[i];
    ask.epoch = m->epoch;
    ask.downtime_ns = m->ask->downtime_ms * 1000000u;
    ask.timeout_ns = m->ask->timeout_ms * 1000000u;
    ask.bandwidth = m->ask->bandwidth;
    ask.on_stall = m->ask->on_stall;
    ask.compress = m->ask->compress;
    ask.peer = m->peer_name;
    ask.tls_key = keys[0];
    ask.lane_keys = keys + 1;
    ask.n_lane_keys = offered->count - 1;
    request.body_case = FERRY__WORKER_REQUEST__BODY_MIGRATE;
    request.migrate = &ask;
    int rc =
        job_client_open(&client, &m->daemon->root, m->vm, &request, fds, 1 + offered->count, err);
    pthread_mutex_lock(&m->lock);
    m->client = client;
    if (rc == 0 && atomic_load(&m->cancelled))
        rc = err_set(err, ECANCELED, "the migration was cancelled");
    pthread_mutex_unlock(&m->lock);
    while (rc == 0)
        rc = take_reply(m, err);
    return rc < 0 ? rc : 0;
}

/* It died, perhaps when it had given the guest away. */
static void judge_silence(struct migration *m)
{
    struct ownership now;
    struct err ignored;
    if (ownership_read(&now, m->owner.fd, &m->uuid, &ignored) == 0)
        m->left = now.owner;
}

static void on_run(struct task *task, void *ctx)
{
    struct migration *m = ctx;
    m->task = task;
    if (claim(m, &m->err) < 0)
        return;
    struct offered offered;
    if (make_offer(m, &offered, &m->err) == 0 && !m->ask->check &&
        send_guest(m, &offered, &m->err) < 0)
        judge_silence(m);
    offered_fini(&offered);
}

/* the report --------------------------------------------------------------------------- [loop] */

void migration_describe(struct migration *m, Ferry__MigrationReport *r, Ferry__Progress *p)
{
    ferry__migration_report__init(r);
    ferry__progress__init(p);
    r->name = m->vm;
    r->peer = m->peer_name;
    r->uuid = (ProtobufCBinaryData){.data = m->uuid.bytes, .len = sizeof(m->uuid.bytes)};
    r->epoch = m->epoch;
    r->began_wall_ns = m->began_wall_ns;
    pthread_mutex_lock(&m->lock);
    p->stage = m->latest.stage;
    p->done_bytes = m->latest.done_bytes;
    p->total_bytes = m->latest.total_bytes;
    p->round = m->latest.round;
    p->rate_bytes = m->latest.rate_bytes;
    p->dirty_rate_bytes = m->latest.dirty_rate_bytes;
    p->expected_downtime_ns = m->latest.expected_downtime_ns;
    p->why = m->latest.why;
    pthread_mutex_unlock(&m->lock);
    r->progress = p;
}

static Ferry__MigrationEnd end_of(const struct migration *m)
{
    if (m->report)
        return m->report->end;
    if (m->left == FERRY__OWNER__OWNER_HANDED_OFF)
        return FERRY__MIGRATION_END__MIGRATION_IN_DOUBT;
    if (m->left == FERRY__OWNER__OWNER_GONE)
        return FERRY__MIGRATION_END__MIGRATION_MOVED;
    if (m->refusal || (m->err.code && m->ask->check))
        return m->ask->check ? FERRY__MIGRATION_END__MIGRATION_CHECKED
                             : FERRY__MIGRATION_END__MIGRATION_FAILED;
    if (atomic_load(&m->cancelled))
        return FERRY__MIGRATION_END__MIGRATION_CANCELLED;
    return m->err.code ? FERRY__MIGRATION_END__MIGRATION_FAILED
                       : FERRY__MIGRATION_END__MIGRATION_CHECKED;
}

/* The worker's numbers, and ours; all of it borrowed. */
static void fill_report(struct migration *m, Ferry__MigrationReport *r)
{
    Ferry__Progress unused;
    migration_describe(m, r, &unused);
    if (m->report) {
        Ferry__MigrationReport ours = *r;
        *r = *m->report;
        r->name = ours.name;
        r->peer = ours.peer;
        r->uuid = ours.uuid;
        r->epoch = ours.epoch;
    } else {
        r->total_ns = now_ns() - m->began_ns;
        r->text = m->err.text;
    }
    if (m->refusal) {
        r->reasons = m->refusal->reasons;
        r->n_reasons = m->refusal->n_reasons;
    }
    r->progress = NULL;
    r->end = end_of(m);
}

static void store(struct migration *m, const Ferry__MigrationReport *r)
{
    struct err err = {0}, ignored;
    uint64_t seq = 0;
    ProtobufCMessage *old = NULL;
    CLEAN(clean_fd) int fd = root_open_migration(&m->daemon->root, m->vm, true, &err);
    if (fd >= 0 && slots_read(&report_kind, fd, &seq, &old, &ignored) == 0)
        frame_free(old);
    if (fd < 0 || slots_write(&report_kind, fd, seq + 1, &r->base, &err) < 0)
        log_warn("%s: %s", m->vm, err.text);
}

Ferry__MigrationReport *migration_load(struct daemon *d, const char *vm, struct err *err)
{
    ProtobufCMessage *report = NULL;
    CLEAN(clean_fd) int fd = root_open_migration(&d->root, vm, false, err);
    if (fd < 0) {
        if (err->code == ENOENT)
            err_set(err, ENOENT, "no VM '%s' was ever migrated from here", vm);
        return NULL;
    }
    if (slots_read(&report_kind, fd, NULL, &report, err) < 0)
        return NULL;
    return (Ferry__MigrationReport *)report;
}

static void log_end(const struct migration *m, const Ferry__MigrationReport *r)
{
    if (r->end == FERRY__MIGRATION_END__MIGRATION_MOVED)
        log_info("%s: moved to %s, stood still %.2f ms", m->vm, m->peer_name,
                 r->downtime ? (double)r->downtime->total_ns / 1e6 : 0);
    else if (r->end == FERRY__MIGRATION_END__MIGRATION_IN_DOUBT)
        log_error("%s: in doubt: %s", m->vm, r->text);
    else if (!m->ask->check)
        log_info("%s: stays: %s", m->vm, r->text);
}

/* Whether the request is answered by the report, and not by an error. */
static bool is_answer(const struct migration *m, const Ferry__MigrationReport *r)
{
    return r->end == FERRY__MIGRATION_END__MIGRATION_MOVED || (m->ask->check && !m->err.code) ||
           (m->ask->check && m->refusal);
}

static void answer(struct migration *m, Ferry__MigrationReport *r)
{
    struct request *rq = m->rq;
    Ferry__Reply reply = FERRY__REPLY__INIT;
    struct err err = m->err;
    m->rq = NULL;
    if (!rq)
        return;
    rq->drop = NULL;
    if (r->end == FERRY__MIGRATION_END__MIGRATION_IN_DOUBT)
        err_set(&err, EOWNERDEAD,
                "'%s' is in doubt, and does not run until %s can be asked: %.250s", m->vm,
                m->peer_name, r->text);
    if (!is_answer(m, r) && m->refusal && m->refusal->n_reasons > 1)
        err_set(&err, EPERM, "%.330s (and %zu more: --check tells all)", m->err.text,
                m->refusal->n_reasons - 1);
    if (!is_answer(m, r)) {
        request_fail(rq, &err);
        return;
    }
    reply.body_case = FERRY__REPLY__BODY_MIGRATION;
    reply.migration = r;
    request_done(rq, &reply);
}

static void answer_canceller(struct migration *m, const Ferry__MigrationReport *r)
{
    struct request *rq = m->canceller;
    struct err err = {0};
    m->canceller = NULL;
    if (!rq)
        return;
    rq->drop = NULL;
    if (r->end != FERRY__MIGRATION_END__MIGRATION_MOVED &&
        r->end != FERRY__MIGRATION_END__MIGRATION_IN_DOUBT) {
        request_done(rq, NULL);
        return;
    }
    err_set(&err, EALREADY, "it is too late: '%s' was handed off to %s", m->vm, m->peer_name);
    request_fail(rq, &err);
}

static void finish(struct migration *m)
{
    Ferry__MigrationReport report;
    fill_report(m, &report);
    log_end(m, &report);
    if (!m->ask->check)
        store(m, &report);
    TAILQ_REMOVE(&m->daemon->migrations, m, all);
    answer(m, &report);
    answer_canceller(m, &report);
    migration_free(m);
}

static void on_gone(struct tenant_watch *watch, bool removed)
{
    if (!removed)
        return;
    tenant_unwatch(watch);
    finish((struct migration *)watch);
}

/* One that has moved is told when nothing of it is left here. */
static void on_done(void *ctx)
{
    struct migration *m = ctx;
    struct tenant *t = registry_find(&m->daemon->registry, m->vm);
    if (t && end_of(m) == FERRY__MIGRATION_END__MIGRATION_MOVED)
        tenant_watch(t, &m->watch, on_gone);
    else
        finish(m);
}

static void on_news(void *ctx)
{
    struct migration *m = ctx;
    Ferry__MigrationReport unused;
    Ferry__Progress progress;
    Ferry__Reply reply = FERRY__REPLY__INIT;
    migration_describe(m, &unused, &progress);
    if (!m->rq || !progress.stage[0] || request_is_full(m->rq))
        return;
    reply.body_case = FERRY__REPLY__BODY_PROGRESS;
    reply.progress = &progress;
    request_send(m->rq, &reply);
}

static const struct task_ops ops = {.run = on_run, .news = on_news, .done = on_done};

/* beginning and cancelling ------------------------------------------------------------- [loop] */

static void stop_early(struct migration *m)
{
    atomic_store(&m->cancelled, true);
    pthread_mutex_lock(&m->lock);
    if (m->client.fd >= 0)
        shutdown(m->client.fd, SHUT_WR); /* and what it says is still heard */
    pthread_mutex_unlock(&m->lock);
}

static void drop_canceller(struct request *rq)
{
    struct migration *m = migration_find(rq->daemon, rq->message->migration_cancel->name);
    if (m && m->canceller == rq)
        m->canceller = NULL;
}

void migration_cancel(struct migration *m, struct request *rq)
{
    m->canceller = rq;
    rq->drop = drop_canceller;
    stop_early(m);
}

/* The client left or cancelled. */
static void drop(struct request *rq)
{
    struct migration *m;
    TAILQ_FOREACH(m, &rq->daemon->migrations, all)
    if (m->rq == rq) {
        m->rq = NULL;
        stop_early(m);
    }
}

static void on_moved(struct tenant_watch *watch, bool removed)
{
    struct request *rq = (struct request *)watch;
    if (!removed)
        return;
    tenant_unwatch(watch);
    rq->tenant = NULL;
}

static void detach(struct migration *m)
{
    struct request *rq = m->rq;
    if (!rq || !m->ask->detach || m->ask->check)
        return;
    m->rq = NULL;
    rq->drop = NULL;
    request_done(rq, NULL);
}

static void on_described(void *ctx, const Ferry__WorkerReply *reply, const struct err *err)
{
    struct migration *m = ctx;
    if (err) {
        m->err = *err;
        err_wrap(&m->err, "'%s' cannot be migrated", m->vm);
    } else if (atomic_load(&m->cancelled))
        err_set(&m->err, ECANCELED, "the migration was cancelled");
    else if (reply->body_case != FERRY__WORKER_REPLY__BODY_DESCRIPTION)
        err_set(&m->err, EPROTO, "the worker of '%s' does not describe its guest", m->vm);
    else
        m->description = (Ferry__WorkerDescription *)frame_copy(&reply->description->base, &m->err);
    if (m->description && task_start(&m->daemon->loop, &ops, m, &m->err) == 0)
        detach(m);
    else
        finish(m);
}

static int take_request(struct migration *m, struct request *rq, struct err *err)
{
    const struct tenant *t = rq->tenant;
    int rc = peer_address_parse(rq->message->migrate->peer, &m->peer, err);
    if (rc < 0)
        return rc;
    if (t->config->uuid.len != sizeof(m->uuid.bytes))
        return err_set(err, EINVAL, "'%s' has no uuid", t->name);
    memcpy(m->uuid.bytes, t->config->uuid.data, sizeof(m->uuid.bytes));
    peer_address_format(&m->peer, m->peer_name, sizeof(m->peer_name));
    snprintf(m->vm, sizeof(m->vm), "%s", t->name);
    m->ask = (Ferry__MigrateRequest *)frame_copy(&rq->message->migrate->base, err);
    m->config = m->ask ? (Ferry__MachineConfig *)frame_copy(&t->config->base, err) : NULL;
    return m->config ? 0 : -err->code;
}

int migration_start(struct request *rq, struct err *err)
{
    if (migration_find(rq->daemon, rq->tenant->name))
        return err_set(err, EBUSY, "'%s' is being migrated already", rq->tenant->name);
    if (registry_find_stand_in(&rq->daemon->registry, rq->tenant->name))
        return err_set(err, EBUSY, "'%s' is being restored in its place", rq->tenant->name);
    struct migration *m = calloc(1, sizeof(*m));
    if (!m)
        return err_set(err, ENOMEM, "no memory for a migration");
    m->daemon = rq->daemon;
    m->rq = rq;
    m->client.fd = m->owner.fd = -1;
    ferry__worker_progress__init(&m->latest);
    pthread_mutex_init(&m->lock, NULL);
    m->began_wall_ns = now_wall_ns();
    m->began_ns = now_ns();
    int rc = take_request(m, rq, err);
    if (rc == 0)
        rc = tenant_ask(rq->tenant, FERRY__WORKER_REQUEST__BODY_DESCRIBE, WORKER_PATIENCE_MS,
                        on_described, m, err);
    if (rc < 0) {
        migration_free(m);
        return rc;
    }
    TAILQ_INSERT_TAIL(&rq->daemon->migrations, m, all);
    rq->drop = drop;
    tenant_watch(rq->tenant, &rq->watch, on_moved);
    return 0;
}
