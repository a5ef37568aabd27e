/*
 * Which pages of a running guest have changed: KVM's log and the VMM's own writes, harvested by one
 * harvester into one bitmap per consumer (a diff chain and a migration may run at once).
 *
 * A consumer's loop:
 *
 *     dirty_attach(d, &mine)             its bitmap begins full: every page is still to be read
 *     for each round:
 *         dirty_collect(d)               ORs what changed since the last collect into all bitmaps
 *         for each chunk of pages:
 *             take the bits from mine.pages
 *             dirty_rearm(d, chunk)      BEFORE reading: a write after it is logged again
 *             read the pages; on failure OR the bits back
 *     pause, dirty_collect, the rest
 *     dirty_detach(d, &mine)             the last one switches KVM's log off
 *
 * The order matters: re-arming a page after reading it would lose a write between the two. With the
 * manual log of KVM a collect leaves pages armed as they were, so a page that nobody has re-armed
 * yet comes again in the next collect, which costs time but loses nothing.
 */
#pragma once

#include <pthread.h>

#include "base/bitmap.h"
#include "machine/vm.h"

struct dirty_consumer {
    struct bitmap pages;         /* by RAM offset / MEM_PAGE; owned between attach and detach */
    struct dirty_consumer *next; /* the harvester's */
};

struct dirty {
    struct vm *vm; /* borrowed */
    pthread_mutex_t lock;
    struct dirty_consumer *consumers; /* locked */
    struct bitmap unarmed;            /* locked: collected, not yet re-armed in KVM */
    uint64_t *scratch;                /* locked: one log as KVM gives it */
};

void dirty_init(struct dirty *d, struct vm *vm);
void dirty_fini(struct dirty *d);

/* The first consumer switches the log on. */
int dirty_attach(struct dirty *d, struct dirty_consumer *c, struct err *err);
void dirty_detach(struct dirty *d, struct dirty_consumer *c);

int dirty_collect(struct dirty *d, struct err *err);

/* Re-arms those of pages first..first+count-1 that were collected since they were armed. */
int dirty_rearm(struct dirty *d, size_t first, size_t count, struct err *err);
