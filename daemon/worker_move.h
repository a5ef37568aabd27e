/*
 * A guest on its way out of a worker, as the loop sees it.
 *
 *     RUNNING, PAUSED ──freeze──► MOVING ──done──► ENDED, moved
 *          ▲                       │  │ doubt
 *          └───────────thaw────────┘  ▼
 *          ▲                       IN_DOUBT ──resolve: discard──► ENDED, moved
 *          └────────resolve: keep────┘
 *
 * In MOVING and IN_DOUBT the vCPUs are parked and no request can change that or the guest.
 */
#pragma once

#include <stdbool.h>

#include "base/err.h"

struct worker;

struct worker_move {
    bool was_paused; /* before the freeze */
    bool is_moved;   /* the ending is that */
};

/* One migration at a time; takes over the record of ownership. [job] */
int worker_move_begin(struct worker *w, int record_fd, struct err *err);
void worker_move_end(struct worker *w, bool in_doubt);

/* Freeze is a pause with a handshake, and fails when the guest has just met its end. [loop] */
int worker_move_freeze(struct worker *w, struct err *err);
int worker_move_thaw(struct worker *w, struct err *err);
int worker_move_doubt(struct worker *w, struct err *err);

/* Has the loop end the worker, as one whose guest lives elsewhere. [job] */
void worker_move_done(struct worker *w, const char *text);

/* From IN_DOUBT. [loop] */
int worker_move_resolve(struct worker *w, bool keep, struct err *err);
