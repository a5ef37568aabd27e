/*
 * Reads every byte of a snapshot and compares it with what the manifest says: no flipped bit, no
 * missing, longer or additional file gets past it. The chain below a diff is not looked at: those
 * are snapshots of their own.
 *
 * Damage is -EBADMSG with a sentence that names the file and where. [job]
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

struct verify_result {
    char file[80];   /* where the first damage is; empty for none or for no one file */
    uint64_t offset; /* where the damaged piece begins */
    uint64_t length; /* how long that piece is */
    uint64_t bytes_read;
};

/* Told now and then; false ends the verification with -ECANCELED. May be NULL. [job] */
struct verify_watch {
    bool (*progress)(void *ctx, uint64_t done, uint64_t total);
    void *ctx;
};

int verify_snapshot(int dirfd, const struct verify_watch *watch, struct verify_result *result,
                    struct err *err);
