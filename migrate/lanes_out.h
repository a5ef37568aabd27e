/*
 * The source's data connections beside the first: each has a thread that looks for checksums, packs
 * when it is told to, and writes. One thread gathers and hands frames to whichever is idle.
 *
 * Order between them is of no matter within a round, because a page goes once in a round. Each is
 * told the end of a round, and the peer acknowledges a round when it has the end of it from all: so
 * no page of the next one can be overtaken by an older version of it.
 *
 * Failure modes: one that breaks, or is not taken from for CHANNEL_PATIENCE_NS, fails the whole.
 */
#pragma once

#include <pthread.h>

#include "migrate/channel.h"

#define LANES_MAX 7u /* beside the first */

struct lanes_out;

/* What a lane has done since it was last asked for. */
struct lane_deed {
    uint64_t raw, bytes, took_ns; /* of memory; of these on the wire; in writing them */
    uint64_t wire_bytes;          /* all of the frame */
    uint64_t pack_ns;             /* 0: not packed */
    unsigned packed_pages;        /* 0: it was not less */
};

struct lanes_out *lanes_out_new(const struct stream *const *streams, unsigned count,
                                struct err *err);
/* Whatever they do is given up. */
void lanes_out_free(struct lanes_out *s);

unsigned lanes_out_count(const struct lanes_out *s);

/* Hands a frame to an idle lane; false when there is none. `data` is of guest memory, a piece for
 * each run. */
bool lanes_out_give(struct lanes_out *s, const struct wire_run *runs, const struct iovec *data,
                    unsigned nruns, unsigned npages, bool pack);

/* 1: one that has been done. 0: there is none any more. -errno: a lane has failed. */
int lanes_out_take(struct lanes_out *s, struct lane_deed *deed, struct err *err);

/* Waits a slice until one, or all, are idle; 1 when that was not enough. */
int lanes_out_wait(struct lanes_out *s, bool all, struct err *err);

/* All are idle: tells each that the round is over. */
void lanes_out_end_round(struct lanes_out *s, uint64_t number, bool last);
