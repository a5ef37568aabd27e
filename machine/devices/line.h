/*
 * A device's interrupt line: tells the controllers about changes only. Under the device's lock.
 */
#pragma once

#include <stdbool.h>

#include "machine/device.h"

struct line {
    struct irq_sink sink;
    unsigned gsi;
    bool level; /* as last told */
};

static inline void line_init(struct line *line, const struct irq_sink *sink, unsigned gsi)
{
    *line = (struct line){.sink = *sink, .gsi = gsi};
}

static inline void line_set(struct line *line, bool level)
{
    if (level == line->level)
        return;
    line->level = level;
    line->sink.set(line->sink.ctx, line->gsi, level);
}

/* Says it whatever was told before: after a load the controllers know the interrupts that were
 * pending, but not yet the level of the line. */
static inline void line_restate(struct line *line, bool level)
{
    line->level = level;
    line->sink.set(line->sink.ctx, line->gsi, level);
}
