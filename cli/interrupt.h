/*
 * SIGINT, SIGTERM and SIGHUP as something to poll: the first byte in `fd` says that one came. A
 * call that blocks is ended with EINTR by them. Signals that the caller ignores (nohup, a
 * background job of a script) stay ignored.
 */
#pragma once

#include <signal.h>
#include <stdbool.h>

#include "base/err.h"

#define INTERRUPT_SIGNALS 3

struct interrupt {
    int fd; /* poll this for reading */
    struct sigaction before[INTERRUPT_SIGNALS];
};

#define INTERRUPT_NONE                                                                             \
    {                                                                                              \
        .fd = -1                                                                                   \
    }

/* One at a time in a process. With `once` a second signal does what it does by default. */
int interrupt_open(struct interrupt *i, bool once, struct err *err);
void interrupt_close(struct interrupt *i);

/* Whether a signal came since interrupt_open. */
bool interrupt_came(const struct interrupt *i);
