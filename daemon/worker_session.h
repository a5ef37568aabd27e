/*
 * One connection of a ferryd to the worker: hello, then requests by the table in worker_rpc.c.
 * There may be several, e.g. while one ferryd takes over from another. All [loop].
 */
#pragma once

#include "daemon/conn.h"
#include "daemon/worker.h"

struct session {
    struct worker *worker;
    struct session *next;
    struct conn *conn; /* NULL once closed */
    bool greeted;
    bool watching; /* a console watch is open, with the two below */
    uint32_t watch_id;
    uint64_t watch_offset;
    uint32_t start_id; /* of its start request, while that is open; else 0 */
};

int session_open(struct worker *w, int fd, struct err *err);
int session_accept(struct worker *w, uv_stream_t *server, struct err *err);

void session_reply(struct session *s, Ferry__WorkerReply *reply);

/* News to every session that has said hello. */
void session_tell_status(struct worker *w, Ferry__WorkerStatus *status);
void session_tell_reset(struct worker *w, const char *by);

/* The open start request, wherever it is: with the status, or with a failure. */
void session_answer_start(struct worker *w, const struct err *failure);

void session_close_all(struct worker *w);
