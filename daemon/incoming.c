/* See incoming.h. */
#include "daemon/incoming.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "daemon/join.h"
#include "daemon/ownership.h"
#include "daemon/preflight.h"
#include "daemon/tenant.h"
#include "migrate/lanes_out.h"
#include "proto/frame.h"

static void take_uuid(const ProtobufCBinaryData *from, struct uuid *to)
{
    memcpy(to->bytes, from->data, sizeof(to->bytes));
}

static int open_ownership(struct daemon *d, const struct uuid *uuid, struct ownership *o,
                          struct err *err)
{
    int fd = root_open_owner(&d->root, uuid, err);
    return fd < 0 ? fd : ownership_open(o, fd, uuid, err);
}

/* offers -------------------------------------------------------------------------------------- */

/* An offer that is taken. */
struct taken {
    struct tls_key key;
    struct uuid token;
    unsigned streams;
};

static void answer_offer(struct caller *c, struct reasons *r, struct taken *taken)
{
    Ferry__PeerAnswer answer = FERRY__PEER_ANSWER__INIT;
    Ferry__PeerAccepted accepted = FERRY__PEER_ACCEPTED__INIT;
    answer.reasons = r->texts;
    answer.n_reasons = r->count;
    if (r->count == 0) {
        answer.body_case = FERRY__PEER_ANSWER__BODY_ACCEPTED;
        answer.accepted = &accepted;
        accepted.streams = taken->streams;
        accepted.token = (ProtobufCBinaryData){sizeof(taken->token.bytes), taken->token.bytes};
    }
    caller_answer(c, &answer);
}

/* An attempt that was given up here stays given up. */
static int claim(struct daemon *d, const Ferry__PeerOffer *offer, const char *from,
                 struct ownership *o, struct err *err)
{
    struct uuid uuid;
    take_uuid(&offer->config->uuid, &uuid);
    int rc = open_ownership(d, &uuid, o, err);
    if (rc < 0)
        return rc;
    if (o->epoch >= offer->epoch)
        return err_set(err, ESTALE,
                       "attempt %llu of this guest is %s here; attempt %llu is too old",
                       (unsigned long long)o->epoch, ownership_name(o->owner),
                       (unsigned long long)offer->epoch);
    if (offer->check)
        return 0;
    rc = ownership_write(o, FERRY__OWNER__OWNER_INCOMING, offer->epoch, from, err);
    return rc < 0 ? rc : ownership_sync(o, err); /* who asks later must not find nothing */
}

static int start_worker(struct daemon *d, struct caller *c, const Ferry__PeerOffer *offer,
                        const struct ownership *o, struct taken *taken, struct err *err)
{
    Ferry__WorkerIncoming incoming = FERRY__WORKER_INCOMING__INIT;
    struct spawn_saved saved = {.incoming = &incoming, .owner_fd = o->fd};
    struct err ignored;
    CLEAN(clean_fd) int socket = caller_copy_socket(c, err);
    if (socket < 0)
        return socket;
    Ferry__MachineConfig *config = (Ferry__MachineConfig *)frame_copy(&offer->config->base, err);
    struct tenant *t = config ? registry_define(&d->registry, config, err) : NULL;
    if (!t)
        return -err->code;
    t->transient = true;
    tenant_event(t, FERRY__EVENT_KIND__EVENT_DEFINED, "");
    saved.peer_fd = socket;
    incoming.epoch = offer->epoch;
    incoming.tls_key = (ProtobufCBinaryData){.data = taken->key.bytes, .len = taken->key.len};
    incoming.streams = taken->streams;
    int rc = taken->streams > 1 ? join_expect(d, t, taken->streams, &taken->token, err) : 0;
    if (rc == 0)
        rc = tenant_start(d, t, false, &saved, err);
    if (rc < 0)
        registry_remove(t, &ignored);
    else
        log_info("%s: comes from %s, attempt %llu", t->name, caller_name(c),
                 (unsigned long long)offer->epoch);
    return rc;
}

static unsigned granted_streams(unsigned wanted)
{
    return wanted == 0 ? 1 : wanted < LANES_MAX + 1 ? wanted : LANES_MAX + 1;
}

