/*
 * What happened: the last EVENTS_KEPT events in memory and in ROOT/events, numbered without a gap,
 * also across restarts.
 *
 *     ROOT/events:  { u32 length, u32 crc32c of the body, ferry.Event }...
 *
 * The file is appended to, without fsync, and rewritten with what is kept when it has become too
 * long. A damaged or torn record ends it: what is behind is dropped and said in the log. A disk
 * that takes no more loses the file's newest events, not the daemon's.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "proto/ferry.pb-c.h"

#define EVENTS_KEPT 1024u

struct events {
    Ferry__Event *ring[EVENTS_KEPT]; /* owned; number n at n % EVENTS_KEPT */
    uint64_t last;                   /* newest number, 0 for none */
    int dirfd;                       /* borrowed */
    int fd;
    unsigned in_file;
    bool torn;                /* the file may end in half a record: it is to be made anew */
    void (*added)(void *ctx); /* may be NULL */
    void *ctx;
};

/* Reads what is there. `note` gets a sentence when something had to be dropped, else is empty. */
int events_open(struct events *e, int dirfd, struct err *note, struct err *err);
void events_close(struct events *e);

/* Fills in number and time, keeps a copy, tells `added`. */
int events_add(struct events *e, Ferry__Event event, struct err *err);

/* The oldest one kept whose number is at least `seq`; NULL when there is none. */
const Ferry__Event *events_from(const struct events *e, uint64_t seq);
