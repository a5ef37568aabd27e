/* The 16550A serial port: see serial.c and docs/devices.md. */
#pragma once

#include "machine/device.h"

extern const struct device_type serial_type;
