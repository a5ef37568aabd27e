/* A terminal put into raw input and back. */
#pragma once

#include <stdbool.h>
#include <termios.h>

#include "base/err.h"

struct tty {
    int fd;
    bool raw;
    struct termios before;
};

#define TTY_NONE                                                                                   \
    {                                                                                              \
        .fd = -1                                                                                   \
    }

/*
 * Every byte typed is read as it is: no line, no echo, no signal, no Ctrl-S. What is printed goes
 * on being processed, because a guest without a terminal driver ends its lines in a bare newline.
 */
int tty_enter_raw(struct tty *t, int fd, struct err *err);

/* Back to what was before; harmless when nothing was entered. */
void tty_leave_raw(struct tty *t);

/* A second, non-blocking opening of what `fd` is, so that the flag is not shared with others that
 * hold it; -1 when it is nothing that can be opened again (a socket, a plain file). */
int tty_open_nonblock(int fd);
