/* See worker_link.h. */
#include "daemon/worker_link.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <unistd.h>

#include "daemon/conn.h"
#include "daemon/timeout.h"
#include "proto/frame.h"

#define FIRST_CALL_ID 16u /* the numbers below are for what is sent ahead of the link */

struct call {
    TAILQ_ENTRY(call) all;
    struct worker_link *link; /* borrowed */
    uint32_t id;
    worker_link_answer *answer; /* NULL: nobody waits any more */
    void *ctx;                  /* borrowed */
    struct timeout *limit;
};

TAILQ_HEAD(call_list, call);

struct worker_link {
    uv_loop_t *loop;                   /* borrowed */
    const struct worker_link_ops *ops; /* NULL once freed: its memory waits for `busy` */
    void *ctx;                         /* borrowed */
    struct conn *conn;                 /* NULL before and after */
    struct timeout *hello_limit;
    struct call_list calls;
    uint32_t last_id;
    unsigned busy; /* callbacks that stand on our stack */
    bool greeted;
    struct err broken; /* why the worker is to be given up */
};

static void call_free(struct call *c)
{
    TAILQ_REMOVE(&c->link->calls, c, all);
    timeout_cancel(&c->limit);
    free(c);
}

static void call_end(struct call *c, const Ferry__WorkerReply *reply, const struct err *err)
{
    worker_link_answer *answer = c->answer;
    void *ctx = c->ctx;
    call_free(c);
    if (answer)
        answer(ctx, reply, err);
}

static void enter(struct worker_link *link)
{
    link->busy++;
}

static void leave(struct worker_link *link)
{
    if (--link->busy == 0 && !link->ops)
        free(link);
}

static void end_calls(struct worker_link *link, const char *why)
{
    struct err err = {0};
    struct call *c;
    err_set(&err, ECONNRESET, "%s", why);
    while ((c = TAILQ_FIRST(&link->calls)))
        call_end(c, NULL, &err);
}

static void on_closed(void *owner, const char *why)
{
    struct worker_link *link = owner;
    link->conn = NULL;
    timeout_cancel(&link->hello_limit);
    if (!link->ops)
        return;
    enter(link);
    bool broken = link->broken.code != 0;
    if (broken)
        why = link->broken.text;
    end_calls(link, broken ? why : "the worker is gone");
    if (link->ops)
        link->ops->closed(link->ctx, broken, why);
    leave(link);
}

static int hello_frame(struct worker_link *link, const Ferry__WorkerReply *reply, struct err *err)
{
    if (reply->code)
        return err_set(err, EPROTO, "refused: %.200s", reply->error);
    if (reply->body_case != FERRY__WORKER_REPLY__BODY_HELLO)
        return err_set(err, EPROTO, "did not begin with a hello");
    if (reply->hello->max_version != WORKER_PROTOCOL)
        return err_set(err, EPROTONOSUPPORT, "speaks protocol version %u, ferryd speaks %u",
                       reply->hello->max_version, WORKER_PROTOCOL);
    link->greeted = true;
    timeout_cancel(&link->hello_limit);
    link->ops->ready(link->ctx, reply->hello);
    return 0;
}

static int reply_frame(struct worker_link *link, const Ferry__WorkerReply *reply, struct err *err)
{
    struct call *c;
    if (!link->greeted)
        return hello_frame(link, reply, err);
    if (reply->id == 0) {
        link->ops->news(link->ctx, reply);
        return 0;
    }
    TAILQ_FOREACH(c, &link->calls, all)
    if (c->id == reply->id)
        break;
    if (!c) /* its time limit has passed */
        return reply->id <= link->last_id ? 0 : err_set(err, EPROTO, "answered nothing");
    struct err failed = {0};
    if (reply->code)
        err_set(&failed, (int)(reply->code & 0xfff), "%.*s", ERR_TEXT_MAX - 1, reply->error);
    call_end(c, reply->code ? NULL : reply, reply->code ? &failed : NULL);
    return 0;
}

static int on_frame(void *owner, const uint8_t *body, size_t len, struct err *err)
{
    struct worker_link *link = owner;
    Ferry__WorkerReply *reply =
        (Ferry__WorkerReply *)frame_unpack(&ferry__worker_reply__descriptor, body, len, err);
    enter(link);
    int rc = reply ? reply_frame(link, reply, err) : -err->code;
    leave(link);
    frame_free((ProtobufCMessage *)reply);
    return rc;
}

static void on_refused(void *owner, const struct err *err)
{
    struct worker_link *link = owner;
    link->broken = *err;
    err_wrap(&link->broken, "the worker");
}

static const struct conn_ops link_ops = {
    .frame = on_frame, .refused = on_refused, .closed = on_closed};

static void on_silent(void *ctx)
{
    struct worker_link *link = ctx;
    err_set(&link->broken, ETIMEDOUT, "the worker said nothing for %u s",
            WORKER_PATIENCE_MS / 1000);
    conn_close(link->conn, false);
}

