/*
 * All that a saver may ask of a guest. The real one is KVM's, by an adapter in daemon/; the one of
 * the sim tier has virtual time and no KVM at all. A saver is a job thread: every call here is made
 * from that one thread and may block it.
 *
 * Dirty tracking is for several consumers at once; each has a bitmap of its own. The order in which
 * a consumer works is what makes it lose nothing (machine/dirty.h says why):
 *
 *     dirty_attach           the bitmap begins full: every page is still to be read
 *     dirty_collect          ORs into all bitmaps what changed and has not been re-armed since
 *     take bits, dirty_rearm of their pages, and only then read the pages
 *     dirty_detach
 *
 * The guest must stay the same machine for as long as somebody saves it: no reset in between.
 */
#pragma once

#include <stdint.h>

#include "base/bitmap.h"
#include "base/buf.h"
#include "base/err.h"
#include "base/now.h"

#define GUEST_PAGE 4096u
#define GUEST_STATE_BYTES_MAX (32u << 20) /* what save_state may append */

struct guest_ops {
    /* Returns when every vCPU has answered and the devices are quiet. On failure the guest runs. */
    int (*pause)(void *ctx, struct err *err);
    int (*resume)(void *ctx, struct err *err);

    /* Device and CPU state of the paused guest. It may write to guest memory; it may not resume. */
    int (*save_state)(void *ctx, struct buf *out, struct err *err);

    /* `*pages` is the guest's own until it is detached. */
    int (*dirty_attach)(void *ctx, struct bitmap **pages, struct err *err);
    int (*dirty_collect)(void *ctx, struct err *err);
    int (*dirty_rearm)(void *ctx, size_t first, size_t count, struct err *err);
    void (*dirty_detach)(void *ctx, struct bitmap *pages);

    /*
     * The next pages [*begin, *end) at or after `from` and below `limit` that may be other than
     * zero; *begin == limit when there are none. Those passed over were never written at the moment
     * of the call. NULL: found from ram_fd.
     */
    int (*ram_next)(void *ctx, size_t from, size_t limit, size_t *begin, size_t *end,
                    struct err *err);

    /* NULL: the monotonic clock. */
    uint64_t (*now_ns)(void *ctx);
};

struct guest {
    const struct guest_ops *ops; /* borrowed */
    void *ctx;                   /* borrowed */
    const uint8_t *ram;          /* borrowed: all RAM by RAM offset; changes while the guest runs */
    uint64_t ram_bytes;          /* whole pages */
    /*
     * Borrowed: the memfd that `ram` maps *shared*, whose holes are memory never touched; its file
     * position is moved. -1 when there is none, and for a private mapping, whose file knows nothing
     * of what was written: all of RAM is read then unless ram_next knows better, as
     * pages_next_private does.
     */
    int ram_fd;
};

static inline size_t guest_pages(const struct guest *g)
{
    return (size_t)(g->ram_bytes / GUEST_PAGE);
}

static inline uint64_t guest_now_ns(const struct guest *g)
{
    return g->ops->now_ns ? g->ops->now_ns(g->ctx) : now_ns();
}
