/*
 * The writer of one snapshot: memory, state and manifest into an empty directory that nobody else
 * sees yet. The catalogue makes that directory before and gives it its name afterwards.
 *
 *     image_begin ─► image_write_pages / _zero / _state, as often as needed ─► image_finish
 *                                                                          └─► image_abandon
 *
 * A page may be written again and again, the last time counts. The disk is put to work early, so
 * that the sync at the end finds little to do. vmstate/capture.h writes through image_sink.
 *
 * Checksums are taken as bytes pass. A chunk whose pages came out of order is read back at the end.
 *
 * The first failure (disk full, I/O) stays: everything after it fails with the same sentence, and
 * nothing is tried again. The directory is then to be removed. [job]
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "snapshot/fileio.h"
#include "snapshot/manifest.h"
#include "snapshot/pages.h"
#include "vmstate/page_sink.h"

struct image_chunk {
    uint32_t crc;  /* of the pages before `next` */
    uint16_t next; /* first page of the chunk that is not in crc */
    bool stale;    /* to be read back */
};

struct image_options {
    const struct fileio *io; /* borrowed */
    int dirfd;               /* borrowed, empty */
    uint64_t ram_bytes;
    Ferry__SnapshotMemory memory;
    int pack_level; /* of zstd, for a packed image; 0 means the usual one */
};

struct image_totals {
    uint64_t data_pages, zero_pages; /* in this image; the rest of a diff is in the parent */
    uint64_t memory_bytes;           /* of data pages, packed if they are */
    uint64_t reread_bytes;           /* what had to be read back for checksums */
};

/* A file that is written and not yet synced. */
struct image_file {
    int fd;           /* owned */
    const char *name; /* a constant */
};
#define IMAGE_FILES 5 /* state, memory, pages, index, manifest */

struct image_writer {
    struct image_options options;
    bool diff, packed;
    int raw_fd, state_fd; /* owned */
    struct pages pages;
    struct image_chunk *chunks; /* owned */
    uint64_t nchunks;
    uint64_t sync_from, sync_to; /* written in a row, not yet given to the disk */
    uint32_t *state_crc;         /* owned; one a MiB of state */
    uint64_t state_bytes;
    struct image_file written[IMAGE_FILES];
    unsigned nwritten;
    struct image_totals totals;
    struct err failed; /* the first failure; code 0 for none */
};

/* Makes the files. After a failure image_abandon is still to be called. */
int image_begin(struct image_writer *w, const struct image_options *options, struct err *err);

/* Whole pages; `data` may be memory of a running guest, if its page is written again later. */
int image_write_pages(struct image_writer *w, uint64_t offset, const void *data, uint64_t bytes,
                      struct err *err);

/* Whole pages that are zero: they take no room. */
int image_write_zero(struct image_writer *w, uint64_t offset, uint64_t bytes, struct err *err);

/* Appends to the state. */
int image_write_state(struct image_writer *w, const void *data, size_t bytes, struct err *err);

/* The writer as the sink of a capture. */
struct page_sink image_sink(struct image_writer *w);

/*
 * Checksums, packing, the manifest; then all of it is synced at once, so that a journal is waited
 * for once and not for each file: nothing of it counts before the catalogue names it. `m` has
 * everything but memory, files, versions, arch and page size, which are filled in for the time of
 * the call. Ends the writer also when it fails.
 */
int image_finish(struct image_writer *w, Ferry__SnapshotManifest *m, struct image_totals *totals,
                 struct err *err);

/* Closes and frees; the files are the caller's to remove. Harmless after image_finish. */
void image_abandon(struct image_writer *w);

/* Of image_finish: a file that is to be synced with the others; takes the descriptor over. */
void image_wrote(struct image_writer *w, int fd, const char *name);

/* Of image_finish: replaces the raw file by frames and an index, whose checksums (one a MiB, freed
 * by the caller) and length it gives. Fills in the checksums of chunks. */
int image_pack(struct image_writer *w, uint32_t **index_crc, uint64_t *memory_bytes,
               struct err *err);

/* The checksums of a small file's MiBs, for its entry; NULL without memory. */
uint32_t *image_crc_of(const uint8_t *data, size_t len);
