/*
 * What a worker knows of the snapshots behind its guest: where its memory comes from, and since
 * which snapshot its changes are tracked, so that the next one can hold these alone.
 *
 *           a snapshot with `track` is kept             untrack, a last one, a reset
 *      OFF ────────────────────────────────► TRACKED ──────────────────────────────► OFF
 *                                             │   ▲
 *                                             └───┘ a diff is kept: it is the next one's parent
 *
 * Tracking is one more consumer of the dirty log (machine/dirty.h), attached from the capture of
 * the one snapshot to that of the next; the guest pays with a fault for the first write to each
 * page in between.
 *
 * A restored guest has a parent without any tracking, until it is reset: the snapshot that its
 * memory maps privately. What it wrote has left the mapping, and the kernel's page map tells.
 *
 * A capture of the chain enters and leaves; one at a time. What it took from the bitmap is back
 * when it leaves without the snapshot having been kept, so the next one is right in any case.
 */
#pragma once

#include <pthread.h>
#include <stdbool.h>

#include "base/err.h"
#include "daemon/snapshot_ref.h"
#include "machine/dirty.h"
#include "snapshot/manifest.h"
#include "vmstate/capture.h"

struct chain {
    pthread_mutex_t lock; /* for all below */
    bool busy;            /* a capture has entered */
    bool on;              /* the consumer is attached, and its bitmap is what changed since `tip` */
    struct dirty_consumer consumer;
    struct snapshot_ref tip;    /* while on */
    struct snapshot_ref origin; /* what RAM maps privately; none for a guest that booted */
    struct snapshot_ref lineage[SNAPSHOT_LINEAGE_MAX]; /* oldest first */
    unsigned count;
    char off_because[128]; /* the tracking that there was; empty when there was none */
};

/* How a snapshot is taken. */
enum chain_way {
    CHAIN_ALONE,  /* complete; the chain is not concerned */
    CHAIN_BEGIN,  /* complete, and tracked from here on */
    CHAIN_DIFF,   /* what changed since the parent, by tracking */
    CHAIN_ORIGIN, /* what changed since the parent, by the page map */
};

struct chain_capture {
    /* Given. */
    struct snapshot_ref self, parent; /* the parent may be none */
    bool track;                       /* go on tracking when it is kept */
    bool or_full;                     /* without a way to the parent take a complete one */
    bool is_clone;                    /* RAM still maps the origin */

    /* Chosen. */
    enum chain_way way;
    struct bitmap *tracked; /* the chain's, while entered; NULL for CHAIN_ALONE */
    struct err note;        /* why there is no way to the parent; code 0 when there is, or none */
};

void chain_init(struct chain *c);
void chain_fini(struct chain *c);

/* What a restored guest comes from; the last is its origin. */
void chain_set_lineage(struct chain *c, Ferry__SnapshotRef *const *refs, size_t count);

/* Chooses the way. Without one to the parent -ENODATA with the reason, unless it is to be a
 * complete one then: `parent` is none from there on, and `note` the reason. [job] */
int chain_enter(struct chain *c, struct dirty *dirty, struct chain_capture *capture,
                struct err *err);

/* With `kept` the snapshot is there for good. `result` is the capture's, after it succeeded, or
 * NULL. [job] */
void chain_leave(struct chain *c, struct dirty *dirty, const struct chain_capture *capture,
                 const struct capture_result *result, bool kept);

/* Ends the tracking; -EBUSY during a capture of the chain, -EALREADY when there is none. [loop] */
int chain_untrack(struct chain *c, struct dirty *dirty, struct err *err);

/* The memory is another one from here on, because it was `why`. Nobody has entered. [loop] */
void chain_cut(struct chain *c, struct dirty *dirty, const char *why);

/* Copies for those who tell. [any] */
struct chain_view {
    struct snapshot_ref origin, tip;
};
struct chain_view chain_view(struct chain *c);

/* Lineage of a snapshot on top of `parent` (or none): at most SNAPSHOT_LINEAGE_MAX. [job] */
unsigned chain_lineage(struct chain *c, const struct snapshot_ref *parent,
                       struct snapshot_ref *refs);
