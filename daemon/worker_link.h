/*
 * ferryd's end of the connection to one worker: hello, then requests and the replies to them by
 * number, and news. Frames from the worker are checked like those from anybody. [loop]
 *
 * The life of a link: worker_link_new, then worker_link_open with a connected socket (a hello is
 * sent, unless the socketpair of a fresh worker already carried one), `ready` when the worker's
 * hello came, `closed` once when the connection ended by itself, worker_link_free at any time.
 * Every call that is open gets its answer: from the worker, or an error when the link ends.
 *
 * A worker that says no hello within WORKER_PATIENCE_MS, or does not answer a call that has a time
 * limit, is not waited for: the former closes the link, the latter fails that call.
 */
#pragma once

#include <stdbool.h>
#include <uv.h>

#include "base/err.h"
#include "proto/worker.pb-c.h"

#define WORKER_PROTOCOL 1u
#define WORKER_PATIENCE_MS 5000u

struct worker_link;

struct worker_link_ops {
    void (*ready)(void *ctx, const Ferry__WorkerHello *hello);
    void (*news)(void *ctx, const Ferry__WorkerReply *news);
    /* `broken`: the worker said something that makes no sense, or nothing at all. */
    void (*closed)(void *ctx, bool broken, const char *why);
};

/* `reply` is NULL when `err` says why there is none: the worker's own error, ETIMEDOUT, or
 * ECONNRESET for a link that ended. Both are borrowed for the call. */
typedef void worker_link_answer(void *ctx, const Ferry__WorkerReply *reply, const struct err *err);

struct worker_link *worker_link_new(uv_loop_t *loop, const struct worker_link_ops *ops, void *ctx,
                                    struct err *err);
void worker_link_free(struct worker_link **link);

/* Ends the connection as if the worker had broken it. */
void worker_link_cut(struct worker_link *link, const char *why);

/* Takes over the socket, also when it fails. */
int worker_link_open(struct worker_link *link, int fd, bool say_hello, struct err *err);

/* A call whose request already went over the socket, under that number. */
int worker_link_expect(struct worker_link *link, uint32_t id, worker_link_answer *answer, void *ctx,
                       struct err *err);

/* Sends; `request` needs no id. limit_ms 0: waits as long as the link lives. */
int worker_link_call(struct worker_link *link, Ferry__WorkerRequest *request, uint64_t limit_ms,
                     worker_link_answer *answer, void *ctx, struct err *err);

/* The same for the requests that carry nothing. */
int worker_link_ask(struct worker_link *link, Ferry__WorkerRequest__BodyCase what,
                    uint64_t limit_ms, worker_link_answer *answer, void *ctx, struct err *err);

/* Answers all open calls with ECONNRESET. */
void worker_link_end_calls(struct worker_link *link, const char *why);

/* No open call of `ctx` is answered any more. */
void worker_link_forget(struct worker_link *link, const void *ctx);