struct worker_link *worker_link_new(uv_loop_t *loop, const struct worker_link_ops *ops, void *ctx,
                                    struct err *err)
{
    struct worker_link *link = calloc(1, sizeof(*link));
    if (!link) {
        err_set(err, ENOMEM, "no memory for a worker's link");
        return NULL;
    }
    *link =
        (struct worker_link){.loop = loop, .ops = ops, .ctx = ctx, .last_id = FIRST_CALL_ID - 1};
    TAILQ_INIT(&link->calls);
    return link;
}

void worker_link_cut(struct worker_link *link, const char *why)
{
    err_set(&link->broken, EPIPE, "%s", why);
    if (link->conn)
        conn_close(link->conn, false);
}

void worker_link_free(struct worker_link **slot)
{
    struct worker_link *link = *slot;
    if (!link)
        return;
    *slot = NULL;
    link->ops = NULL;
    timeout_cancel(&link->hello_limit);
    enter(link);
    if (link->conn)
        conn_close(link->conn, false);
    end_calls(link, "the worker is let go");
    leave(link);
}

static int send_hello(struct worker_link *link, struct err *err)
{
    Ferry__WorkerHello hello = FERRY__WORKER_HELLO__INIT;
    Ferry__WorkerRequest request = FERRY__WORKER_REQUEST__INIT;
    hello.min_version = hello.max_version = WORKER_PROTOCOL;
    hello.release = FERRY_VERSION;
    request.id = 1;
    request.body_case = FERRY__WORKER_REQUEST__BODY_HELLO;
    request.hello = &hello;
    return conn_send(link->conn, &request.base, err);
}

int worker_link_open(struct worker_link *link, int fd, bool say_hello, struct err *err)
{
    link->conn = conn_new(link->loop, &link_ops, link, err);
    if (!link->conn) {
        close(fd);
        return -err->code;
    }
    int rc = conn_open(link->conn, fd, err);
    if (rc < 0)
        return rc;
    timeout_set(&link->hello_limit, link->loop, WORKER_PATIENCE_MS, on_silent, link);
    return say_hello ? send_hello(link, err) : 0;
}

static void on_limit(void *ctx)
{
    struct err err = {0};
    err_set(&err, ETIMEDOUT, "the worker did not answer in time; kill helps");
    call_end(ctx, NULL, &err);
}

static struct call *call_new(struct worker_link *link, uint32_t id, worker_link_answer *answer,
                             void *ctx, struct err *err)
{
    struct call *c = calloc(1, sizeof(*c));
    if (!c) {
        err_set(err, ENOMEM, "no memory for a call to a worker");
        return NULL;
    }
    *c = (struct call){.link = link, .id = id, .answer = answer, .ctx = ctx};
    TAILQ_INSERT_TAIL(&link->calls, c, all);
    return c;
}

int worker_link_expect(struct worker_link *link, uint32_t id, worker_link_answer *answer, void *ctx,
                       struct err *err)
{
    return call_new(link, id, answer, ctx, err) ? 0 : -err->code;
}

static uint32_t next_id(struct worker_link *link)
{
    if (++link->last_id < FIRST_CALL_ID) /* wrapped */
        link->last_id = FIRST_CALL_ID;
    return link->last_id;
}

int worker_link_call(struct worker_link *link, Ferry__WorkerRequest *request, uint64_t limit_ms,
                     worker_link_answer *answer, void *ctx, struct err *err)
{
    if (!link->conn)
        return err_set(err, ECONNRESET, "the worker is gone");
    request->id = next_id(link);
    struct call *c = call_new(link, request->id, answer, ctx, err);
    if (!c)
        return -err->code;
    int rc = conn_send(link->conn, &request->base, err);
    if (rc < 0) {
        call_free(c);
        return rc;
    }
    if (limit_ms)
        timeout_set(&c->limit, link->loop, limit_ms, on_limit, c);
    return 0;
}

int worker_link_ask(struct worker_link *link, Ferry__WorkerRequest__BodyCase what,
                    uint64_t limit_ms, worker_link_answer *answer, void *ctx, struct err *err)
{
    Ferry__WorkerEmpty empty = FERRY__WORKER_EMPTY__INIT;
    Ferry__WorkerRequest request = FERRY__WORKER_REQUEST__INIT;
    request.body_case = what;
    request.status = &empty; /* all members of the union are pointers to the same message */
    return worker_link_call(link, &request, limit_ms, answer, ctx, err);
}

void worker_link_end_calls(struct worker_link *link, const char *why)
{
    enter(link);
    end_calls(link, why);
    leave(link);
}

void worker_link_forget(struct worker_link *link, const void *ctx)
{
    struct call *c;
    TAILQ_FOREACH(c, &link->calls, all)
    if (c->ctx == ctx)
        c->answer = NULL;
}
