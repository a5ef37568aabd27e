/*
 * The MultiProcessor table (Intel's specification 1.4): how a kernel that does not read ACPI finds
 * the CPUs and the I/O APIC. It tells what the MADT tells; a kernel that reads ACPI does not look
 * at it.
 *
 *     LAYOUT_LOW_END       floating pointer   "_MP_", in the last KiB below 640 KiB: a kernel that
 *                                             searches the 64 KiB below 1 MiB is slow at it
 *     LAYOUT_MPTABLE_GPA   configuration      "PCMP": CPUs, the ISA bus, I/O APIC, interrupts
 */
#pragma once

#include "base/err.h"
#include "machine/mem.h"

int mptable_write(struct mem *mem, unsigned cpus, struct err *err);
