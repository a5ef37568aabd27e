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

/*
 * Fills `order` (room for list->count) with indices of entries in an order in which each may be
 * removed: children before parents. Never a parent of one that stays, never one that cannot be
 * read, because nobody knows when it was taken or who needs it. Returns how many.
 */
size_t prune_plan(const struct catalogue_list *list, const struct prune_rule *rule, size_t *order);
