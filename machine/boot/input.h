/* A window on a plain file that somebody else opened: read by position, never past its end. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct input {
    int fd;             /* borrowed; its file position is neither used nor moved */
    uint64_t at, bytes; /* the window */
};

/* The whole file; refuses anything but a plain one. */
int input_init(struct input *in, int fd, struct err *err);

/* Narrows to a part of `in`; `what` names it when it does not lie within. */
int input_part(const struct input *in, uint64_t at, uint64_t bytes, const char *what,
               struct input *part, struct err *err);

/* Reads exactly `len` bytes. */
int input_read(const struct input *in, uint64_t at, void *to, size_t len, struct err *err);
