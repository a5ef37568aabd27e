/*
 * A VM goes back in time in place: a machine restored from a snapshot takes the place of the one
 * that has the name.
 *
 *     the old one runs          the stand-in is built from the snapshot, in directories of its own
 *                               (stand_in.h), and stands paused
 *     record renamed            the VM is the restored one; it has the VM's name, UUID and watchers
 *     the old one is killed     and only when it is gone
 *                               the new one runs (or stays paused)
 *
 * Until the record is renamed any failure leaves the old one as it was; it notices nothing. Behind
 * that there is no way back, and a client that leaves changes nothing any more. [loop]
 */
#pragma once

#include "base/name.h"
#include "daemon/daemon.h"
#include "daemon/spawn.h"
#include "daemon/stand_in.h"
#include "daemon/tenant.h"

struct replace {
    struct tenant_watch watch; /* first: its callback gets the replace by it */
    struct daemon *daemon;     /* borrowed */
    struct tenant *stand_in; /* owned until committed, then it has the old worker; NULL once gone */
    struct timeout *later;
    char vm[NAME_MAX_CHARS + 1];
    const char *text; /* borrowed: where it comes from, for the event */
    bool paused, cancelled, committed;
    struct err err;
    void (*done)(void *ctx, const struct err *err); /* err NULL: it stands or runs */
    void *ctx;
};

/* `p` has daemon, vm, text, paused, done and ctx. `config` is taken over; it gets the VM's UUID. On
 * failure nothing is left, and `done` is not called. */
int replace_start(struct replace *p, Ferry__MachineConfig *config, const struct spawn_saved *saved,
                  struct err *err);

/* As long as it can be undone it is; `done` comes all the same. */
void replace_cancel(struct replace *p);
