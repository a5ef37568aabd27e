/* Files as whole values: read under a bound, written atomically, trees made and removed. */
#pragma once

#include <stddef.h>
#include <sys/types.h>

#include "base/buf.h"
#include "base/err.h"

/* Makes `path` and its missing parents. */
int fs_make_dirs(const char *path, mode_t mode, struct err *err);

/* Replaces NAME in the directory: temporary file, fsync, rename, fsync of the directory. */
int fs_write_atomic(int dirfd, const char *name, const void *data, size_t len, mode_t mode,
                    struct err *err);

/* The same without any fsync: whole or not at all for a process that is killed, but not for a host
 * that goes down, after which the file may be empty. */
int fs_replace(int dirfd, const char *name, const void *data, size_t len, mode_t mode,
               struct err *err);

/* Appends the file's bytes to `out`; refuses more than out->max and anything but a plain file. */
int fs_read_file(int dirfd, const char *name, struct buf *out, struct err *err);

/* The last `max` bytes of an open file; returns the count or -errno. */
ssize_t fs_read_tail(int fd, char *to, size_t max);

/* Removes NAME and all below it, following no link; a missing one is fine. */
int fs_remove_tree(int dirfd, const char *name, struct err *err);
