/*
 * Packed memory: zstd frames that stand by themselves, of a size that both sides know beforehand.
 *
 * The bytes to unpack are hostile. A frame must say the very size that is expected, have no
 * dictionary, no window beyond PACK_WINDOW_MAX and nothing behind it, so that unpacking allocates
 * nothing by what a frame says and writes nothing beyond the room.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"

#define PACK_LEVEL 1
#define PACK_LEVEL_MAX 19
#define PACK_WINDOW_MAX (2u << 20)

struct packer {
    void *context; /* owned */
};

struct unpacker {
    void *context; /* owned */
};

/* Level 0 means PACK_LEVEL. */
int packer_init(struct packer *p, int level, struct err *err);
void packer_fini(struct packer *p);

/* The room that `len` bytes may need. */
size_t packer_bound(size_t len);

/* One frame; its size or -errno. `len` is not 0. */
ssize_t packer_pack(struct packer *p, const void *from, size_t len, void *to, size_t room,
                    struct err *err);

int unpacker_init(struct unpacker *u, struct err *err);
void unpacker_fini(struct unpacker *u);

/* `from` is one frame that gives exactly `size` bytes; anything else is -EBADMSG. */
int unpacker_unpack(struct unpacker *u, const void *from, size_t len, void *to, size_t size,
                    struct err *err);

/* A stream of any length, packed piece by piece. What comes out goes to `out`, whose failure ends
 * the stream. */
typedef int pack_out(void *ctx, const uint8_t *data, size_t len, struct err *err);

struct pack_stream {
    void *context; /* owned */
    uint8_t *room; /* owned */
    size_t size;
};

int pack_stream_init(struct pack_stream *s, int level, struct err *err);
void pack_stream_fini(struct pack_stream *s);

/* `end` writes all that is still inside; then the stream is over. */
int pack_stream_push(struct pack_stream *s, const void *data, size_t len, bool end, pack_out *out,
                     void *ctx, struct err *err);

struct unpack_stream {
    void *context; /* owned */
    uint8_t *room; /* owned */
    size_t size;
    bool whole; /* what came so far ends with a frame */
};

/* Memory is bounded by PACK_WINDOW_MAX, whatever the frames say. */
int unpack_stream_init(struct unpack_stream *s, struct err *err);
void unpack_stream_fini(struct unpack_stream *s);
int unpack_stream_push(struct unpack_stream *s, const void *data, size_t len, pack_out *out,
                       void *ctx, struct err *err);
