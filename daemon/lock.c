/* See lock.h. */
#include "daemon/lock.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/cleanup.h"

static int refused(int fd, const char *dir, struct err *err)
{
    char pid[24] = "";
    ssize_t n = pread(fd, pid, sizeof(pid) - 1, 0);
    pid[n > 0 ? n : 0] = '\0';
    pid[strspn(pid, "0123456789")] = '\0';
    if (pid[0] == '\0')
        return err_set(err, EBUSY, "'%s' is in use by another ferryd", dir);
    return err_set(err, EBUSY, "'%s' is in use by the ferryd with pid %s", dir, pid);
}

int lock_take(int dirfd, const char *dir, struct err *err)
{
    CLEAN(clean_fd)
    int fd = openat(dirfd, "lock", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600);
    if (fd < 0)
        return err_sys(err, errno, "cannot open '%s/lock'", dir);
    if (flock(fd, LOCK_EX | LOCK_NB) < 0)
        return errno == EWOULDBLOCK ? refused(fd, dir, err)
                                    : err_sys(err, errno, "cannot lock '%s/lock'", dir);
    char pid[24];
    int len = snprintf(pid, sizeof(pid), "%d\n", (int)getpid());
    if (ftruncate(fd, 0) < 0 || pwrite(fd, pid, (size_t)len, 0) != len)
        return err_sys(err, errno, "cannot write '%s/lock'", dir);
    return steal_fd(&fd);
}
