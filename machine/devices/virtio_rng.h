/* Random numbers for the guest: see virtio_rng.c and docs/devices.md. */
#pragma once

#include "machine/device.h"

extern const struct device_type virtio_rng_type;