void incoming_offer(struct daemon *d, struct caller *c, Ferry__PeerOffer *offer)
{
    struct reasons reasons = {0};
    struct ownership owner = OWNERSHIP_NONE;
    struct taken taken = {.streams = granted_streams(offer->streams)};
    struct err err = {0};
    preflight(d, offer, &reasons);
    int rc = reasons.count ? 0 : claim(d, offer, caller_name(c), &owner, &err);
    bool comes = rc == 0 && reasons.count == 0 && !offer->check;
    if (comes)
        rc = caller_export_key(c, &taken.key, &err);
    if (comes && rc == 0)
        rc = start_worker(d, c, offer, &owner, &taken, &err);
    tls_key_forget(&taken.key);
    if (rc < 0)
        reasons_add(&reasons, &err);
    ownership_close(&owner);
    answer_offer(c, &reasons, &taken);
    reasons_fini(&reasons);
}

/* queries ------------------------------------------------------------------------------------- */

/* One that waits until a worker has abandoned its guest. */
struct query {
    struct tenant_watch watch; /* first: its callback gets the query by it */
    LIST_ENTRY(query) all;
    struct daemon *daemon;
    struct caller *caller; /* NULL once it left */
    struct tenant *tenant;
    struct uuid uuid;
    uint64_t epoch;
};

static LIST_HEAD(query_list, query) queries = LIST_HEAD_INITIALIZER(queries);

static void answer_fate(struct caller *c, Ferry__PeerFateKind kind)
{
    Ferry__PeerAnswer answer = FERRY__PEER_ANSWER__INIT;
    Ferry__PeerFate fate = FERRY__PEER_FATE__INIT;
    fate.kind = kind;
    answer.body_case = FERRY__PEER_ANSWER__BODY_FATE;
    answer.fate = &fate;
    caller_answer(c, &answer);
}

static struct tenant *find_uuid(struct daemon *d, const struct uuid *uuid)
{
    struct tenant *t;
    TAILQ_FOREACH(t, &d->registry.all, all)
    if (t->config->uuid.len == sizeof(uuid->bytes) &&
        memcmp(t->config->uuid.data, uuid->bytes, sizeof(uuid->bytes)) == 0)
        return t;
    return NULL;
}

static bool ran_here(const struct ownership *o, uint64_t epoch)
{
    return o->epoch >= epoch &&
           (o->owner == FERRY__OWNER__OWNER_OURS || o->owner == FERRY__OWNER__OWNER_HANDED_OFF ||
            o->owner == FERRY__OWNER__OWNER_GONE);
}

/* A guest that is ours by an older attempt cannot come here by a newer one. */
static int bury(struct ownership *o, uint64_t epoch, struct err *err)
{
    if (o->owner == FERRY__OWNER__OWNER_OURS || o->owner == FERRY__OWNER__OWNER_HANDED_OFF)
        return err_set(err, EPROTO, "attempt %llu is asked for, and by attempt %llu it is %s",
                       (unsigned long long)epoch, (unsigned long long)o->epoch,
                       ownership_name(o->owner));
    int rc = ownership_write(o, FERRY__OWNER__OWNER_TOMBSTONE, o->epoch > epoch ? o->epoch : epoch,
                             NULL, err);
    return rc < 0 ? rc : ownership_sync(o, err);
}

/* Only where no worker holds the record any more it may say from now on that the guest never runs
 * here. */
static int judge_record(int fd, const struct uuid *uuid, uint64_t epoch, Ferry__PeerFateKind *kind,
                        struct err *err)
{
    struct ownership o;
    int rc = ownership_read(&o, fd, uuid, err);
    if (rc == 0 && !ran_here(&o, epoch)) {
        int own = fcntl(fd, F_DUPFD_CLOEXEC, 0);
        rc = own < 0 ? err_sys(err, errno, "cannot copy a descriptor")
                     : ownership_open(&o, own, uuid, err);
    }
    bool ran = rc == 0 && ran_here(&o, epoch);
    if (ran && fdatasync(fd) < 0)
        rc = err_sys(err, errno, "cannot sync the record of ownership");
    if (rc == 0 && !ran)
        rc = bury(&o, epoch, err);
    ownership_close(&o);
    if (rc == 0)
        *kind = ran ? FERRY__PEER_FATE_KIND__FATE_RAN : FERRY__PEER_FATE_KIND__FATE_NEVER_RAN;
    return rc;
}

