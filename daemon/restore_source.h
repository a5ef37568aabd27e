/*
 * The snapshot that machines are about to be restored from: found with all that it lies on, checked
 * as far as that is quick, and compared with this host, before anything is made. [job]
 *
 * Memory of a raw image is not read here, so that a start does not depend on its size: what maps it
 * sees what is on disk. restore_source_verify reads all of it.
 */
#pragma once

#include "base/err.h"
#include "snapshot/catalogue.h"
#include "snapshot/manifest.h"
#include "snapshot/verify.h"

struct restore_source {
    Ferry__SnapshotManifest *manifest; /* owned */
    int layers[SNAPSHOT_CHAIN_MAX];    /* owned: directories, the full one's first */
    unsigned count;
};

/* Refuses by name what this host's CPU lacks, and more packed memory than it has RAM. `kvm` is the
 * path of /dev/kvm. On failure nothing is left. */
int restore_source_open(struct restore_source *s, const struct catalogue *c, const char *name,
                        const char *kvm, struct err *err);
void restore_source_close(struct restore_source *s);

/* Every byte of the snapshot and of what it lies on. */
int restore_source_verify(const struct restore_source *s, const struct verify_watch *watch,
                          struct err *err);
