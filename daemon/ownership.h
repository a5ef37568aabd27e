/*
 * Whose a guest is: ROOT/owners/UUID, a durable record of {uuid, epoch, owner}, in two slots of
 * 4 KiB (daemon/slots.h), magic 'FOWN'.
 *
 *     OURS ──► HANDED_OFF ──► GONE            the source
 *      ▲           │
 *      └───────────┘ the peer never ran it
 *     INCOMING ──► OURS                       the target
 *         └──────► TOMBSTONE                  it never ran here and never will under this epoch
 *
 * There is one writer at a time: the worker from when a migration hands the file to it until that
 * is over or the worker dead, ferryd otherwise. The writer holds a lock (flock) on the file, which
 * goes along with its descriptor, so that a ferryd that is started anew finds that it is none.
 * Written without a sync in the guest's pause (it has to outlive processes; a lost host has lost
 * the memory anyway) and synced right after.
 */
#pragma once

#include "base/err.h"
#include "base/uuid.h"
#include "proto/state.pb-c.h"

#define OWNERSHIP_PEER_MAX 300u

struct ownership {
    int fd; /* owned; -1 for none */
    uint64_t seq;
    struct uuid uuid;
    uint64_t epoch; /* of the last migration, in or out; 0 before the first */
    Ferry__Owner owner;
    char peer[OWNERSHIP_PEER_MAX]; /* where to ask, HOST:PORT */
};

#define OWNERSHIP_NONE                                                                             \
    {                                                                                              \
        .fd = -1                                                                                   \
    }

/* What an open file of that guest says, also while another one writes it; an empty one is nobody's.
 * Nothing is kept open. */
int ownership_read(struct ownership *o, int fd, const struct uuid *uuid, struct err *err);

/* Takes over an open file of that guest, to write it, and reads what it says; an empty one is new.
 * -EBUSY when somebody else may write it. */
int ownership_open(struct ownership *o, int fd, const struct uuid *uuid, struct err *err);
void ownership_close(struct ownership *o);

/* `peer` NULL: as it was. On failure `o` is as before. */
int ownership_write(struct ownership *o, Ferry__Owner owner, uint64_t epoch, const char *peer,
                    struct err *err);
int ownership_sync(const struct ownership *o, struct err *err);

const char *ownership_name(Ferry__Owner owner);