/* Where there is no record, there was one of a VM that was removed, or never an offer: who handed a
 * guest off cannot rely on either. */
static Ferry__PeerFateKind judge(struct daemon *d, const struct uuid *uuid, uint64_t epoch)
{
    struct err err = {0};
    Ferry__PeerFateKind kind = FERRY__PEER_FATE_KIND__FATE_UNKNOWN;
    CLEAN(clean_fd) int fd = root_find_owner(&d->root, uuid, &err);
    if (fd < 0 || judge_record(fd, uuid, epoch, &kind, &err) < 0)
        log_warn("a guest that was handed off cannot be told of: %s", err.text);
    return kind;
}

/* It is that attempt which has not come to its end yet. */
static bool is_awaited(struct daemon *d, const struct uuid *uuid, uint64_t epoch)
{
    struct ownership o;
    struct err ignored;
    CLEAN(clean_fd) int fd = root_find_owner(&d->root, uuid, &ignored);
    return fd >= 0 && ownership_read(&o, fd, uuid, &ignored) == 0 && o.epoch == epoch &&
           o.owner == FERRY__OWNER__OWNER_INCOMING;
}

static void query_end(struct query *q, bool known)
{
    if (q->caller)
        answer_fate(q->caller, known ? judge(q->daemon, &q->uuid, q->epoch)
                                     : FERRY__PEER_FATE_KIND__FATE_UNKNOWN);
    tenant_unwatch(&q->watch);
    tenant_forget(q->tenant, q);
    LIST_REMOVE(q, all);
    free(q);
}

static void on_moved(struct tenant_watch *watch, bool removed)
{
    struct query *q = (struct query *)watch;
    if (removed || !tenant_in(q->tenant, STATE_BIT(STARTING)))
        query_end(q, true);
}

/* Refused means that it runs; accepted, that its end is on its way. A worker that does not answer
 * is not killed: it may just be letting the guest run. */
static void on_abandoned(void *ctx, const Ferry__WorkerReply *reply, const struct err *err)
{
    struct query *q = ctx;
    if (err && err->code != ECONNRESET)
        query_end(q, err->code == EALREADY || err->code == EPERM);
}

static int abandon(struct daemon *d, struct caller *c, struct tenant *t, const struct uuid *uuid,
                   uint64_t epoch, struct err *err)
{
    struct query *q = calloc(1, sizeof(*q));
    if (!q)
        return err_set(err, ENOMEM, "no memory for a query");
    *q = (struct query){.daemon = d, .caller = c, .tenant = t, .uuid = *uuid, .epoch = epoch};
    LIST_INSERT_HEAD(&queries, q, all);
    tenant_watch(t, &q->watch, on_moved);
    int rc = tenant_ask(t, FERRY__WORKER_REQUEST__BODY_ABANDON, WORKER_PATIENCE_MS, on_abandoned, q,
                        err);
    if (rc < 0) {
        q->caller = NULL;
        query_end(q, false);
    }
    return rc;
}

void incoming_forget(struct caller *c)
{
    struct query *q;
    LIST_FOREACH(q, &queries, all)
    if (q->caller == c)
        q->caller = NULL;
}

/* A worker that lives and was not found again could still let the guest run. */
static bool has_stray_worker(const struct tenant *t)
{
    struct err ignored;
    return t && !t->run && spawn_check_free(t->dirfd, t->name, &ignored) < 0;
}

void incoming_query(struct daemon *d, struct caller *c, const Ferry__PeerQuery *query)
{
    struct uuid uuid;
    struct err err = {0};
    Ferry__PeerFateKind kind = FERRY__PEER_FATE_KIND__FATE_UNKNOWN;
    if (query->uuid.len != sizeof(uuid.bytes) || query->epoch == 0) {
        answer_fate(c, kind);
        return;
    }
    take_uuid(&query->uuid, &uuid);
    struct tenant *t = find_uuid(d, &uuid);
    if (t && tenant_in(t, STATE_BIT(STARTING)) && is_awaited(d, &uuid, query->epoch)) {
        if (abandon(d, c, t, &uuid, query->epoch, &err) == 0)
            return;
        log_warn("%s: %s", t->name, err.text);
    } else if (!has_stray_worker(t)) {
        kind = judge(d, &uuid, query->epoch);
    }
    answer_fate(c, kind);
}
