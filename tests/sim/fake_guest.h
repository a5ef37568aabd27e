/*
 * A guest with neither CPUs nor real time, for capture, migration and snapshots: RAM in a memfd, a
 * dirty log that works like KVM's manual one, and a script of what writes to the RAM.
 *
 * It writes whenever it could in truth: before and after whatever each operation does, and wherever
 * a test calls fake_guest_race (a sink in the middle of its copying, say). All is drawn from a
 * seed. Its writers are vCPUs (known to the log), devices (known to the VMM's bitmap, which they
 * mark some time after they wrote) and a balloon that makes holes.
 *
 * Faults: the N-th call of an operation fails, or at the N-th race a flag is set.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bitmap.h"
#include "vmstate/guest.h"

enum fake_op {
    FAKE_NONE,
    FAKE_PAUSE,
    FAKE_RESUME,
    FAKE_SAVE_STATE,
    FAKE_ATTACH,
    FAKE_COLLECT,
    FAKE_REARM,
    FAKE_SINK_PAGES,
    FAKE_SINK_ZERO,
    FAKE_SINK_ROUND_END,
    FAKE_SINK_STATE,
    FAKE_OPS
};

#define FAKE_CONSUMERS 3u

/* What it costs, in virtual nanoseconds. */
struct fake_costs {
    uint64_t call[FAKE_OPS];
    uint64_t page; /* told to a sink, or copied: a sink adds it for each page */
};

struct fake_guest {
    struct guest guest;
    size_t pages;
    uint8_t *ram;    /* owned mapping of guest.ram_fd */
    uint8_t *before; /* owned: RAM as it was when it last resumed */
    uint64_t now_ns, random;
    bool running;
    unsigned saves; /* goes into the state */

    /* The script: `races` pages at most at each race, and a steady rate; both in a working set. */
    unsigned races;
    uint64_t pages_per_s;
    size_t set_first, set_pages;
    uint64_t owed; /* part of a page, in pages * ns */
    struct fake_costs costs;

    /* The log. */
    struct bitmap consumers[FAKE_CONSUMERS];
    bool attached[FAKE_CONSUMERS];
    struct bitmap log, unarmed, written;
    size_t unmarked; /* a page that a device wrote and has not marked yet, or `pages` */

    /* Somebody else who follows the same guest and gets in between. */
    bool rival;
    struct bitmap *rival_pages;
    uint8_t *rival_image; /* owned */

    enum fake_op fail_op;
    unsigned fail_at; /* from 1 */
    unsigned calls[FAKE_OPS];
    unsigned race_count, flag_at;
    atomic_bool flag;
};

void fake_guest_init(struct fake_guest *g, size_t pages, uint64_t seed);
void fake_guest_fini(struct fake_guest *g);

uint64_t fake_guest_random(struct fake_guest *g, uint64_t below);
void fake_guest_write(struct fake_guest *g); /* one page of the working set */
void fake_guest_race(struct fake_guest *g);
void fake_guest_spend(struct fake_guest *g, uint64_t ns);

/* Counts the call and spends its cost; true when it is to fail. */
bool fake_guest_fails(struct fake_guest *g, enum fake_op op);

unsigned fake_guest_consumers(const struct fake_guest *g);

void fake_guest_rival_start(struct fake_guest *g);
/* Pauses the world, lets the rival take the rest, and compares; false when it lost a write. */
bool fake_guest_rival_is_right(struct fake_guest *g);
