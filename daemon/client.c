/* See client.h. */
#include "daemon/client.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "base/log.h"
#include "daemon/conn.h"
#include "daemon/request.h"
#include "daemon/tenant.h"
#include "proto/frame.h"
#include "proto/utf8.h"

static void send_reply(struct client *c, Ferry__Reply *reply)
{
    struct err err = {0};
    if (!c->conn)
        return;
    if (conn_send(c->conn, &reply->base, &err) < 0)
        log_debug("client %d: %s", (int)c->peer.pid, err.text);
}

static void send_error(struct client *c, uint32_t id, const struct err *err)
{
    Ferry__Reply reply = FERRY__REPLY__INIT;
    struct err clean = *err;
    utf8_clean(clean.text);
    reply.id = id;
    reply.last = true;
    reply.code = (uint32_t)clean.code;
    reply.error = clean.text;
    send_reply(c, &reply);
}

/* Takes all back that could still come for the request. */
static void request_free(struct request *rq)
{
    TAILQ_REMOVE(&rq->client->requests, rq, all);
    rq->client->open--;
    if (rq->tenant)
        tenant_forget(rq->tenant, rq);
    tenant_unwatch(&rq->watch);
    timeout_cancel(&rq->timer);
    frame_free((ProtobufCMessage *)rq->message);
    free(rq->state);
    free(rq);
}

static void request_drop(struct request *rq)
{
    if (rq->drop)
        rq->drop(rq);
    request_free(rq);
}

void request_done(struct request *rq, Ferry__Reply *reply)
{
    Ferry__Reply empty = FERRY__REPLY__INIT;
    if (!reply)
        reply = &empty;
    reply->id = rq->id;
    reply->last = true;
    send_reply(rq->client, reply);
    request_free(rq);
}

void request_fail(struct request *rq, const struct err *err)
{
    send_error(rq->client, rq->id, err);
    request_free(rq);
}

void request_send(struct request *rq, Ferry__Reply *reply)
{
    reply->id = rq->id;
    send_reply(rq->client, reply);
}

bool request_is_full(const struct request *rq)
{
    struct conn *conn = rq->client->conn;
    return !conn || conn_pending(conn) >= CONN_PENDING_HIGH;
}

void client_refuse(struct client *c, int code, const char *text)
{
    struct err err = {0};
    err_set(&err, code, "%s", text);
    send_error(c, 0, &err);
    if (c->conn)
        conn_close(c->conn, true);
}

/* What cannot be answered by id ends the connection, with a word. */
static void on_refused(void *owner, const struct err *err)
{
    struct client *c = owner;
    log_debug("client %d: %s", (int)c->peer.pid, err->text);
    client_refuse(c, err->code, err->text);
}

static void on_closed(void *owner, const char *why)
{
    struct client *c = owner;
    struct request *rq;
    c->conn = NULL;
    while ((rq = TAILQ_FIRST(&c->requests)))
        request_drop(rq);
    timeout_cancel(&c->patience);
    if (c->gone)
        c->gone(c);
    free(c);
}

static void on_no_hello(void *ctx)
{
    client_refuse(ctx, ETIMEDOUT, "no hello came within 5 s");
}

static void on_stalled(void *ctx)
{
    struct client *c = ctx;
    size_t pending = conn_pending(c->conn);
    if (pending < c->stalled_at) {
        c->stalled_at = pending;
        timeout_set(&c->patience, &c->daemon->loop, CLIENT_STALL_MS, on_stalled, c);
        return;
    }
    log_warn("client %d asks and does not read: it is cut", (int)c->peer.pid);
    conn_close(c->conn, false);
}

/* Answers pile up: no further question is heard before they are read. */
static void hold_if_full(struct client *c)
{
    if (!c->conn || conn_pending(c->conn) < CONN_PENDING_HIGH || c->patience)
        return;
    conn_hold(c->conn, true);
    c->stalled_at = conn_pending(c->conn);
    timeout_set(&c->patience, &c->daemon->loop, CLIENT_STALL_MS, on_stalled, c);
}

static void on_drained(void *owner)
{
    struct client *c = owner;
    struct request *rq, *next;
    for (rq = TAILQ_FIRST(&c->requests); rq && c->conn; rq = next) {
        next = TAILQ_NEXT(rq, all);
        if (rq->drained)
            rq->drained(rq);
    }
    if (!c->conn || !c->greeted)
        return;
    timeout_cancel(&c->patience);
    conn_hold(c->conn, false);
}

static int greet(struct client *c, const Ferry__Request *r, struct err *err)
{
    Ferry__Hello ours = FERRY__HELLO__INIT;
    Ferry__Reply reply = FERRY__REPLY__INIT;
    if (r->body_case != FERRY__REQUEST__BODY_HELLO)
        return err_set(err, EPROTO, "the first request must be a hello");
    if (r->hello->min_version > CLIENT_PROTOCOL || r->hello->max_version < CLIENT_PROTOCOL)
        return err_set(err, EPROTONOSUPPORT,
                       "this ferryd speaks version %u of the protocol, not %" PRIu32 " to %" PRIu32,
                       CLIENT_PROTOCOL, r->hello->min_version, r->hello->max_version);
    if (c->peer.privilege == PRIVILEGE_NONE)
        return err_set(err, EACCES, "user %u may not talk to this ferryd: be root or in its group",
                       (unsigned)c->peer.uid);
    c->greeted = true;
    timeout_cancel(&c->patience);
    ours.min_version = ours.max_version = CLIENT_PROTOCOL;
    ours.release = FERRY_VERSION;
    reply.id = r->id;
    reply.last = true;
    reply.body_case = FERRY__REPLY__BODY_HELLO;
    reply.hello = &ours;
    send_reply(c, &reply);
    return 0;
}

