/* The CMOS clock and its NVRAM: see rtc.c and docs/devices.md. */
#pragma once

#include "machine/device.h"

extern const struct device_type rtc_type;
