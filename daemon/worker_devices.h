/*
 * Which devices a guest has beside those of every machine: its config as wishes of the machine's
 * (machine/devices/devices.h), in the order in which the guest finds them.
 */
#pragma once

#include "daemon/disks.h"
#include "daemon/fds.h"
#include "daemon/nets.h"
#include "machine/devices/devices.h"
#include "machine/devices/virtio_blk.h"
#include "machine/devices/virtio_net.h"
#include "proto/config.pb-c.h"

struct worker_devices {
    struct device_wish wishes[DEVICE_WISHES_MAX];
    unsigned count;
    struct virtio_blk_config disks[DISKS_MAX]; /* their descriptors are owned */
    unsigned ndisks;
    struct virtio_net_config nets[NETS_MAX]; /* the same */
    unsigned nnets;
};

/* Takes disks and networks out of `fds` from *at on, which moves behind them. What the wishes point
 * to lies in `d`, which outlives the machines built from them. `other_disks` has a bit for each
 * that need not be as a saved guest left it. */
int worker_devices_init(struct worker_devices *d, const Ferry__MachineConfig *config,
                        uint32_t other_disks, struct fds *fds, unsigned *at, struct err *err);
void worker_devices_fini(struct worker_devices *d);
