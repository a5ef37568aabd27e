/*
 * Where a captured guest goes: a peer (migrate/) or an image (snapshot/).
 *
 *     pages | zero ...   round_end(0)
 *     pages | zero ...   round_end(1)
 *     ...
 *     pages | zero ...   round_end(n, last)   state
 *
 * Within a round no page comes twice; in a later round it may come again, and the later one counts.
 * A sink that works in parallel puts its barrier into round_end.
 *
 * `data` is borrowed for the call. While the guest runs it may be the guest's own memory and change
 * under the reader's eyes: a page read while it was written comes again in a later round, but two
 * looks at it (a checksum and a write, say) may see two contents.
 *
 * Every call comes from the job thread; 0 or -errno with a sentence ends the capture.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct page_round {
    unsigned number;            /* from 0 */
    bool last;                  /* the state comes next */
    uint64_t pages, zero_pages; /* told in this round */
    uint64_t ns;                /* how long it took, the sink included */
};

struct page_sink_ops {
    int (*pages)(void *ctx, uint64_t offset, const uint8_t *data, size_t bytes, struct err *err);
    int (*zero)(void *ctx, uint64_t offset, uint64_t bytes, struct err *err); /* any length */
    int (*state)(void *ctx, const uint8_t *data, size_t bytes, struct err *err);
    int (*round_end)(void *ctx, const struct page_round *round, struct err *err); /* may be NULL */
};

struct page_sink {
    const struct page_sink_ops *ops; /* borrowed */
    void *ctx;                       /* borrowed */
    bool wants_zero_scan;            /* zero pages are looked for; else they go as data */
    /* Reads as zero where nothing was told: pages that are zero or untouched in a first round over
     * all of RAM are not told. Never so for a diff. */
    bool starts_zero;
};
