/*
 * How the RAM of a chain of images gets under a machine that is to run at once: what of it is
 * mapped from a file, and which chunks are filled while it runs.
 *
 * Raw images are mapped: nothing is read before it is touched, and all who map share the page
 * cache. A chunk is filled instead when a packed image has some of it, or when it lies in so many
 * pieces (a diff of scattered pages) that mapping them takes longer than copying the chunk. What is
 * left is still bounded, because the kernel bounds how many mappings a process has
 * (vm.max_map_count): the most scattered chunks are filled first, and at the worst all are.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/bitmap.h"
#include "base/err.h"
#include "snapshot/reader.h"

/* Each may split another mapping in two; the kernel's usual limit is 65530 for all of a process. */
#define MAPPING_PIECES_MAX 30000u

/* A chunk in more pieces is rather copied: that many calls of mmap take as long. */
#define MAPPING_CHUNK_PIECES_MAX 64u

/* Mapped in the order of the list: a later piece lies over the earlier ones. */
struct mapping_piece {
    uint64_t offset, bytes; /* RAM; in a raw image the same offset of its memory */
    int layer;              /* READER_ZERO: zeros, over an image that has something else there */
};

struct mapping {
    struct mapping_piece *pieces; /* owned */
    size_t count, capacity;
    struct bitmap fill; /* chunks (SNAPSHOT_CHUNK_BYTES of RAM) to be filled */
};

/* Whatever is in no piece and in no chunk to fill is zero. */
int mapping_plan(struct mapping *m, const struct reader *r, struct err *err);
void mapping_fini(struct mapping *m);

/* Once all of them are mapped. */
void mapping_drop_pieces(struct mapping *m);
