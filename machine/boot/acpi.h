/*
 * The ACPI tables: what firmware would leave in memory for the guest to find its CPUs, interrupt
 * controllers, serial port, clock and virtio devices, the power button, how to power off and reset,
 * and where its generation is.
 *
 *     RSDP (rev 2) ── XSDT ─┬─ FADT ─┬─ FACS
 *                           │        └─ DSDT   \_S5, \_SB: COM1, RTC, VGEN, GED, VR00...
 *                           └─ MADT            local APICs, I/O APIC, overrides, NMI
 *
 * All of it lies from LAYOUT_ACPI_GPA on, the RSDP first.
 */
#pragma once

#include "base/err.h"
#include "machine/mem.h"

#define ACPI_CPUS_MAX 64u

struct acpi_facts {
    unsigned cpus;   /* 1..ACPI_CPUS_MAX */
    unsigned virtio; /* windows of virtio over MMIO that are in use */
};

int acpi_write(struct mem *mem, const struct acpi_facts *facts, struct err *err);
