/*
 * A sink that is an image in memory. It lets the guest write before it copies and in the middle of
 * it, refuses what breaks the rules of page_sink.h, and fails where the guest's script says so.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/bitmap.h"
#include "tests/sim/fake_guest.h"
#include "vmstate/page_sink.h"

struct fake_sink {
    struct page_sink sink;
    struct fake_guest *g; /* borrowed */
    uint8_t *image;       /* owned, as long as RAM */
    struct bitmap told;   /* in this round */
    unsigned rounds, states;
    bool last;               /* the last round was ended */
    uint64_t pages, zeroes;  /* told */
    uint64_t told_paused;    /* pages told while the guest stood still */
    uint32_t state;          /* as read from the state */
    const char *broken_rule; /* of page_sink.h, or NULL */
};

void fake_sink_init(struct fake_sink *s, struct fake_guest *g);
void fake_sink_fini(struct fake_sink *s);

/* For the next capture: the image stays, the counts begin anew. */
void fake_sink_reset(struct fake_sink *s);

/* The same, with an image that is `parent`. */
void fake_sink_set_image(struct fake_sink *s, const uint8_t *parent);
