/*
 * The files of a VM that is about to take the place of another with the same name.
 *
 * While it is built it has directories of its own, ROOT/vms/.NAME and RUN/vms/.NAME. Then:
 *
 *     .NAME/old        a link to NAME/record, so that the worker before is found
 *     .NAME/record     renamed to NAME/record: from here on NAME is the new one
 *     definition, console, log, the sockets: renamed after it
 *
 * A ferryd that dies before that rename leaves the old VM, one that dies after it the new one,
 * paused: stand_in_recover ends the other's worker and cleans up.
 */
#pragma once

#include "base/name.h"
#include "daemon/root.h"

/* ".NAME" of a VM. */
#define STAND_IN_NAME_SIZE (NAME_MAX_CHARS + 2)
void stand_in_name(const char *vm, char name[STAND_IN_NAME_SIZE]);

/* Its directory, new and empty but for the VM's log, which goes on. */
int stand_in_make(const struct root *r, const char *vm, struct err *err);

/* After a failure NAME is what it was. What goes wrong behind the rename of the record is only
 * told by `late`, code 0 for nothing. */
int stand_in_commit(const struct root *r, const char *vm, struct err *late, struct err *err);

/* Before any VM is loaded. */
int stand_in_recover(const struct root *r, struct err *err);
