/*
 * What the record of ownership (ownership.h) means for a VM of this ferryd: whether its machine may
 * run here, and what becomes of the VM when its worker died before that was clear. [loop]
 *
 *     nothing, OURS          it may run
 *     HANDED_OFF             in doubt: it may run at its peer, which is asked (doubt.h)
 *     GONE                   it lives at its peer; what is left of it here is removed
 *     INCOMING, TOMBSTONE    it was to come and never ran here; forgotten
 */
#pragma once

#include "daemon/ownership.h"
#include "daemon/registry.h"
#include "proto/worker.pb-c.h"

/* Nobody's when there is no record. */
int tenant_owner_read(const struct tenant *t, struct ownership *o, struct err *err);

/* Asked before its machine begins to run, in whatever way; refuses with the way out. */
int tenant_owner_check(const struct tenant *t, struct err *err);

/* Whether its worker is dead and nobody knows whether its guest runs at its peer. */
bool tenant_owner_doubts(const struct tenant *t);

/* Its worker is dead, `record` (NULL for none) is its last word, and the VM would become `to`, with
 * its ending set: the same with what the record of ownership adds. One that is to be forgotten is
 * transient after it. */
Ferry__VmState tenant_owner_judge(struct tenant *t, const Ferry__WorkerStatus *record,
                                  Ferry__VmState to);

/* It has no worker that could. Kept, it may be started again; otherwise it is removed. */
int tenant_owner_resolve(struct tenant *t, bool keep, struct err *err);

/* Removes the VM, which has no worker, and its record; refuses when it is in doubt. */
int tenant_owner_remove(struct tenant *t, struct err *err);
