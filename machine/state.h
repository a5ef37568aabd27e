/*
 * A paused machine as bytes, and back: sections of the VM, of each vCPU and of each device
 * (vmstate/section.h). Memory is not in it.
 *
 * The order of saving and loading is the one of KVM's traps: vCPUs before the chips of the VM, the
 * clock after them, devices last. A load goes into a machine that was built from the same config by
 * machine_new and has never run; when it fails, the machine is to be freed.
 */
#pragma once

#include "base/buf.h"
#include "machine/clock.h"
#include "machine/machine.h"
#include "vmstate/section.h"

#define STATE_BYTES_MAX (32u << 20)

/* The machine is paused. [loop] */
int state_save(struct machine *m, struct buf *out, struct err *err);

/* The machine is new. `loaded` may be NULL. [loop] */
int state_load(struct machine *m, struct span in, enum clock_policy policy,
               struct machine_loaded *loaded, struct err *err);
