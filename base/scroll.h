/*
 * A scrollback: the last `size` bytes of an endless stream, addressed by their offset in that
 * stream. Readers keep their own offset; one that fell too far behind is told how much it missed.
 * Not locked: the owner locks.
 *
 * It may live in a file that is mapped shared. Then it outlives its process, however that ends, and
 * costs no writing: SCROLL_HEAD_BYTES of head, then the ring.
 *
 *     0   u64 magic "FERRYSCR"
 *     8   u64 size of the ring
 *     16  u64 end: bytes ever appended; byte n of the stream lies at n % size
 */
#pragma once

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"

#define SCROLL_MAGIC 0x5243535952524546ull
#define SCROLL_HEAD_BYTES 4096u
#define SCROLL_SIZE_MAX (4u << 20)

struct scroll_head {
    uint64_t magic, size;
    _Atomic uint64_t end;
};

struct scroll {
    struct scroll_head *head; /* owned mapping; the ring lies SCROLL_HEAD_BYTES behind it */
    uint8_t *data;
    size_t size;
};

/* In memory. */
int scroll_init(struct scroll *s, size_t size, struct err *err);

/* In an open file (borrowed), which begins empty and whose room is reserved now: a full disk must
 * not meet a write into the mapping. */
int scroll_init_file(struct scroll *s, int fd, size_t size, struct err *err);
void scroll_fini(struct scroll *s);
void scroll_append(struct scroll *s, const void *data, size_t len);

/* Goes on at `offset`, as if that many bytes had been appended; what was there is zeros then. */
void scroll_restart(struct scroll *s, uint64_t offset);

/* Offsets of the oldest byte that is still there, and behind the newest. */
uint64_t scroll_begin(const struct scroll *s);
uint64_t scroll_end(const struct scroll *s);

/*
 * Copies up to `max` bytes from *offset on, which is moved forward to scroll_begin() first when it
 * lies before it (*missed says by how much) and back to the end when it lies behind. Returns the
 * count and leaves *offset behind the copied bytes.
 */
size_t scroll_read(const struct scroll *s, uint64_t *offset, void *to, size_t max,
                   uint64_t *missed);

/* A copy of a scrollback that another process wrote or still writes. It is read, not mapped: who
 * can write the file can also cut it short. -ENODATA for an empty file, -EBADMSG for one that is no
 * scrollback. */
int scroll_open_file(struct scroll *s, int fd, struct err *err);
