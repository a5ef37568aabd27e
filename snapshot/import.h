/*
 * A stream (transfer.h) becomes snapshots: pushed in as it comes, in pieces of any size.
 *
 *     import_init ─► import_push ... ─► import_finish ─► import_fini
 *
 * Everything is written into directories that nobody sees, verified byte by byte, and only when all
 * of it is right do the snapshots get their names, the lowest first. A snapshot of the chain that
 * is there already (by uuid) is not written again. After any failure the catalogue is as it was.
 *
 * The stream is hostile: sizes and names come from manifests that passed their checks, files grow
 * no further than those say, and memory is bounded. [job]
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/name.h"
#include "snapshot/catalogue.h"
#include "snapshot/manifest.h"
#include "snapshot/verify.h"
#include "vmstate/pack.h"

struct import_item {
    Ferry__SnapshotManifest *manifest; /* owned; with the name that it gets here */
    struct uuid uuid;
    int dirfd;      /* owned; -1 for one that is here already */
    bool published; /* by this import */
};

struct import {
    const struct catalogue *catalogue; /* borrowed */
    const struct verify_watch *watch;  /* borrowed; of the verification at the end, or NULL */
    int (*commit)(void *ctx, struct err *err); /* before the first name is given; may be NULL */
    void *ctx;                                 /* borrowed; its */
    char name[NAME_MAX_CHARS + 1];             /* of the last one; empty to leave it */
    uint64_t max_bytes, bytes;                 /* of data; 0 for no bound */
    struct unpack_stream stream;
    struct buf head, record;   /* not yet a whole head, a whole record */
    struct import_item *items; /* owned; SNAPSHOT_CHAIN_MAX */
    unsigned count;
    size_t file; /* of the last item's files: the next one */
    int fd;      /* owned; of the file that data goes to; -1 for none */
    bool in_file;
    uint64_t at, length; /* in that file: behind the last data; its end */
    bool ended;
    struct err failed; /* the first failure stays */
};

/* `name` NULL keeps the one of the exporter. */
int import_init(struct import *im, const struct catalogue *c, const char *name, uint64_t max_bytes,
                struct err *err);
int import_push(struct import *im, const void *data, size_t len, struct err *err);

/* The stream is over. On success `name` (NAME_MAX_CHARS + 1) is what the snapshot is called. */
int import_finish(struct import *im, char *name, struct err *err);

/* Also removes what has no name yet. */
void import_fini(struct import *im);
