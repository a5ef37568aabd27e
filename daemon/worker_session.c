/* See worker_session.h. */
#include "daemon/worker_session.h"

#include <errno.h>
#include <stdlib.h>

#include "base/log.h"
#include "daemon/worker_console.h"
#include "daemon/worker_rpc.h"
#include "daemon/worker_status.h"

static int on_frame(void *owner, const uint8_t *body, size_t len, struct err *err)
{
    struct session *s = owner;
    ProtobufCMessage *message = frame_unpack(&ferry__worker_request__descriptor, body, len, err);
    if (!message)
        return -err->code;
    int rc = worker_rpc_handle(s, (const Ferry__WorkerRequest *)message, err);
    frame_free(message);
    return rc;
}

static void unlink_session(struct session *s)
{
    struct session **at = &s->worker->sessions;
    while (*at && *at != s)
        at = &(*at)->next;
    if (*at)
        *at = s->next;
}

static void on_closed(void *owner, const char *why)
{
    struct session *s = owner;
    if (why[0])
        log_debug("a connection of ferryd ended: %s", why);
    worker_console_forget(s);
    unlink_session(s);
    free(s);
}

static const struct conn_ops ops = {.frame = on_frame, .closed = on_closed};

static struct session *make(struct worker *w, struct err *err)
{
    struct session *s = calloc(1, sizeof(*s));
    if (!s) {
        err_set(err, ENOMEM, "no memory for a session");
        return NULL;
    }
    s->worker = w;
    s->conn = conn_new(&w->loop, &ops, s, err);
    if (!s->conn) {
        free(s);
        return NULL;
    }
    s->next = w->sessions;
    w->sessions = s;
    return s;
}

int session_open(struct worker *w, int fd, struct err *err)
{
    struct session *s = make(w, err);
    if (!s)
        return -err->code;
    s->greeted = true; /* in the blocking start */
    int rc = conn_open(s->conn, fd, err);
    if (rc < 0)
        conn_close(s->conn, false);
    return rc;
}

int session_accept(struct worker *w, uv_stream_t *server, struct err *err)
{
    struct session *s = make(w, err);
    if (!s)
        return -err->code;
    int rc = conn_accept(s->conn, server, err);
    if (rc < 0)
        conn_close(s->conn, false);
    return rc;
}

void session_reply(struct session *s, Ferry__WorkerReply *reply)
{
    struct err err = {0};
    if (conn_send(s->conn, &reply->base, &err) < 0)
        log_warn("ferryd misses an answer: %s", err.text);
}

static void tell_all(struct worker *w, Ferry__WorkerReply *news)
{
    for (struct session *s = w->sessions; s; s = s->next)
        if (s->greeted)
            session_reply(s, news);
}

void session_tell_status(struct worker *w, Ferry__WorkerStatus *status)
{
    Ferry__WorkerReply news = FERRY__WORKER_REPLY__INIT;
    news.body_case = FERRY__WORKER_REPLY__BODY_STATUS;
    news.status = status;
    tell_all(w, &news);
}

void session_tell_reset(struct worker *w, const char *by)
{
    Ferry__WorkerReply news = FERRY__WORKER_REPLY__INIT;
    Ferry__WorkerGuestReset reset = FERRY__WORKER_GUEST_RESET__INIT;
    reset.by = (char *)(uintptr_t)by;
    reset.resets = w->resets;
    news.body_case = FERRY__WORKER_REPLY__BODY_GUEST_RESET;
    news.guest_reset = &reset;
    tell_all(w, &news);
}

void session_answer_start(struct worker *w, const struct err *failure)
{
    struct worker_status_storage storage;
    Ferry__WorkerStatus status;
    for (struct session *s = w->sessions; s; s = s->next) {
        Ferry__WorkerReply reply = FERRY__WORKER_REPLY__INIT;
        if (s->start_id == 0)
            continue;
        reply.id = s->start_id;
        s->start_id = 0;
        if (failure) {
            reply.code = (uint32_t)failure->code;
            reply.error = (char *)(uintptr_t)failure->text;
        } else {
            worker_status(w, &status, &storage);
            reply.body_case = FERRY__WORKER_REPLY__BODY_STATUS;
            reply.status = &status;
        }
        session_reply(s, &reply);
    }
}

void session_close_all(struct worker *w)
{
    while (w->sessions)
        conn_close(w->sessions->conn, true);
}
