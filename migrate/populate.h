/*
 * Memory made present ahead of what comes, in big steps, on a thread of its own: the first touch of
 * single pages is the slowest step of a migration. A kernel that cannot (before 5.14), or that has
 * no memory, leaves it to the first touch.
 */
#pragma once

#include <pthread.h>
#include <stdbool.h>

#include "migrate/wire.h"

struct populate {
    uint8_t *ram; /* borrowed */
    struct wire_range ranges[WIRE_RANGES_MAX];
    unsigned count;
    _Atomic bool stop;
    pthread_t thread;
    bool runs;
};

/* Begins with these ranges; a second call while it works does nothing. */
void populate_start(struct populate *p, uint8_t *ram, const struct wire_range *ranges,
                    unsigned count);

/* Returns when the thread is gone, at most one step later. */
void populate_stop(struct populate *p);
