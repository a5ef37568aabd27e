/* Which snapshots a rule lets go: pure thought, so that it can be shown before it is done. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "snapshot/catalogue.h"

struct prune_rule {
    /* The newest so many of each VM stay; 0 protects none. */
    unsigned keep;
    /* Only what was taken before this moment goes; UINT64_MAX lets all go. */
    uint64_t before_wall_ns;
    /* Only snapshots of this VM; NULL for all. */
    const char *vm_name; /* borrowed */
};

enum prune_why {
    PRUNE_GOES,
    PRUNE_OTHER_VM, /* the rule is not about it */
    PRUNE_DAMAGED,  /* nobody knows when it was taken, or who needs it */
    PRUNE_NEWEST,   /* one of the newest of its VM */
    PRUNE_YOUNG,
    PRUNE_NEEDED, /* by one that stays */
};

struct prune_verdict {
    enum prune_why why;
    size_t by; /* of PRUNE_NEEDED: who stands on it */
};

/*
 * Fills `verdicts` and `order` (room for list->count each); `order` gets indices of entries in an
 * order in which each may be removed: children before parents. Returns how many go, or -ENOMEM.
 */
ssize_t prune_plan(const struct catalogue_list *list, const struct prune_rule *rule,
                   struct prune_verdict *verdicts, size_t *order, struct err *err);
