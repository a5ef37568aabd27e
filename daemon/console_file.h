/*
 * The console file of a VM: its worker's scrollback (base/scroll.h), mapped by the worker, so that
 * what the guest said last can be read however the worker ended.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"

/* begin..end is what is kept; 0..0 for an empty file. */
int console_file_range(int fd, uint64_t *begin, uint64_t *end, struct err *err);

/* Up to `max` bytes from *offset, moved to the oldest byte kept when it lies before it; returns the
 * count, 0 at the end, or -errno. The offset is left at the first byte read. */
ssize_t console_file_read(int fd, uint64_t *offset, void *to, size_t max, struct err *err);
