/*
 * The pages of a guest on their way out: a page_sink that gathers them into frames and writes these
 * straight from guest memory; or has them packed first, where that is faster (packing.h, crew.h).
 *
 * A page may be written by the guest between the look for its checksum and the sending. The target
 * then holds a page that does not fit its checksum, and waits for it to come again: the dirty log
 * has it. In the last round, with the guest paused, nothing like that can be.
 */
#pragma once

#include "migrate/channel.h"
#include "migrate/crew.h"
#include "migrate/packing.h"
#include "vmstate/guest.h"

struct outbound {
    struct channel *channel; /* borrowed */
    const uint8_t *ram;      /* borrowed */
    uint64_t bytes_per_s;    /* at most; 0: no limit */
    uint64_t limit_from_ns, limit_bytes;

    struct wire_run runs[WIRE_RUNS_MAX];
    struct iovec data[WIRE_RUNS_MAX];
    uint32_t crcs[WIRE_PAGES_MAX];
    unsigned nruns, npages;
    struct wire_range zeroes[WIRE_RANGES_MAX];
    unsigned nzeroes;
    uint8_t meta[WIRE_META_MAX];

    struct packing packing;
    struct crew *crew; /* owned; NULL until something is packed */

    uint64_t pages, frames, packed_pages;
    uint64_t saved_bytes; /* by packing */
};

void outbound_init(struct outbound *o, struct channel *channel, const struct guest *guest,
                   uint64_t bytes_per_s, enum packing_mode mode);
void outbound_fini(struct outbound *o);

int outbound_pages(struct outbound *o, uint64_t offset, const uint8_t *data, size_t bytes,
                   struct err *err);
int outbound_zero(struct outbound *o, uint64_t offset, uint64_t bytes, struct err *err);

/* Sends what was gathered. */
int outbound_flush(struct outbound *o, struct err *err);

/* Ranges of RAM that hold something, so that the target can make room ahead. */
int outbound_expect(struct outbound *o, const struct guest *guest, struct err *err);
