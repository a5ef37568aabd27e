/*
 * A snapshot and all that it stands on as one stream (transfer.h), read in bounded memory.
 *
 * What is small is checked on the way out; memory is not, verify.h does that. [job]
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "snapshot/catalogue.h"

struct export_sink {
    int (*write)(void *ctx, const uint8_t *data, size_t len, struct err *err);
    /* May be NULL; false ends the export with -ECANCELED. */
    bool (*progress)(void *ctx, uint64_t done, uint64_t total);
    void *ctx;
};

struct export_options {
    int level;  /* of zstd; 0 means the usual one */
    bool alone; /* only the snapshot itself: who imports it must have its parent */
};

int export_snapshot(const struct catalogue *c, const char *name,
                    const struct export_options *options, const struct export_sink *sink,
                    struct err *err);
