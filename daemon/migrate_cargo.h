/*
 * What goes along with a guest beside memory and state, as pieces that the engines of migrate/
 * carry without a look: the scrollback, counters, what was typed and not yet read.
 */
#pragma once

#include <stdbool.h>

#include "base/buf.h"
#include "daemon/worker.h"

struct cargo_sender {
    struct worker *worker; /* borrowed */
    uint64_t console_at;   /* told up to here */
    uint64_t console_until;
    bool told_counters;
};

void cargo_sender_init(struct cargo_sender *c, struct worker *w);

/* Appends the next piece and returns 1, or 0 when there is none: as source_ops.cargo. [job] */
int cargo_next(struct cargo_sender *c, bool last, struct buf *out, struct err *err);

/* What has come, until the guest runs. */
struct cargo {
    uint8_t input[CONSOLE_INPUT_BYTES];
    size_t input_bytes;
    uint32_t resets;
    uint64_t boot_wall_ns;
    bool complete, paused;
};

/* Takes a piece: the scrollback goes to its place at once. [job] */
int cargo_take(struct cargo *c, struct worker *w, struct span piece, struct err *err);
