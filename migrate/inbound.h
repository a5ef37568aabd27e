/*
 * The pages of a guest on their way in: read from the stream straight into its memory.
 *
 * A page that does not fit its checksum is a suspect until it comes again and fits: its content was
 * changed by the guest while it was sent, or on the way. As long as there is a suspect the guest
 * must not run here.
 */
#pragma once

#include <pthread.h>

#include "base/bitmap.h"
#include "migrate/channel.h"
#include "vmstate/pack.h"

/* Of a whole guest, whatever connection its pages come by. */
struct suspects {
    pthread_mutex_t lock; /* for the rest */
    struct bitmap pages;
    uint64_t count, arrived; /* pages */
};

struct inbound {
    struct channel *channel; /* borrowed, as the next two */
    struct suspects *suspects;
    uint8_t *ram;
    uint64_t ram_bytes;
    struct unpacker unpacker;   /* these three from the first packed frame on */
    uint8_t *packed, *unpacked; /* owned: a frame each */
    struct wire_run runs[WIRE_RUNS_MAX];
    struct wire_range ranges[WIRE_RANGES_MAX];
    uint32_t crcs[WIRE_PAGES_MAX];
};

int suspects_init(struct suspects *s, uint64_t ram_bytes, struct err *err);
void suspects_fini(struct suspects *s);

/* -EBADMSG while there is one. */
int suspects_check(struct suspects *s, struct err *err);

void inbound_init(struct inbound *in, struct channel *channel, struct suspects *suspects,
                  uint8_t *ram, uint64_t ram_bytes);
void inbound_fini(struct inbound *in);

/* Frames PAGES, PACKED and ZERO whose meta part has been received. */
int inbound_pages(struct inbound *in, const struct wire_head *h, struct err *err);
int inbound_packed(struct inbound *in, const struct wire_head *h, struct err *err);
int inbound_zero(struct inbound *in, const struct wire_head *h, struct err *err);
