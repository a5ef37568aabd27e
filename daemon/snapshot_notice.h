/* What happened to snapshots, told to whom it concerns: events, and the VMs whose changes are
 * tracked since one. [loop] */
#pragma once

#include "daemon/daemon.h"
#include "daemon/snapshot_ref.h"

/* `parent` may be empty. */
void snapshot_notice_created(struct daemon *d, const char *vm, const char *name,
                             const char *parent);
void snapshot_notice_failed(struct daemon *d, const char *vm, const char *name,
                            const struct err *why);

/* Whoever tracks his changes since it stops that: nothing could stand on it any more. */
void snapshot_notice_removed(struct daemon *d, const char *vm, const struct snapshot_ref *snapshot);
