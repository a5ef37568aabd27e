/* See fs.h. */
#include "base/fs.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"

int fs_make_dirs(const char *path, mode_t mode, struct err *err)
{
    char part[4096];
    size_t len = strlen(path);
    if (len == 0 || len >= sizeof(part))
        return err_set(err, ENAMETOOLONG, "directory name is empty or too long");
    memcpy(part, path, len + 1);
    for (size_t i = 1; i <= len; i++) {
        if (part[i] != '/' && part[i] != '\0')
            continue;
        part[i] = '\0';
        if (mkdir(part, mode) < 0 && errno != EEXIST)
            return err_sys(err, errno, "cannot make directory '%s'", part);
        if (i < len)
            part[i] = '/';
    }
    struct stat st;
    if (stat(path, &st) < 0 || !S_ISDIR(st.st_mode))
        return err_set(err, ENOTDIR, "'%s' is not a directory", path);
    return 0;
}

static int write_all(int fd, const void *data, size_t len)
{
    const char *p = data;
    while (len) {
        ssize_t n = write(fd, p, len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        p += n;
        len -= (size_t)n;
    }
    return 0;
}

/* Data, then fsync when asked for; a failed fsync is final. */
static int write_temp(int dirfd, const char *temp, const void *data, size_t len, mode_t mode,
                      bool sync)
{
    CLEAN(clean_fd)
    int fd = openat(dirfd, temp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, mode);
    if (fd < 0)
        return -errno;
    int rc = write_all(fd, data, len);
    if (rc == 0 && sync && fsync(fd) < 0)
        rc = -errno;
    return rc;
}

static int replace(int dirfd, const char *name, const void *data, size_t len, mode_t mode,
                   bool sync, struct err *err)
{
    char temp[300];
    snprintf(temp, sizeof(temp), ".%s.new", name);
    int rc = write_temp(dirfd, temp, data, len, mode, sync);
    if (rc == 0 && renameat(dirfd, temp, dirfd, name) < 0)
        rc = -errno;
    if (rc == 0)
        return 0;
    unlinkat(dirfd, temp, 0);
    return err_sys(err, -rc, "cannot write '%s'", name);
}

int fs_replace(int dirfd, const char *name, const void *data, size_t len, mode_t mode,
               struct err *err)
{
    return replace(dirfd, name, data, len, mode, false, err);
}

int fs_write_atomic(int dirfd, const char *name, const void *data, size_t len, mode_t mode,
                    struct err *err)
{
    int rc = replace(dirfd, name, data, len, mode, true, err);
    if (rc == 0 && fsync(dirfd) < 0)
        return err_sys(err, errno, "cannot sync the directory of '%s'", name);
    return rc;
}

int fs_read_file(int dirfd, const char *name, struct buf *out, struct err *err)
{
    CLEAN(clean_fd) int fd = openat(dirfd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) < 0)
        return err_sys(err, errno, "cannot open '%s'", name);
    if (!S_ISREG(st.st_mode))
        return err_set(err, EINVAL, "'%s' is not a plain file", name);
    for (;;) {
        size_t room = out->max - out->len < 65536 ? out->max - out->len : 65536;
        uint8_t *to = room ? buf_reserve(out, room) : NULL;
        char over;
        ssize_t n = to ? read(fd, to, room) : read(fd, &over, 1);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_sys(err, errno, "cannot read '%s'", name);
        if (n == 0)
            return 0;
        if (!to)
            return err_set(err, EFBIG, "'%s' is larger than %zu bytes", name, out->max);
        out->len += (size_t)n;
    }
}

ssize_t fs_read_tail(int fd, char *to, size_t max)
{
    struct stat st;
    if (fstat(fd, &st) < 0)
        return -errno;
    off_t from = (size_t)st.st_size > max ? st.st_size - (off_t)max : 0;
    ssize_t n = pread(fd, to, max, from);
    return n < 0 ? -errno : n;
}

static int remove_entries(int fd, struct err *err)
{
    DIR *dir = fdopendir(fd);
    if (!dir) {
        close(fd);
        return err_sys(err, errno, "cannot list a directory");
    }
    int rc = 0;
    for (struct dirent *e; rc == 0 && (e = readdir(dir));)
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
            rc = fs_remove_tree(dirfd(dir), e->d_name, err);
    closedir(dir);
    return rc;
}

int fs_remove_tree(int dirfd, const char *name, struct err *err)
{
    if (unlinkat(dirfd, name, 0) == 0 || errno == ENOENT)
        return 0;
    if (errno != EISDIR && errno != EPERM)
        return err_sys(err, errno, "cannot remove '%s'", name);
    int fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return err_sys(err, errno, "cannot remove '%s'", name);
    int rc = remove_entries(fd, err);
    if (rc == 0 && unlinkat(dirfd, name, AT_REMOVEDIR) < 0)
        rc = err_sys(err, errno, "cannot remove directory '%s'", name);
    return rc;
}
