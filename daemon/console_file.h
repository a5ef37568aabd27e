/*
 * ROOT/vms/NAME/console: what the guest said last, kept for the time after its worker. The worker
 * writes it once, when it ends; ferryd reads it from then on.
 *
 *     0   u64 offset of the first byte below in all that the guest ever said
 *     8   the bytes, at most CONSOLE_FILE_MAX
 *
 * A worker that was killed outright has written nothing: then the file is empty.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"

#define CONSOLE_FILE_HEAD 8u
#define CONSOLE_FILE_MAX (16u << 20)

/* Replaces the content. */
int console_file_write(int fd, uint64_t begin, const void *data, size_t len, struct err *err);

/* begin..end is what is kept; 0..0 for an empty file. */
int console_file_range(int fd, uint64_t *begin, uint64_t *end, struct err *err);

/* Up to `max` bytes from *offset, moved to the oldest byte kept when it lies before it; returns the
 * count, 0 at the end, or -errno. The offset is left at the first byte read. */
ssize_t console_file_read(int fd, uint64_t *offset, void *to, size_t max, struct err *err);
