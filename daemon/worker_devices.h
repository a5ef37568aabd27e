/*
 * Which devices a guest has beside those of every machine: its config as wishes of the machine's
 * (machine/devices/devices.h), in the order in which the guest finds them.
 */
#pragma once

#include "machine/devices/devices.h"
#include "proto/config.pb-c.h"

struct worker_devices {
    struct device_wish wishes[DEVICE_WISHES_MAX];
    unsigned count;
};

/* What the wishes point to lies in `d`, which outlives the machines built from them. */
int worker_devices_init(struct worker_devices *d, const Ferry__MachineConfig *config,
                        struct err *err);
