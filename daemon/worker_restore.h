/*
 * The snapshot that a worker goes on from: its chain of images opened and checked, laid out as
 * pieces to map and chunks to fill (snapshot/mapping.h), its state read, all made ready for
 * machine_new. It stays for as long as that machine: memory may still come out of it, and a capture
 * asks it what was never touched.
 *
 * A chunk that cannot be read while the guest runs (damage, an I/O error) is the end of the worker,
 * at once and with that sentence: whoever waits for it must neither wait for ever nor go on without
 * it.
 */
#pragma once

#include "base/buf.h"
#include "daemon/fds.h"
#include "machine/machine.h"
#include "proto/worker.pb-c.h"
#include "snapshot/mapping.h"
#include "vmstate/guest.h"

struct worker;

struct restored {
    struct worker *worker; /* borrowed */
    struct machine_saved saved;
    struct machine_loaded loaded; /* what became of the state */
    struct reader reader;
    struct mapping mapping;
    struct fill_plan fill;
    struct mem_extent *extents; /* owned; until the machine is built */
    struct buf state;           /* owned; until then, too */
    int pagemap_fd;             /* our own: which pages the guest has written */
    uint64_t begin_ns, read_ns; /* when it began; how long opening and reading took */
};

/* The descriptors are those from number `at` on; they stay the fds'. NULL with a sentence. */
struct restored *worker_restore_open(struct worker *w, const Ferry__WorkerRestore *ask,
                                     const struct fds *fds, unsigned at, struct err *err);

/* Tells what became of the state, and gives back what only building the machine needs. */
void worker_restore_built(struct restored *r);

/* Once the machine is gone. NULL is nothing. */
void worker_restore_free(struct restored *r);

/* struct guest_ops.ram_next of a guest that runs from it. [job] */
int worker_restore_next(struct restored *r, const struct guest *g, size_t from, size_t limit,
                        size_t *begin, size_t *end, struct err *err);
