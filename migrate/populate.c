/* See populate.h. */
#include "migrate/populate.h"

#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>

#define STEP_BYTES (8ull << 20)

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

static void *thread_main(void *arg)
{
    struct populate *p = arg;
    pthread_setname_np(pthread_self(), "populate");
    for (unsigned i = 0; i < p->count; i++) {
        uint64_t at = p->ranges[i].offset, end = at + p->ranges[i].bytes;
        for (uint64_t step; at < end; at += step) {
            step = end - at < STEP_BYTES ? end - at : STEP_BYTES;
            if (atomic_load(&p->stop) || madvise(p->ram + at, step, MADV_POPULATE_WRITE) < 0)
                return NULL;
        }
    }
    return NULL;
}

void populate_start(struct populate *p, uint8_t *ram, const struct wire_range *ranges,
                    unsigned count)
{
    if (p->runs)
        return;
    p->ram = ram;
    p->count = count;
    memcpy(p->ranges, ranges, count * sizeof(*ranges));
    atomic_store(&p->stop, false);
    p->runs = pthread_create(&p->thread, NULL, thread_main, p) == 0;
}

void populate_stop(struct populate *p)
{
    if (!p->runs)
        return;
    atomic_store(&p->stop, true);
    pthread_join(p->thread, NULL);
    p->runs = false;
}
