/*
 * Copies a guest into a sink while it runs, and pauses it only for the rest: the one engine below
 * snapshots and migrations.
 *
 *     round 0      all of RAM but what was never touched; or, of a tracked guest, what changed
 *     round 1..    what was written meanwhile, as long as that gets less
 *     pause        vCPUs stop; state is saved; last collect; the last pages are copied aside
 *     resume       and only then the copy and the state go to the sink
 *
 * With `hold` the guest stays paused: the last pages go to the sink from where they lie, and the
 * caller decides who runs on (a migration), or nobody does (a snapshot that stops the guest).
 *
 * Failure modes: whatever fails, or a cancel, ends in -errno with the sink half fed; a guest that
 * was running runs, tracking that was switched on here is off, and the bits taken from a tracked
 * bitmap are back in it, so that the next capture from it is right.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/bitmap.h"
#include "base/err.h"
#include "vmstate/guest.h"
#include "vmstate/page_sink.h"

enum capture_mode {
    CAPTURE_LIVE,   /* the guest runs */
    CAPTURE_PAUSED, /* the caller has paused it; it is neither paused nor resumed here */
};

/* Why the guest was paused. */
enum capture_reason {
    CAPTURE_NOT_PAUSED, /* CAPTURE_PAUSED */
    CAPTURE_FITS,       /* what is left fits the budget */
    CAPTURE_STALLED,    /* it does not, and more rounds would not help */
    CAPTURE_ROUNDS,     /* max_rounds */
    CAPTURE_ASKED,      /* by `decide` */
};

enum capture_step { CAPTURE_GO_ON, CAPTURE_SWITCH };

/* Where a capture is. Between two rounds `left` is exact; within one it only falls. */
struct capture_progress {
    unsigned round;              /* from 0 */
    uint64_t left;               /* pages of this round not yet told; of the next at its end */
    uint64_t pages, zero_pages;  /* told so far */
    uint64_t bytes;              /* of pages told as data */
    uint64_t round_ns;           /* of the round that ended */
    uint64_t round_pages;        /* gone through in the round that ended */
    uint64_t dirty_pages_per_s;  /* in the round that ended */
    uint64_t predicted_pause_ns; /* if the guest were paused now */
    enum capture_reason reason;  /* why the engine itself would switch, if it would */
};

struct capture_options {
    enum capture_mode mode;
    bool hold; /* on success the guest is left paused (see above) */

    /*
     * A bitmap attached before and kept attached after: a diff chain. Its bits are what changed
     * since the parent, and the first round is these; with `whole` it is all of RAM and the chain
     * begins anew. The bits taken are in the result. NULL: tracking is switched on for the capture.
     */
    struct bitmap *tracked; /* borrowed */
    bool whole;
    bool on_parent; /* what ram_next passes over is as in the parent, not zero: it is not told */

    uint64_t pause_budget_ns; /* 0: CAPTURE_BUDGET_NS */
    uint64_t pause_fixed_ns;  /* stop + state as known from before; 0: CAPTURE_FIXED_NS */
    unsigned max_rounds;      /* 0: CAPTURE_ROUNDS_MAX */
    uint64_t chunk_bytes;     /* re-armed and read at a time; 0: CAPTURE_CHUNK_BYTES */
    uint64_t buffer_bytes;    /* for the last pages; 0: CAPTURE_BUFFER_BYTES; more is told paused */

    const atomic_bool *cancel; /* borrowed; may be NULL. Heeded until the sink has the state */

    void *ctx; /* of these two; each may be NULL */
    /* After each chunk, never in the pause. */
    void (*progress)(void *ctx, const struct capture_progress *now);
    /* Between rounds, instead of the engine's own judgement: capture_step, or -errno to give up. */
    int (*decide)(void *ctx, const struct capture_progress *now, struct err *err);
};

#define CAPTURE_BUDGET_NS 2000000ull
#define CAPTURE_FIXED_NS 1000000ull
#define CAPTURE_ROUNDS_MAX 30u
#define CAPTURE_CHUNK_BYTES (4ull << 20)
#define CAPTURE_BUFFER_BYTES (64ull << 20)

/* The pause in its parts, as the guest sees it; all 0 when it was not paused here. */
struct capture_pause {
    uint64_t total_ns; /* with `hold` until the sink has the state */
    uint64_t stop_ns, state_ns, collect_ns, copy_ns;
    uint64_t sink_ns; /* in the sink: only `hold`, and more pages than the buffer holds */
    uint64_t resume_ns;
};

struct capture_result {
    unsigned rounds; /* the last one, in the pause, included */
    enum capture_reason reason;
    uint64_t pages, zero_pages; /* told, over all rounds */
    uint64_t untouched_pages;   /* passed over or told as zero without a look */
    uint64_t bytes;             /* of pages told as data */
    uint64_t last_pages;        /* found dirty in the pause */
    uint64_t state_bytes, total_ns;
    struct capture_pause pause;
    struct bitmap taken; /* of `tracked`, for capture_give_back; owned; empty without */
};

/* `result` is filled also on failure, as far as it came; capture_result_fini in every case. [job]
 */
int capture_run(const struct guest *guest, const struct page_sink *sink,
                const struct capture_options *options, struct capture_result *result,
                struct err *err);

/* What was captured did not become a parent after all (it could not be published, say): its bits
 * go back into `tracked`. [job] */
void capture_give_back(const struct capture_result *result, struct bitmap *tracked);

void capture_result_fini(struct capture_result *result);
