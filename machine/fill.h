/*
 * Memory that comes while the guest runs: chunks of RAM whose content somebody else has (a packed
 * image) are filled by a thread, through userfaultfd. Whoever touches a page that is not there yet
 * waits, and gets its whole chunk; in between the thread walks on by itself, behind the last fault,
 * until all is there. Then it lets go of userfaultfd and ends.
 *
 * Without userfaultfd fill_start itself fills all of it, before anybody can touch it.
 *
 * When a chunk cannot be had, nobody may go on: who waits must not wait for ever, and must never
 * see zeros instead. So `failed` ends the process, and until it has, the waiting go on waiting.
 */
#pragma once

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/bitmap.h"
#include "machine/mem.h"

#define FILL_CHUNK (1u << 20)

struct fill;

/* Where the content comes from. `ctx` outlives the filling. */
struct fill_source {
    /*
     * The next piece of RAM at `offset`, up to `most` bytes (at most a chunk) and whole pages:
     * *bytes of it, either copied to `to` or *zero. [fill]
     */
    int (*piece)(void *ctx, uint64_t offset, uint64_t most, uint8_t *to, uint64_t *bytes,
                 bool *zero, struct err *err);
    void (*failed)(void *ctx, const struct err *err); /* [fill] does not return */
    void (*done)(void *ctx, const struct fill *f);    /* [fill] all is there */
    void *ctx;
};

/* What is to be filled; borrowed for as long as the filling goes on. */
struct fill_plan {
    struct bitmap *chunks; /* of RAM; taken chunk by chunk */
    int uffd;              /* owned by the fill from its start on; -1 without userfaultfd */
    struct fill_source source;
};

struct fill {
    const struct fill_plan *plan; /* borrowed */
    struct mem *mem;              /* borrowed */
    int uffd, wake;               /* owned; -1 for none */
    pthread_t thread;
    bool started;
    uint64_t chunks, faults; /* filled so far; of them asked for by a fault */
    uint8_t *buffer;         /* owned */
};

/* Guest memory must not have been touched there. Harmless to fini after a failure. */
int fill_start(struct fill *f, struct mem *mem, const struct fill_plan *plan, struct err *err);

/* Also in the middle. Nobody uses the memory any more. */
void fill_stop(struct fill *f);
