/*
 * The calls that change a disk, as a table: all writing of snapshots goes through one, so that
 * tests can let the N-th of them fail, stop half way or be the last of a process.
 *
 * Each returns 0 (or a descriptor, or a count) or -errno.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"

struct fileio {
    void *ctx;
    int (*open)(void *ctx, int dirfd, const char *name, int flags, mode_t mode);
    int (*make_dir)(void *ctx, int dirfd, const char *name, mode_t mode);
    ssize_t (*write)(void *ctx, int fd, const void *data, size_t len, uint64_t offset);
    int (*truncate)(void *ctx, int fd, uint64_t size);
    int (*punch)(void *ctx, int fd, uint64_t offset, uint64_t len);
    int (*sync)(void *ctx, int fd);
    /* Never over something that is there. */
    int (*rename)(void *ctx, int dirfd, const char *from, const char *to);
    int (*remove)(void *ctx, int dirfd, const char *name);
};

extern const struct fileio fileio_system;

/* A new file for reading and writing; -EEXIST when the name is taken. */
int fileio_create(const struct fileio *io, int dirfd, const char *name, struct err *err);

/* All of it; `name` is for the error. */
int fileio_write(const struct fileio *io, int fd, const char *name, const void *data, size_t len,
                 uint64_t offset, struct err *err);

/* Makes [offset, offset+len) read as zero and gives its room back where the filesystem can. */
int fileio_zero(const struct fileio *io, int fd, const char *name, uint64_t offset, uint64_t len,
                struct err *err);

/* A failed sync is final: what the kernel could not write it may have forgotten. */
int fileio_sync(const struct fileio *io, int fd, const char *name, struct err *err);

/* Reads exactly `len` bytes; a file that ends before is damaged (-EBADMSG). */
int fileio_read(int fd, const char *name, void *to, size_t len, uint64_t offset, struct err *err);
