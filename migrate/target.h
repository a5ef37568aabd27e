/*
 * The end of a migration that gets the guest. Blocking; one call is one migration.
 *
 *               START           ROUND_END, last      COMPLETE          HANDOFF
 *     GREETING ──────► ROUNDS ─────────────────► STATE ───────► READY ─────────► OVER
 *                      │ EXPECT PAGES ZERO       │ STATE CARGO
 *                      │ CARGO ROUND_END
 *
 * A frame in a state that does not know it, a peer that is silent, a CANCEL, a page that arrived
 * damaged: all of it ends the migration, and the guest never runs here. Only after `take_over`,
 * which writes down that the guest is ours, it runs, and nothing that happens to the connection
 * changes it.
 */
#pragma once

#include <stdbool.h>

#include "base/buf.h"
#include "migrate/stream.h"

/* What the engine asks of its owner. [job] */
struct target_ops {
    int (*cargo)(void *ctx, struct span piece, struct err *err);
    /* Everything but letting it run. */
    int (*load)(void *ctx, struct span state, struct err *err);
    /* Writes down that the guest is ours, which fails if that may not be, and lets it run. Tells
     * when the one was done and the other began, by the stream's clock. */
    int (*take_over)(void *ctx, uint64_t *taken_ns, struct err *err);
    /* The source knows: there is time for everything else. */
    void (*settle)(void *ctx);
    bool (*is_cancelled)(void *ctx); /* may be NULL */
    /* The data connections beside the first, of which there are now so many; `to` has room for
     * LANES_MAX. Asked once, when the source has begun. NULL: none. */
    unsigned (*lanes)(void *ctx, const struct stream **to);
};

struct target_options {
    uint64_t epoch;
    uint8_t *ram; /* borrowed; reads as zero */
    uint64_t ram_bytes;
    bool populate; /* ahead, on a thread */
    const struct target_ops *ops;
    void *ctx;
};

struct target_report {
    bool taken; /* the guest is ours, whatever else is returned */
    unsigned rounds;
    uint64_t pages, bytes_in, load_ns, commit_ns, resume_ns;
};

int target_run(const struct stream *stream, const struct target_options *options,
               struct target_report *report, struct err *err);
