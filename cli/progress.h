/*
 * How far a request has come, as one line on a terminal that is drawn anew and at the end removed.
 * On anything else than a terminal there is none.
 *
 * Without word from ferryd the line tells the seconds, once there is one: "stopping 'web' ... 3s".
 * With it, "saving 'web': memory 412M of 1.0G, 830M/s"; the rate is that of the last two seconds.
 * Of a migration: "migrating 'web': round 3, 1.2M left, 830M/s, writes 40M/s, 3.1 ms downtime".
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "proto/ferry.pb-c.h"

struct progress_mark {
    uint64_t ns, bytes;
};

struct progress {
    const char *doing, *name; /* borrowed */
    bool terminal, shown;
    uint64_t since_ns, shown_ns;
    char stage[32]; /* empty before ferryd has told anything */
    uint64_t done_bytes, total_bytes;
    uint32_t round;
    uint64_t rate_bytes, dirty_bytes, downtime_ns; /* of a migration, as ferryd measures them */
    char why[128];
    struct progress_mark marks[2]; /* where the rate is measured from, and from next */
};

void progress_begin(struct progress *p, const char *doing, const char *name);

/* What ferryd said; drawn at most ten times a second. */
void progress_update(struct progress *p, const Ferry__Progress *news);

/* A while has passed without any news. */
void progress_tick(struct progress *p);

void progress_end(struct progress *p);

/* Bytes a second since the mark, 0 while it is too new to tell. */
uint64_t progress_rate(const struct progress *p, uint64_t now_ns);
