/*
 * A bitmap that threads set and harvest without a lock. Its words come from mmap, so that one for a
 * terabyte of pages costs only what is touched.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct bitmap {
    _Atomic uint64_t *words; /* owned */
    size_t bits, nwords;
};

int bitmap_init(struct bitmap *b, size_t bits, struct err *err);
void bitmap_fini(struct bitmap *b);

/* Sets one bit; bits outside are ignored. [any] */
void bitmap_set(struct bitmap *b, size_t bit);

/* Sets first..first+count-1, clipped to the bitmap. [any] */
void bitmap_set_range(struct bitmap *b, size_t first, size_t count);

/* Clears one bit; bits outside are ignored. [any] */
void bitmap_clear(struct bitmap *b, size_t bit);

bool bitmap_test(const struct bitmap *b, size_t bit);

/* Takes a word: returns it and leaves zero. [any] */
uint64_t bitmap_take_word(struct bitmap *b, size_t word);

/* ORs 64 bits in, the ones behind the end dropped. [any] */
void bitmap_or_word(struct bitmap *b, size_t word, uint64_t bits);

/* Takes all of `from` and ORs it into `to`; returns how many bits were taken. Same size. [any] */
size_t bitmap_move(struct bitmap *to, struct bitmap *from);

/* First set bit at or after `from`, or b->bits. */
size_t bitmap_next(const struct bitmap *b, size_t from);

size_t bitmap_count(const struct bitmap *b);
