/* See console_file.h. */
#include "daemon/console_file.h"

#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/le.h"

static int put(int fd, const uint8_t *data, size_t len, off_t at, struct err *err)
{
    while (len) {
        ssize_t n = pwrite(fd, data, len, at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return err_sys(err, n < 0 ? errno : EIO, "cannot write the console file");
        data += n;
        at += n;
        len -= (size_t)n;
    }
    return 0;
}

int console_file_write(int fd, uint64_t begin, const void *data, size_t len, struct err *err)
{
    uint8_t head[CONSOLE_FILE_HEAD];
    if (len > CONSOLE_FILE_MAX)
        return err_set(err, EFBIG, "a console of %zu bytes is too large to keep", len);
    le_put(head, begin, sizeof(head));
    if (ftruncate(fd, 0) < 0)
        return err_sys(err, errno, "cannot empty the console file");
    int rc = put(fd, data, len, CONSOLE_FILE_HEAD, err);
    return rc < 0 ? rc : put(fd, head, sizeof(head), 0, err);
}

int console_file_range(int fd, uint64_t *begin, uint64_t *end, struct err *err)
{
    uint8_t head[CONSOLE_FILE_HEAD];
    struct stat st;
    *begin = *end = 0;
    if (fstat(fd, &st) < 0)
        return err_sys(err, errno, "cannot look at the console file");
    if (st.st_size <= (off_t)CONSOLE_FILE_HEAD)
        return 0;
    if (pread(fd, head, sizeof(head), 0) != (ssize_t)sizeof(head))
        return err_sys(err, EIO, "cannot read the console file");
    uint64_t len = (uint64_t)st.st_size - CONSOLE_FILE_HEAD;
    uint64_t first = le_get(head, sizeof(head));
    if (len > CONSOLE_FILE_MAX || first > INT64_MAX)
        return err_set(err, EBADMSG, "the console file makes no sense");
    *begin = first;
    *end = first + len;
    return 0;
}

ssize_t console_file_read(int fd, uint64_t *offset, void *to, size_t max, struct err *err)
{
    uint64_t begin, end;
    int rc = console_file_range(fd, &begin, &end, err);
    if (rc < 0)
        return rc;
    if (*offset < begin)
        *offset = begin;
    if (*offset >= end)
        return 0;
    if (max > end - *offset)
        max = end - *offset;
    ssize_t n = pread(fd, to, max, (off_t)(CONSOLE_FILE_HEAD + (*offset - begin)));
    return n < 0 ? err_sys(err, errno, "cannot read the console file") : n;
}
