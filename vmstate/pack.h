/*
 * Packed memory: zstd frames that stand by themselves, of a size that both sides know beforehand.
 *
 * The bytes to unpack are hostile. A frame must say the very size that is expected, have no
 * dictionary, no window beyond PACK_WINDOW_MAX and nothing behind it, so that unpacking allocates
 * nothing by what a frame says and writes nothing beyond the room.
 */
#pragma once

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
