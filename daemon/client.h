/*
 * One connection of a client: hello, then requests by the table, then its end. [loop]
 *
 * What goes wrong is answered before it is the end: a frame over the limit with EMSGSIZE, a body
 * that is no request with EBADMSG, a protocol error with EPROTO, all with id 0. A client that says
 * no hello for 5 s is closed. One that asks and does not read is not heard until it reads, and cut
 * when it has read nothing for 10 s; only streams may wait for their reader without end.
 */
#pragma once

#include <stdbool.h>
#include <sys/queue.h>
#include <uv.h>

#include "daemon/daemon.h"
#include "daemon/timeout.h"

#define CLIENT_PROTOCOL 1u
#define CLIENT_REQUESTS_MAX 64u
#define CLIENT_HELLO_MS 5000u
#define CLIENT_STALL_MS 10000u

struct conn;

TAILQ_HEAD(request_list, request);

struct client {
    TAILQ_ENTRY(client) all; /* the server's */
    struct daemon *daemon;   /* borrowed */
    struct conn *conn;       /* NULL once it is closed */
    void (*gone)(struct client *c);
    struct peer peer;
    bool greeted;
    struct request_list requests;
    unsigned open;
    struct timeout *patience; /* for the hello, then for a reader that stalls */
    size_t stalled_at;        /* what was pending when the patience began */
};

/* Takes the connection that waits on `server`; `gone` is called once when it has ended, and the
 * client is freed behind it. */
struct client *client_accept(struct daemon *d, uv_stream_t *server, void (*gone)(struct client *c),
                             struct err *err);
void client_close(struct client *c);

/* Says only that, and closes. */
void client_refuse(struct client *c, int code, const char *text);
