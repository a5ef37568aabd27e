/*
 * A bounded list of dirty pages on their way from a guest to a sink, with room to hold copies of
 * them: what is copied is stable, and the guest need not wait until the sink has it.
 *
 *     stash_take      moves bits out of a bitmap into the list, in order, by runs
 *     stash_rearm     BEFORE the pages are read
 *     stash_copy      optional
 *     stash_tell      from the copies, or from guest memory
 *     stash_clear
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bitmap.h"
#include "base/err.h"
#include "vmstate/guest.h"
#include "vmstate/page_sink.h"
#include "vmstate/pages.h"

#define STASH_WORD 64u /* pages are taken by words of the bitmap */

struct stash_run {
    size_t first, count;
};

struct stash {
    struct stash_run *runs; /* owned */
    uint8_t *data;          /* owned; NULL when it cannot hold copies */
    size_t capacity;        /* pages; a multiple of STASH_WORD */
    size_t prepared;        /* pages of data that are present in memory */
    size_t nruns, pages;
    bool copied;
};

/* `pages` is rounded up to whole words. */
int stash_init(struct stash *s, size_t pages, bool copies, struct err *err);
void stash_fini(struct stash *s);

/* Makes room for `pages` copies present, as far as the capacity goes, so that no copy has to wait
 * for the host's memory. */
void stash_prepare(struct stash *s, size_t pages);

/*
 * Takes words of `from` from `*word` on until `limit` pages could be passed, and ORs them into
 * `taken` (may be NULL). False when the bitmap is at its end.
 */
bool stash_take(struct stash *s, struct bitmap *from, struct bitmap *taken, size_t *word,
                size_t limit);

int stash_rearm(const struct stash *s, const struct guest *guest, struct err *err);
void stash_copy(struct stash *s, const uint8_t *ram);
int stash_tell(const struct stash *s, const uint8_t *ram, const struct page_sink *sink,
               struct pages_told *told, struct err *err);
void stash_clear(struct stash *s);
