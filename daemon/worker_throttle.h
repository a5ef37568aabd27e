/*
 * Slows a guest down for a migration: holds its vCPUs for a part of each THROTTLE_PERIOD_MS, on a
 * thread of its own. [job]
 */
#pragma once

#include <pthread.h>
#include <stdbool.h>

#include "daemon/worker_job.h"

#define THROTTLE_PERIOD_MS 20u

struct throttle {
    struct job *job; /* borrowed; inside the machine for as long as this runs */
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    unsigned percent; /* locked */
    bool stop;        /* locked */
    bool runs;
};

void throttle_init(struct throttle *t, struct job *job);
void throttle_fini(struct throttle *t);

/* From now on so many percent of the time. */
int throttle_set(struct throttle *t, unsigned percent, struct err *err);

/* The guest is as fast as it can again. */
void throttle_stop(struct throttle *t);
