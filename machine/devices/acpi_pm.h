/* ACPI power management: see acpi_pm.c and docs/devices.md. */
#pragma once

#include "machine/device.h"

struct acpi_pm;

extern const struct device_type acpi_pm_type; /* "acpi-pm", of struct acpi_pm */

/* What stop does first: the guest sees its power button pressed. While the machine stands, the
 * press waits for it to go on. [any] */
void acpi_pm_press_power_button(struct acpi_pm *p);
