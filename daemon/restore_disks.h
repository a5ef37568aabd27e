/*
 * The disks of a restored machine, which need not be those that it was saved with.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "proto/ferry.pb-c.h"

/*
 * Puts the disks that a restore names in the place of the snapshot's: those with an id for the disk
 * of that id, the others for the remaining ones in their order. Of several clones, number `clone`
 * finds it in its paths for "{}"; 0 is the only one. In `*other` a bit for each disk of `config`
 * that may have been written since.
 */
int restore_disks(Ferry__MachineConfig *config, const Ferry__RestoreRequest *ask, unsigned clone,
                  uint32_t *other, struct err *err);
