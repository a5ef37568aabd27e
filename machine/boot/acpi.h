/*
 * The ACPI tables: what firmware would leave in memory for the guest to find its CPUs, interrupt
 * controllers, serial port and clock, the power button, how to power off and reset, and where its
 * generation is.
 *
 *     RSDP (rev 2) ── XSDT ─┬─ FADT ─┬─ FACS
 *                           │        └─ DSDT   \_S5, \_SB: COM1, RTC, VGEN, GED
 *                           └─ MADT            local APICs, I/O APIC, overrides, NMI
 *
 * All of it lies from LAYOUT_ACPI_GPA on, the RSDP first.
 */
#pragma once

#include "base/err.h"
#include "machine/mem.h"

#define ACPI_CPUS_MAX 64u

int acpi_write(struct mem *mem, unsigned cpus, struct err *err);
