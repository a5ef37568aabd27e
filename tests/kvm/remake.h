/*
 * Snapshots made out of others by the library: the same guest at the same moment, but packed, as a
 * diff, or with a manifest or state that somebody else might have written. All checksums are right.
 */
#pragma once

#include "base/buf.h"
#include "proto/snapshot.pb-c.h"
#include "snapshot/reader.h"
#include "tests/kvm/host.h"

struct remake {
    const char *from, *name;
    const char *parent; /* of a diff; it has what is not in this one */
    Ferry__SnapshotMemory memory;
    void (*edit)(Ferry__SnapshotManifest *m); /* a copy of the manifest: its pointers are shared */
    void (*edit_state)(struct buf *state);    /* in place, or longer */
};

void remake(const struct host *h, const struct remake *how);

/* Opens a snapshot of the host's catalogue. */
void remake_open(const struct host *h, const char *name, struct reader *r);

/* How many pages of RAM differ. */
unsigned remake_compare(const struct host *h, const char *a, const char *b);
