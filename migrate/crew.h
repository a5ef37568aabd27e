/*
 * Threads that pack frames of pages, beside the one that gathers and sends them. What is handed in
 * is copied at once, so that its checksums are of the very bytes that go, whatever the guest writes
 * meanwhile; what comes out comes in the order in which it was handed in.
 */
#pragma once

#include <pthread.h>
#include <stdbool.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "base/err.h"
#include "migrate/wire.h"

#define CREW_THREADS_MAX 4u
#define CREW_SLOTS_MAX (2u * CREW_THREADS_MAX + 1u)

struct crew_slot {
    struct wire_run runs[WIRE_RUNS_MAX];
    uint32_t crcs[WIRE_PAGES_MAX];
    unsigned nruns, npages;
    uint8_t *pages, *packed; /* owned */
    size_t packed_bytes;     /* 0: it would not get less */
    uint64_t took_ns;
    bool done;
};

struct crew {
    struct crew_slot slots[CREW_SLOTS_MAX];
    pthread_t threads[CREW_THREADS_MAX];
    unsigned nthreads, nslots;
    uint64_t given, begun, taken; /* slots so far; each is number % nslots */
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool stop;
};

/* As many threads as there are CPUs beside the caller's, at least one. */
unsigned crew_threads(void);

struct crew *crew_new(unsigned threads, struct err *err);
void crew_free(struct crew *c);

/* There must be room. `data` has a piece for each run. */
bool crew_has_room(const struct crew *c);
void crew_give(struct crew *c, const struct wire_run *runs, const struct iovec *data,
               unsigned nruns, unsigned npages);

/* The oldest frame that was handed in, valid until the next call; NULL when there is none, or when
 * it is not done and `wait` is false. */
const struct crew_slot *crew_take(struct crew *c, bool wait);
