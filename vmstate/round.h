/*
 * One round of a capture: every page, or every page that is marked, goes to the sink once. Always
 * in the order that loses nothing: take the bits, re-arm, read.
 *
 *     round_sweep      all of RAM by chunks, passing over what was never touched
 *     round_dirty      the marked pages by chunks
 *     round_end        tells the sink
 *
 * On failure the bits that were taken are in `taken`; nobody puts them back here.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/bitmap.h"
#include "base/err.h"
#include "vmstate/guest.h"
#include "vmstate/page_sink.h"
#include "vmstate/stash.h"

struct round {
    const struct guest *guest;    /* borrowed */
    const struct page_sink *sink; /* borrowed */
    struct bitmap *pages;         /* borrowed; NULL when nothing is tracked: the guest is paused */
    struct bitmap *taken;         /* borrowed; may be NULL */
    /* False only when tracking ends before the guest goes on: a page that is taken but not re-armed
     * may be re-armed by another consumer, after a write that then nobody here hears of. */
    bool rearm;
    bool spare_holes; /* what was never touched is not told */
    size_t chunk;     /* pages; a multiple of STASH_WORD */
    struct stash stash;
    size_t used_from, used_to; /* pages known to be used: what is used stays so */

    /* After each chunk, with the pages gone through in it. */
    int (*step)(void *ctx, uint64_t pages, struct err *err); /* may be NULL */
    void *ctx;

    /* Of this round; round_begin clears them. */
    struct pages_told told;
    uint64_t untouched, gone_through;
    uint64_t began_ns, copy_ns, sink_ns;
};

enum round_way {
    ROUND_DIRECT,     /* from guest memory to the sink */
    ROUND_COPY,       /* chunk by chunk through the stash */
    ROUND_COPY_ASIDE, /* by the stash's capacity; what fits stays there for round_tell */
};

void round_begin(struct round *r);
int round_sweep(struct round *r, struct err *err);
int round_dirty(struct round *r, enum round_way way, struct err *err);
int round_tell(struct round *r, struct err *err);
int round_end(struct round *r, unsigned number, bool last, struct err *err);
