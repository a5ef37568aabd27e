/*
 * The pages of a guest on their way in: read from the stream straight into its memory.
 *
 * A page that does not fit its checksum is a suspect until it comes again and fits: its content was
 * changed by the guest while it was sent, or on the way. As long as there is a suspect the guest
 * must not run here.
 */
#pragma once

#include "base/bitmap.h"
#include "migrate/channel.h"
#include "vmstate/pack.h"

struct inbound {
    struct channel *channel; /* borrowed */
    uint8_t *ram;            /* borrowed */
    uint64_t ram_bytes;
    struct bitmap suspects;
    uint64_t nsuspects, pages;
    struct unpacker unpacker;   /* these three from the first packed frame on */
    uint8_t *packed, *unpacked; /* owned: a frame each */
    struct wire_run runs[WIRE_RUNS_MAX];
    struct wire_range ranges[WIRE_RANGES_MAX];
    uint32_t crcs[WIRE_PAGES_MAX];
};

int inbound_init(struct inbound *in, struct channel *channel, uint8_t *ram, uint64_t ram_bytes,
                 struct err *err);
void inbound_fini(struct inbound *in);

/* Frames PAGES, PACKED and ZERO whose meta part has been received. */
int inbound_pages(struct inbound *in, const struct wire_head *h, struct err *err);
int inbound_packed(struct inbound *in, const struct wire_head *h, struct err *err);
int inbound_zero(struct inbound *in, const struct wire_head *h, struct err *err);

/* -EBADMSG while there is a suspect. */
int inbound_check(const struct inbound *in, struct err *err);
