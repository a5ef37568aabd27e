/* See tty.h. */
#include "cli/tty.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

int tty_enter_raw(struct tty *t, int fd, struct err *err)
{
    if (tcgetattr(fd, &t->before) < 0)
        return err_sys(err, errno, "cannot read the terminal's settings");
    struct termios raw = t->before;
    tcflag_t output = raw.c_oflag;
    cfmakeraw(&raw);
    raw.c_oflag = output;
    if (tcsetattr(fd, TCSANOW, &raw) < 0)
        return err_sys(err, errno, "cannot change the terminal's settings");
    t->fd = fd;
    t->raw = true;
    return 0;
}

void tty_leave_raw(struct tty *t)
{
    if (t->raw)
        tcsetattr(t->fd, TCSANOW, &t->before);
    t->raw = false;
}

int tty_open_nonblock(int fd)
{
    char path[64];
    struct stat st;
    if (fstat(fd, &st) < 0 || !(S_ISCHR(st.st_mode) || S_ISFIFO(st.st_mode)))
        return -1;
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    return open(path, O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
}
