/*
 * A request that a client has open, from its frame to its last reply. [loop]
 *
 * A handler answers at once, or keeps the request and answers later: with request_done or
 * request_fail, after which the request is gone. When the client cancels, but for when it is too
 * late for that and the answer is about to come, or leaves, `drop` is
 * called first, then the watch, the timer and the calls to the tenant's worker that belong to the
 * request are taken back, so that nothing comes for it any more.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "daemon/daemon.h"
#include "daemon/rpc_table.h"
#include "daemon/timeout.h"

struct client;

struct request {
    struct tenant_watch watch; /* first: its callback gets the request by it */
    TAILQ_ENTRY(request) all;
    struct client *client; /* borrowed */
    struct daemon *daemon; /* borrowed */
    uint32_t id;
    const struct rpc_row *row;
    Ferry__Request *message; /* owned */
    struct tenant *tenant;   /* borrowed; NULL for requests about no VM */
    struct timeout *timer;
    void (*drop)(struct request *rq);     /* may be NULL */
    bool (*too_late)(struct request *rq); /* may be NULL: it cannot be cancelled any more */
    void (*drained)(struct request *rq);  /* the client reads again; for streams */
    void *state;                          /* the handler's own; freed with the request by free() */
};

/* The last reply; `reply` may be NULL for an empty one. */
void request_done(struct request *rq, Ferry__Reply *reply);
void request_fail(struct request *rq, const struct err *err);

/* One reply of a stream. */
void request_send(struct request *rq, Ferry__Reply *reply);

/* Whether a stream should wait for `drained`. */
bool request_is_full(const struct request *rq);
