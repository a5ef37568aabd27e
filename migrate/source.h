/*
 * The end of a migration that has the guest: copies it to the peer while it runs, stops it, and
 * gives it away. Blocking; one call is one migration.
 *
 *     ROUNDS ──► SWITCHING ──► HANDED_OFF ──► MOVED
 *        │           │              │
 *        └───────────┴► FAILED      └► IN_DOUBT
 *
 * FAILED: the guest runs here as if nothing had been, tracking is off, the peer knows or finds out
 * by itself. Every failure and a cancel lead there until the peer's READY.
 * IN_DOUBT: HANDOFF was sent, or perhaps was, and the peer does not say that the guest runs there.
 * The guest stays paused here until somebody who knows decides (docs/migration-protocol.md).
 */
#pragma once

#include <stdbool.h>

#include "migrate/converge.h"
#include "migrate/packing.h"
#include "migrate/stream.h"
#include "vmstate/capture.h"

struct source_progress {
    unsigned round;
    uint64_t done_bytes, left_bytes; /* of RAM gone through; of this round */
    uint64_t bytes_per_s, dirty_bytes_per_s, expected_downtime_ns;
    unsigned throttle;
    const char *why; /* it goes on, or empty; static */
};

/*
 * What the engine asks of its owner; `ctx` is that of the options. The guest's own pause must be
 * one that nobody but its resume can undo. [job]
 */
struct source_ops {
    /*
     * Appends one more piece that goes along, at most WIRE_CARGO_MAX bytes, and returns 1; 0 when
     * there is none. Called until then before the first round, and with `last` in the pause.
     */
    int (*cargo)(void *ctx, bool last, struct buf *out, struct err *err);
    /* Writes down that the guest is given away. From its success on it is not resumed here. */
    int (*hand_off)(void *ctx, struct err *err);
    /* Holds the vCPUs for so many percent of their time. NULL: it cannot. */
    int (*throttle)(void *ctx, unsigned percent, struct err *err);
    void (*progress)(void *ctx, const struct source_progress *now); /* may be NULL */
    /* Looked at several times a second, until the guest is handed off; may be NULL. */
    bool (*is_cancelled)(void *ctx);
};

struct source_options {
    uint64_t epoch;
    uint64_t downtime_ns;
    uint64_t timeout_ns;  /* for all of it; 0: none */
    uint64_t bytes_per_s; /* at most; 0: no limit */
    enum converge_on_stall on_stall;
    enum packing_mode packing;
    const struct stream *const *lanes; /* data connections beside the first, LANES_MAX at most */
    unsigned nlanes;
    uint64_t fixed_ns; /* stop, state and load as known from before; 0: a guess */
    const struct source_ops *ops;
    void *ctx;
};

#define SOURCE_DOWNTIME_NS 50000000ull
#define SOURCE_FIXED_NS 3000000ull

enum source_end { SOURCE_FAILED, SOURCE_MOVED, SOURCE_IN_DOUBT };

/* How long the guest stood still, and where the time went. */
struct source_downtime {
    uint64_t total_ns;
    uint64_t stop_ns, last_pages_ns, state_ns, send_ns, load_ns, commit_ns, resume_ns;
};

struct source_report {
    enum source_end end;
    unsigned rounds, throttle;
    enum capture_reason reason;
    uint64_t pages, zero_pages, last_pages, packed_pages, state_bytes;
    uint64_t bytes_sent, total_ns, bytes_per_s;
    struct source_downtime downtime;
};

/* 0 when the guest is the peer's; else report->end tells which of the two failures it is. */
int source_run(const struct guest *guest, const struct stream *stream,
               const struct source_options *options, struct source_report *report, struct err *err);
