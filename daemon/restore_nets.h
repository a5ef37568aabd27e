/*
 * The networks of a restored machine, which need not be those that it was saved with.
 */
#pragma once

#include "base/err.h"
#include "proto/ferry.pb-c.h"

/*
 * Puts the networks that a restore names in the place of the snapshot's, in their order. The cards
 * keep their addresses. Of several clones, number `clone` finds it in the names for "{}"; 0 is the
 * only one. Clones do not share a tap.
 */
int restore_nets(Ferry__MachineConfig *config, const Ferry__RestoreRequest *ask, unsigned clone,
                 struct err *err);
