/* The keyboard controller, for reset and probing: see i8042.c and docs/devices.md. */
#pragma once

#include "machine/device.h"

extern const struct device_type i8042_type;
