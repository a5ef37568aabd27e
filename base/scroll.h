/*
 * A scrollback: the last `size` bytes of an endless stream, addressed by their offset in that
 * stream. Readers keep their own offset; one that fell too far behind is told how much it missed.
 * Not locked: the owner locks.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct scroll {
    uint8_t *data; /* owned */
    size_t size;
    uint64_t end; /* bytes ever appended */
};

int scroll_init(struct scroll *s, size_t size, struct err *err);
void scroll_fini(struct scroll *s);
void scroll_append(struct scroll *s, const void *data, size_t len);

/* Offset of the oldest byte that is still there. */
uint64_t scroll_begin(const struct scroll *s);

/*
 * Copies up to `max` bytes from *offset on, which is moved forward to scroll_begin() first when it
 * lies before it (*missed says by how much) and back to the end when it lies behind. Returns the
 * count and leaves *offset behind the copied bytes.
 */
size_t scroll_read(const struct scroll *s, uint64_t *offset, void *to, size_t max,
                   uint64_t *missed);
