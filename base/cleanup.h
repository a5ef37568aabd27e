/*
 * Ownership by scope: a local that owns something names its cleaner, and gives it away by stealing.
 *
 *     CLEAN(clean_fd) int fd = open(...);
 *     ...
 *     thing->fd = steal_fd(&fd);
 */
#pragma once

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define CLEAN(fn) __attribute__((cleanup(fn)))

static inline void clean_fd(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

/* For any `T *` from malloc; used as CLEAN(clean_free). */
static inline void clean_free(void *slot)
{
    void **p = slot;
    free(*p);
    *p = NULL;
}

static inline void clean_file(FILE **f)
{
    if (*f)
        fclose(*f);
    *f = NULL;
}

static inline int steal_fd(int *fd)
{
    int out = *fd;
    *fd = -1;
    return out;
}

#define steal_ptr(slot)                                                                            \
    ({                                                                                             \
        __typeof__(*(slot)) steal_out = *(slot);                                                   \
        *(slot) = NULL;                                                                            \
        steal_out;                                                                                 \
    })
