/*
 * One RPC connection on a libuv loop: frames in, messages out, both bounded. All functions and
 * callbacks are [loop].
 *
 * The life of a connection: conn_new, one of conn_open/conn_accept, frames, then `closed` exactly
 * once (peer gone, bad frame, conn_close by the owner: with the reason), after which the owner must
 * not touch it. Its memory lives until libuv's close callback.
 */
#pragma once

#include <uv.h>

#include "base/err.h"
#include "proto/frame.h"

/* A peer that does not read what it asked for is cut off here. Streams look at conn_pending() and
 * stop at CONN_PENDING_HIGH until `drained`, so only a flood of plain requests gets there. */
#define CONN_PENDING_MAX (8u << 20)
#define CONN_PENDING_HIGH (256u << 10)
#define CONN_LINGER_MS 5000u

struct conn;

struct conn_ops {
    /* A whole frame; the body is borrowed for the call. < 0 with a sentence closes. */
    int (*frame)(void *owner, const uint8_t *body, size_t len, struct err *err);
    /* What the peer sent is no frame (or `frame` refused it); a last message may be sent and the
     * connection closed with a flush from here, else it is cut. May be NULL. */
    void (*refused)(void *owner, const struct err *err);
    /* `why` is one sentence; empty when the owner closed it. */
    void (*closed)(void *owner, const char *why);
    /* The pending output has fallen under CONN_PENDING_HIGH; may be NULL. */
    void (*drained)(void *owner);
};

struct conn *conn_new(uv_loop_t *loop, const struct conn_ops *ops, void *owner, struct err *err);

/* Takes over a connected unix stream socket (also when it fails). */
int conn_open(struct conn *c, int fd, struct err *err);
int conn_accept(struct conn *c, uv_stream_t *server, struct err *err);

/* The socket, for asking who the peer is; borrowed. */
int conn_fd(const struct conn *c);

/* Queues a message. A failure (too large, peer does not read) also closes the connection, later. */
int conn_send(struct conn *c, const ProtobufCMessage *message, struct err *err);
size_t conn_pending(const struct conn *c);

/* Backpressure against the peer: no frames are delivered while held. */
void conn_hold(struct conn *c, bool hold);

/* Closes; output that is queued already is still written when `flush`, by a peer that reads it
 * within CONN_LINGER_MS. */
void conn_close(struct conn *c, bool flush);