static struct request *find_open(struct client *c, uint32_t id)
{
    struct request *rq;
    TAILQ_FOREACH(rq, &c->requests, all)
    if (rq->id == id)
        return rq;
    return NULL;
}

static int cancel(struct client *c, const Ferry__Request *r, struct err *err)
{
    struct err cancelled = {0};
    Ferry__Reply done = FERRY__REPLY__INIT;
    struct request *rq = find_open(c, r->cancel->target);
    if (!rq)
        return err_set(err, ENOENT, "request %" PRIu32 " is not open", r->cancel->target);
    if (!rq->too_late || !rq->too_late(rq)) {
        err_set(&cancelled, ECANCELED, "cancelled");
        if (rq->drop)
            rq->drop(rq);
        request_fail(rq, &cancelled);
    }
    done.id = r->id;
    done.last = true;
    send_reply(c, &done);
    return 0;
}

static int check_vm(struct request *rq, struct err *err)
{
    const struct rpc_row *row = rq->row;
    if (!row->about_vm)
        return 0;
    const char *name = rpc_table_vm(rq->message);
    rq->tenant = registry_find(&rq->daemon->registry, name);
    if (!rq->tenant)
        return err_set(err, ENOENT, "there is no VM '%.64s'", name);
    if (!tenant_in(rq->tenant, row->states))
        return rpc_table_refuse_state(row, rq->tenant->name, tenant_state(rq->tenant), err);
    return 0;
}

static int check_row(const struct client *c, const struct rpc_row *row, struct err *err)
{
    if (!row)
        return err_set(err, ENOSYS, "this ferryd knows no such request");
    if (row->privilege == PRIVILEGE_NONE || c->peer.privilege < row->privilege)
        return err_set(err, EACCES, "user %u may not %s: be root or in ferryd's group",
                       (unsigned)c->peer.uid, row->name);
    if (c->open >= CLIENT_REQUESTS_MAX)
        return err_set(err, EAGAIN, "%u requests are open already", CLIENT_REQUESTS_MAX);
    return 0;
}

/* From here on the request owns the message. */
static int open_request(struct client *c, Ferry__Request **message, struct err *err)
{
    const struct rpc_row *row = rpc_table_find((*message)->body_case);
    int rc = check_row(c, row, err);
    if (rc < 0)
        return rc;
    struct request *rq = calloc(1, sizeof(*rq));
    if (!rq)
        return err_set(err, ENOMEM, "no memory for a request");
    rq->client = c;
    rq->daemon = c->daemon;
    rq->id = (*message)->id;
    rq->row = row;
    rq->message = *message;
    *message = NULL;
    TAILQ_INSERT_TAIL(&c->requests, rq, all);
    c->open++;
    rc = check_vm(rq, err);
    if (rc == 0)
        rc = row->handle(rq, err);
    if (rc < 0)
        request_fail(rq, err);
    return 0;
}

/* Errors that are about one request are its answer; those about the connection end it. */
static int dispatch(struct client *c, Ferry__Request **message, struct err *err)
{
    struct err failed = {0};
    uint32_t id = (*message)->id;
    int rc;
    if (!c->greeted)
        return greet(c, *message, err);
    if ((*message)->body_case == FERRY__REQUEST__BODY_HELLO)
        return err_set(err, EPROTO, "a second hello");
    if (id == 0 || find_open(c, id))
        return err_set(err, EPROTO, "request id %" PRIu32 " is 0 or still open", id);
    if ((*message)->body_case == FERRY__REQUEST__BODY_CANCEL)
        rc = cancel(c, *message, &failed);
    else
        rc = open_request(c, message, &failed);
    if (rc < 0)
        send_error(c, id, &failed);
    return 0;
}

static int on_frame(void *owner, const uint8_t *body, size_t len, struct err *err)
{
    struct client *c = owner;
    Ferry__Request *message =
        (Ferry__Request *)frame_unpack(&ferry__request__descriptor, body, len, err);
    int rc = message ? dispatch(c, &message, err) : -err->code;
    frame_free((ProtobufCMessage *)message);
    if (rc == 0)
        hold_if_full(c);
    return rc;
}

static const struct conn_ops client_ops = {
    .frame = on_frame, .refused = on_refused, .closed = on_closed, .drained = on_drained};

struct client *client_accept(struct daemon *d, uv_stream_t *server, void (*gone)(struct client *c),
                             struct err *err)
{
    struct client *c = calloc(1, sizeof(*c));
    if (!c) {
        err_set(err, ENOMEM, "no memory for a client");
        return NULL;
    }
    c->daemon = d;
    TAILQ_INIT(&c->requests);
    c->conn = conn_new(&d->loop, &client_ops, c, err);
    if (!c->conn) {
        free(c);
        return NULL;
    }
    if (conn_accept(c->conn, server, err) < 0 ||
        peer_identify(conn_fd(c->conn), &d->rules, &c->peer, err) < 0) {
        conn_close(c->conn, false); /* frees through on_closed */
        return NULL;
    }
    c->gone = gone;
    timeout_set(&c->patience, &d->loop, CLIENT_HELLO_MS, on_no_hello, c);
    return c;
}

void client_close(struct client *c)
{
    if (c->conn)
        conn_close(c->conn, false);
}
