/*
 * What the memory of a restored guest began as: pieces of the files it maps, kept open for as long
 * as it lives, and the page map that tells what it has written since. For savers, which pass over
 * what nobody ever touched, or over all that is still as it was.
 */
#pragma once

#include "daemon/fds.h"
#include "daemon/worker_restore.h"
#include "vmstate/pages.h"

struct worker_saved {
    struct pages_piece *pieces; /* owned */
    size_t count;
    int files[FDS_MAX]; /* owned */
    unsigned nfiles;
    int pagemap_fd; /* owned; -1 when there is no telling */
};

void worker_saved_init(struct worker_saved *s);

/* Takes the memory files out of `fds`, where they are from number `at` on. */
int worker_saved_keep(struct worker_saved *s, const struct restore *r, unsigned files,
                      struct fds *fds, unsigned at, struct err *err);
void worker_saved_fini(struct worker_saved *s);
