/*
 * What a start request says about a saved state, made ready for machine_new: the state's bytes
 * read, the pieces of memory checked against the descriptors that came.
 */
#pragma once

#include "base/buf.h"
#include "daemon/fds.h"
#include "machine/machine.h"
#include "proto/worker.pb-c.h"

struct restore {
    struct machine_saved saved;
    struct mem_extent *extents; /* owned */
    struct buf state;           /* owned */
};

/* The descriptors are those from number `at` on; they stay the fds'. */
int worker_restore_open(struct restore *r, const Ferry__WorkerRestore *ask, const struct fds *fds,
                        unsigned at, struct err *err);
void worker_restore_close(struct restore *r);
