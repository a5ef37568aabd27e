/* See doubt.h. */
#include "daemon/doubt.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "base/name.h"
#include "daemon/dial.h"
#include "daemon/ownership.h"
#include "daemon/task.h"
#include "daemon/tenant.h"
#include "daemon/tenant_owner.h"
#include "daemon/timeout.h"
#include "proto/frame.h"

#define ASK_EVERY_MS 1000u

/* One question on its way. */
struct doubt {
    LIST_ENTRY(doubt) all;
    struct daemon *daemon; /* borrowed */
    char vm[NAME_MAX_CHARS + 1];
    struct uuid uuid;
    uint64_t epoch; /* that was asked for */
    struct err err;
    Ferry__PeerFateKind fate;
};

static LIST_HEAD(doubt_list, doubt) asking = LIST_HEAD_INITIALIZER(asking);

static int ask(const struct tls_identity *identity, const struct ownership *o,
               Ferry__PeerFateKind *fate, struct err *err)
{
    struct peer_address peer;
    Ferry__PeerHello hello = FERRY__PEER_HELLO__INIT;
    Ferry__PeerQuery query = FERRY__PEER_QUERY__INIT;
    struct dialed peered;
    struct uuid uuid = o->uuid;
    query.uuid = (ProtobufCBinaryData){.data = uuid.bytes, .len = sizeof(uuid.bytes)};
    query.epoch = o->epoch;
    hello.body_case = FERRY__PEER_HELLO__BODY_QUERY;
    hello.query = &query;
    int rc = peer_address_parse(o->peer, &peer, err);
    CLEAN(clean_fd) int fd = rc < 0 ? rc : dial(identity, &peer, &hello, NULL, &peered, err);
    if (fd < 0)
        return fd;
    if (peered.answer->n_reasons)
        rc = err_set(err, EPERM, "the ferryd at %.300s: %s", o->peer, peered.answer->reasons[0]);
    else if (peered.answer->body_case == FERRY__PEER_ANSWER__BODY_FATE)
        *fate = peered.answer->fate->kind;
    frame_free(&peered.answer->base);
    tls_key_forget(&peered.key);
    return rc;
}

static void on_run(struct task *task, void *ctx)
{
    struct doubt *q = ctx;
    struct ownership owner;
    CLEAN(clean_fd) int fd = root_find_owner(&q->daemon->root, &q->uuid, &q->err);
    if (fd < 0 || ownership_read(&owner, fd, &q->uuid, &q->err) < 0)
        return;
    q->epoch = owner.epoch;
    ask(q->daemon->tls, &owner, &q->fate, &q->err);
}

/* One whose worker is dead is resolved by us, as nobody else can. */
static void resolve(struct tenant *t, bool keep)
{
    struct err err;
    Ferry__WorkerResolve body = FERRY__WORKER_RESOLVE__INIT;
    Ferry__WorkerRequest request = FERRY__WORKER_REQUEST__INIT;
    body.keep = keep;
    request.body_case = FERRY__WORKER_REQUEST__BODY_RESOLVE;
    request.resolve = &body;
    log_info("%s: its peer says: it %s", t->name, keep ? "never ran there" : "runs there");
    if (tenant_owner_doubts(t)) {
        if (tenant_owner_resolve(t, keep, &err) < 0)
            log_warn("%s: %s", t->name, err.text);
        return;
    }
    if (tenant_call(t, &request, WORKER_PATIENCE_MS, NULL, NULL, &err) < 0)
        log_warn("%s: %s", t->name, err.text);
}

static bool is_in_doubt(const struct tenant *t)
{
    return tenant_in(t, STATE_BIT(IN_DOUBT)) || tenant_owner_doubts(t);
}

/* Somebody may have resolved it meanwhile, and it may be in doubt about another attempt. */
static bool still_asks(const struct doubt *q, const struct tenant *t)
{
    struct ownership o;
    struct err ignored;
    return t && is_in_doubt(t) && tenant_owner_read(t, &o, &ignored) == 0 &&
           o.owner == FERRY__OWNER__OWNER_HANDED_OFF && o.epoch == q->epoch &&
           memcmp(o.uuid.bytes, q->uuid.bytes, sizeof(q->uuid.bytes)) == 0;
}

static void on_done(void *ctx)
{
    struct doubt *q = ctx;
    struct tenant *t = registry_find(&q->daemon->registry, q->vm);
    if (q->err.code)
        log_debug("%s: in doubt: %s", q->vm, q->err.text);
    else if (q->fate != FERRY__PEER_FATE_KIND__FATE_UNKNOWN && still_asks(q, t))
        resolve(t, q->fate == FERRY__PEER_FATE_KIND__FATE_NEVER_RAN);
    LIST_REMOVE(q, all);
    free(q);
}

static const struct task_ops ops = {.run = on_run, .done = on_done};

static bool is_asked(const struct tenant *t)
{
    struct doubt *q;
    LIST_FOREACH(q, &asking, all)
    if (strcmp(q->vm, t->name) == 0)
        return true;
    return false;
}

static void begin(struct daemon *d, const struct tenant *t)
{
    struct err err;
    struct doubt *q = calloc(1, sizeof(*q));
    if (!q || t->config->uuid.len != sizeof(q->uuid.bytes)) {
        free(q);
        return;
    }
    q->daemon = d;
    snprintf(q->vm, sizeof(q->vm), "%s", t->name);
    memcpy(q->uuid.bytes, t->config->uuid.data, sizeof(q->uuid.bytes));
    LIST_INSERT_HEAD(&asking, q, all);
    if (task_start(&d->loop, &ops, q, &err) == 0)
        return;
    log_warn("%s: %s", t->name, err.text);
    LIST_REMOVE(q, all);
    free(q);
}

static void on_time(void *ctx)
{
    struct daemon *d = ctx;
    struct tenant *t;
    TAILQ_FOREACH(t, &d->registry.all, all)
    if (is_in_doubt(t) && !is_asked(t))
        begin(d, t);
    timeout_set(&d->doubts, &d->loop, ASK_EVERY_MS, on_time, d);
}

void doubt_watch(struct daemon *d)
{
    timeout_set(&d->doubts, &d->loop, ASK_EVERY_MS, on_time, d);
}

void doubt_end(struct daemon *d)
{
    timeout_cancel(&d->doubts);
}
