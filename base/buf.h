/*
 * A byte buffer that grows up to a named bound, and a reader that cannot run past its end.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct buf {
    uint8_t *data; /* owned */
    size_t len, cap, max;
};

void buf_init(struct buf *b, size_t max);
void buf_fini(struct buf *b);

/* Room for `n` more bytes behind len, or NULL when that would pass max or memory is out. */
uint8_t *buf_reserve(struct buf *b, size_t n);

/* 0, or -1 as buf_reserve. */
int buf_append(struct buf *b, const void *data, size_t n);
int buf_append_le(struct buf *b, uint64_t value, unsigned bytes);

/* Drops n bytes from the front. */
void buf_consume(struct buf *b, size_t n);

struct span {
    const uint8_t *at; /* borrowed */
    size_t left;
};

/* Takes n bytes; NULL when fewer are left (and then takes nothing). */
const uint8_t *span_take(struct span *s, size_t n);

/* Takes a little-endian number of 1..8 bytes; false when too few are left. */
bool span_le(struct span *s, unsigned bytes, uint64_t *value);
