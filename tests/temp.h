/*
 * A directory for a test's files, below $TMPDIR: ./dev test gives each run its own and fails when
 * something is left in it. The path is short enough for a unix socket.
 */
#pragma once

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

/* Makes a new directory and puts its path into `path`; false when it cannot. */
static inline bool temp_dir(char *path, size_t size)
{
    const char *base = getenv("TMPDIR");
    int n = snprintf(path, size, "%s/tXXXXXX", base && *base ? base : "/tmp");
    return n > 0 && (size_t)n < size && mkdtemp(path);
}
