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
#include "migrate/lanes_out.h"
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
    struct crew *crew;       /* owned; NULL until something is packed */
    struct lanes_out *lanes; /* owned; NULL when there is one connection */
    bool lent;               /* what is gathered is not in guest memory */

    uint64_t pages, frames, packed_pages;
    uint64_t saved_bytes; /* by packing */
    uint64_t lane_bytes;  /* that went by lanes */
};

void outbound_init(struct outbound *o, struct channel *channel, const struct guest *guest,
                   uint64_t bytes_per_s, enum packing_mode mode);
void outbound_fini(struct outbound *o);

int outbound_pages(struct outbound *o, uint64_t offset, const uint8_t *data, size_t bytes,
                   struct err *err);
int outbound_zero(struct outbound *o, uint64_t offset, uint64_t bytes, struct err *err);

/* The data connections beside the first; before anything is sent. */
int outbound_open_lanes(struct outbound *o, const struct stream *const *streams, unsigned count,
                        struct err *err);

/* Sends what was gathered, and the end of the round. */
int outbound_end_round(struct outbound *o, uint64_t number, bool last, struct err *err);

/* On all connections; and as if nothing of it had been packed. */
uint64_t outbound_bytes(const struct outbound *o);
uint64_t outbound_moved(const struct outbound *o);

/* Ranges of RAM that hold something, so that the target can make room ahead. */
int outbound_expect(struct outbound *o, const struct guest *guest, struct err *err);
