/* Areas of pages, spread over the runs of RAM that were free, and the pace of working on them. */
#include "dirty.h"

#define MAX_BACKLOG_US 10000

uint64_t *area_page(const struct area *a, uint64_t page)
{
    uint64_t offset = page * PAGE;
    unsigned i = 0;

    while (offset >= a->runs[i].bytes)
        offset -= a->runs[i++].bytes;
    return (uint64_t *)(uintptr_t)(a->runs[i].addr + offset);
}

void area_take(struct area *a, const char *what, uint64_t bytes)
{
    a->nr_runs = mem_take(bytes, a->runs, RUNS);
    for (unsigned i = 0; i < a->nr_runs; i++)
        a->pages += a->runs[i].bytes / PAGE;
    if (a->pages * PAGE < bytes && bytes != UINT64_MAX)
        say("%s: only %lu of %lu pages are there", what, a->pages, bytes / PAGE);
}

bool pace_due(struct pace *p, uint64_t now)
{
    uint64_t since_us = (now - p->base_ns) / 1000, want = since_us * p->rate / 1000000;
    uint64_t done = p->done - p->base_done;

    if (p->rate == UINT64_MAX)
        return true;
    if (!p->rate || want <= done)
        return false;
    if (since_us > 1000000 || want - done > p->rate * MAX_BACKLOG_US / 1000000 + 1)
        pace_begin(p, now);
    return true;
}

void pace_begin(struct pace *p, uint64_t now)
{
    p->base_ns = now;
    p->base_done = p->done;
}
