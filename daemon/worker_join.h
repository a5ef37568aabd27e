/*
 * The data connections of a guest that comes, beside the first: each is a job of ferryd's that
 * leaves its socket here (proto/worker.proto, WorkerJoin), for the one that receives.
 */
#pragma once

#include <pthread.h>

#include "daemon/peer_stream.h"
#include "daemon/worker_job.h"
#include "migrate/lanes_out.h"

struct arrival_lanes {
    pthread_mutex_t lock; /* for the rest */
    struct peer_stream peers[LANES_MAX];
    int sockets[LANES_MAX]; /* owned; -1 for one that has not come */
    bool closed;
};

void arrival_lanes_init(struct arrival_lanes *a);

/* No more of them; those that came are closed. [any] */
void arrival_lanes_close(struct arrival_lanes *a);

/* Those that are here, without a gap. [job] */
unsigned arrival_lanes_get(struct arrival_lanes *a, const struct stream **to);

/* The job. */
int worker_join(struct job *job, const Ferry__WorkerJoin *ask, struct fds *fds, struct err *err);
