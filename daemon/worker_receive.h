/*
 * A guest on its way into a worker: the machine was built empty, a job of the worker's own runs the
 * target engine on the socket that ferryd passed.
 *
 *     NEW ──► INCOMING ──► RUNNING or PAUSED, as it was at the source
 *                 └──────► ENDED: it never ran here
 *
 * ferryd's start request is answered by either.
 */
#pragma once

#include "daemon/migrate_cargo.h"
#include "daemon/worker.h"
#include "daemon/worker_join.h"

/* The worker's part of it; the members are the loop's but for the cargo. */
struct arrival {
    struct cargo cargo; /* the job's until it is taken */
    bool taken, abandoned;
    uint64_t taken_ns;
    struct arrival_lanes lanes;
};

/* It must not run here any more, or -EALREADY. [loop] */
int worker_receive_abandon(struct worker *w, struct err *err);

/* Takes the descriptors of a guest that is to come out of a start request. [loop] */
int worker_receive_take(struct worker *w, const Ferry__WorkerIncoming *incoming, struct fds *fds,
                        unsigned at, struct err *err);

/* Begins to receive. [loop] */
int worker_receive_start(struct worker *w, struct err *err);

void worker_receive_fini(struct worker *w);

/* The machine could not be built: the peer hears why. [loop] */
void worker_receive_refuse(struct worker *w, const struct err *why);
