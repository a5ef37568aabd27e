/* See fileio.h. */
#include "snapshot/fileio.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

static int system_open(void *ctx, int dirfd, const char *name, int flags, mode_t mode)
{
    int fd = openat(dirfd, name, flags, mode);
    return fd < 0 ? -errno : fd;
}

static int system_make_dir(void *ctx, int dirfd, const char *name, mode_t mode)
{
    return mkdirat(dirfd, name, mode) < 0 ? -errno : 0;
}

static ssize_t system_write(void *ctx, int fd, const void *data, size_t len, uint64_t offset)
{
    ssize_t n = pwrite(fd, data, len, (off_t)offset);
    return n < 0 ? -errno : n;
}

static int system_truncate(void *ctx, int fd, uint64_t size)
{
    return ftruncate(fd, (off_t)size) < 0 ? -errno : 0;
}

static int system_punch(void *ctx, int fd, uint64_t offset, uint64_t len)
{
    const int mode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
    return fallocate(fd, mode, (off_t)offset, (off_t)len) < 0 ? -errno : 0;
}

static int system_sync(void *ctx, int fd)
{
    return fsync(fd) < 0 ? -errno : 0;
}

static int system_rename(void *ctx, int dirfd, const char *from, const char *to)
{
    if (renameat2(dirfd, from, dirfd, to, RENAME_NOREPLACE) == 0)
        return 0;
    if (errno != EINVAL)
        return -errno;
    /* A filesystem without the flag: a directory still never replaces one that has files. */
    return renameat(dirfd, from, dirfd, to) < 0 ? -errno : 0;
}

static int system_remove(void *ctx, int dirfd, const char *name)
{
    return unlinkat(dirfd, name, 0) < 0 ? -errno : 0;
}

const struct fileio fileio_system = {
    .open = system_open,
    .make_dir = system_make_dir,
    .write = system_write,
    .truncate = system_truncate,
    .punch = system_punch,
    .sync = system_sync,
    .rename = system_rename,
    .remove = system_remove,
};

int fileio_create(const struct fileio *io, int dirfd, const char *name, struct err *err)
{
    const int flags = O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW;
    int fd = io->open(io->ctx, dirfd, name, flags, 0600);
    return fd < 0 ? err_sys(err, -fd, "cannot make '%s'", name) : fd;
}

int fileio_write(const struct fileio *io, int fd, const char *name, const void *data, size_t len,
                 uint64_t offset, struct err *err)
{
    const char *from = data;
    while (len) {
        ssize_t n = io->write(io->ctx, fd, from, len, offset);
        if (n == -EINTR)
            continue;
        if (n <= 0)
            return err_sys(err, n ? (int)-n : EIO, "cannot write '%s'", name);
        from += n;
        offset += (uint64_t)n;
        len -= (size_t)n;
    }
    return 0;
}

int fileio_zero(const struct fileio *io, int fd, const char *name, uint64_t offset, uint64_t len,
                struct err *err)
{
    static const char zeros[65536];
    int rc = io->punch(io->ctx, fd, offset, len);
    if (rc == 0)
        return 0;
    if (rc != -EOPNOTSUPP)
        return err_sys(err, -rc, "cannot write '%s'", name);
    for (rc = 0; rc == 0 && len;) {
        size_t n = len < sizeof(zeros) ? (size_t)len : sizeof(zeros);
        rc = fileio_write(io, fd, name, zeros, n, offset, err);
        offset += n;
        len -= n;
    }
    return rc;
}

int fileio_sync(const struct fileio *io, int fd, const char *name, struct err *err)
{
    int rc = io->sync(io->ctx, fd);
    return rc < 0 ? err_sys(err, -rc, "cannot sync '%s'", name) : 0;
}

int fileio_read(int fd, const char *name, void *to, size_t len, uint64_t offset, struct err *err)
{
    char *at = to;
    while (len) {
        ssize_t n = pread(fd, at, len, (off_t)offset);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_sys(err, errno, "cannot read '%s' at offset %llu", name,
                           (unsigned long long)offset);
        if (n == 0)
            return err_set(err, EBADMSG, "'%s' ends at offset %llu", name,
                           (unsigned long long)offset);
        at += n;
        offset += (uint64_t)n;
        len -= (size_t)n;
    }
    return 0;
}
