/* A snapshot that something refers to: its uuid decides, its name is for people. */
#pragma once

#include <stdbool.h>

#include "base/name.h"
#include "base/uuid.h"
#include "proto/snapshot.pb-c.h"

struct snapshot_ref {
    struct uuid uuid;
    char name[NAME_MAX_CHARS + 1]; /* empty: none */
};

static inline bool snapshot_ref_is_set(const struct snapshot_ref *ref)
{
    return ref->name[0] != '\0';
}

bool snapshot_ref_same(const struct snapshot_ref *a, const struct snapshot_ref *b);

/* What comes from a peer may be anything: NULL, or what is no reference, gives none. */
void snapshot_ref_take(struct snapshot_ref *to, const Ferry__SnapshotRef *from);

/* Borrows from `ref`. Returns `message`, or NULL for none. */
Ferry__SnapshotRef *snapshot_ref_fill(Ferry__SnapshotRef *message, const struct snapshot_ref *ref);
