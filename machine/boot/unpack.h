/*
 * Unpacks the payload of a bzImage: a kernel compressed as one piece, the last 4 bytes of which are
 * its unpacked size (gzip ends so by itself, the kernel's build puts them behind the others).
 *
 * The output goes to a sink in pieces of bounded size. It can neither be more nor less than those 4
 * bytes declare, and they not more than the caller allows: a bomb ends there. Windows and
 * dictionaries of the packer are bounded too.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "machine/boot/input.h"

#define UNPACK_MAGIC_MAX 6u

struct unpack_sink {
    int (*take)(void *ctx, const uint8_t *data, size_t len, struct err *err);
    void *ctx; /* borrowed */
};

struct unpacker;

/* By the first UNPACK_MAGIC_MAX bytes; NULL when none knows them. */
const struct unpacker *unpack_find(const uint8_t magic[UNPACK_MAGIC_MAX]);
const char *unpack_name(const struct unpacker *unpacker);

/* The declared size; refuses one above `max`. */
int unpack_size(const struct input *in, uint64_t max, uint64_t *size, struct err *err);

/* Unpacks all of `in`, which must give `size` bytes. */
int unpack_run(const struct unpacker *unpacker, const struct input *in, uint64_t size,
               const struct unpack_sink *sink, struct err *err);
