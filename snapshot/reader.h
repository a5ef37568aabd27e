/*
 * A snapshot for those who read it: the chain of images from the full one up, the state, and for
 * each piece of RAM the image that has it.
 *
 * ferryd opens the directories (catalogue_open_chain) and a worker may read them: nothing here
 * opens anything but the files of a snapshot, through its directory.
 *
 * What is small is checked when it is opened: manifests, the links between them, state, maps and
 * indices, each by its checksums. Memory is checked chunk by chunk where it is read whole
 * (reader_read of a packed image, verify.h); who maps a raw image sees what is on disk.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "snapshot/catalogue.h"
#include "snapshot/manifest.h"
#include "snapshot/pages.h"
#include "vmstate/pack.h"

struct reader_layer {
    Ferry__SnapshotManifest *manifest; /* owned */
    int memory_fd;                     /* owned */
    bool packed, mapped;               /* mapped: `pages` says what is here; else all of it is */
    struct pages pages;
    uint8_t *index;                    /* owned, of a packed one */
    uint64_t *frame_at;                /* owned, of a packed one: where each chunk's frame begins */
    const Ferry__SnapshotFile *memory; /* borrowed from the manifest */
};

struct reader {
    struct reader_layer *layers; /* owned; 0 is the full one */
    unsigned count;
    uint64_t ram_bytes, npages;
    struct unpacker unpacker;
    uint8_t *frame, *chunk; /* owned; for unpacking */
    uint64_t cached_chunk;  /* what `chunk` holds, of which layer */
    int cached_layer;       /* -1 for nothing */
};

/* Where a piece of RAM is: in a layer's memory at file_offset, or nowhere because it is zero. In a
 * packed layer there is no offset: read it by reader_read. */
struct reader_extent {
    uint64_t offset, length; /* RAM */
    int layer;               /* READER_ZERO for zeros */
    uint64_t file_offset;
};
#define READER_ZERO (-1)

/* The directories, the full one's first; they stay the caller's. */
int reader_open_dirs(struct reader *r, const int *dirfds, unsigned count, struct err *err);
int reader_open(struct reader *r, const struct catalogue *c, const char *name, struct err *err);

/* One image without what is below it: what verify looks at. Pages of the parent read as zero. */
int reader_open_single(struct reader *r, int dirfd, struct err *err);
void reader_close(struct reader *r);

/* Of the snapshot itself: the top layer. */
const Ferry__SnapshotManifest *reader_manifest(const struct reader *r);

/* Appends the state, checked. `dirfd` is the snapshot's own directory. */
int reader_state(const struct reader *r, int dirfd, struct buf *out, struct err *err);

/*
 * The next piece at or behind RAM offset `from` (whole pages): false at the end of RAM. Pieces are
 * as long as they can be and have no gap between them.
 */
bool reader_next_extent(const struct reader *r, uint64_t from, struct reader_extent *extent);

/* The same within [from, end), both whole pages: what is behind `end` is not looked at. */
bool reader_extent_before(const struct reader *r, uint64_t from, uint64_t end,
                          struct reader_extent *extent);

/* Refuses an image that has become shorter than it was when it was opened: behind its end there are
 * no zeros, but what is lost. */
int reader_check_whole(const struct reader *r, struct err *err);

/* The first pages at or behind page `from` that may be other than zero, within [from, limit);
 * *begin == limit when there are none. Holes of a raw full image count as zero. */
void reader_next_data(const struct reader *r, size_t from, size_t limit, size_t *begin,
                      size_t *end);

/* All of them, freed by the caller; refuses more than `max`: then reader_read is the better way. */
int reader_extents(const struct reader *r, size_t max, struct reader_extent **extents,
                   size_t *count, struct err *err);

/* RAM as the guest had it: whole pages. */
int reader_read(struct reader *r, uint64_t offset, void *to, uint64_t bytes, struct err *err);

/* Gives back what only reading memory needs, until that is wanted again. */
void reader_rest(struct reader *r);

/* Unpacks (and checks) one chunk of a packed layer into `to`, which has room for a MiB: its data
 * pages one after the other; *bytes of them. */
int reader_unpack(struct reader *r, unsigned layer, uint64_t chunk, uint8_t *to, size_t *bytes,
                  struct err *err);

/* Reads a small file of a snapshot whole, checked; appends to `out`. On damage *bad_offset (may be
 * NULL) is where the first MiB with a wrong checksum begins. */
int reader_load_file(int dirfd, const Ferry__SnapshotManifest *m, const char *name, struct buf *out,
                     uint64_t *bad_offset, struct err *err);
