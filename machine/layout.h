/*
 * Where things are in the machine: addresses and interrupt lines that the loader, the ACPI tables
 * and the devices must agree on. A guest sees them, and saved guests live by them: never move one.
 */
#pragma once

/* Ports. */
#define LAYOUT_SERIAL_PORT 0x3f8 /* 8 ports */
#define LAYOUT_RTC_PORT 0x70     /* 2 */
#define LAYOUT_I8042_DATA 0x60   /* 1 */
#define LAYOUT_I8042_COMMAND 0x64
#define LAYOUT_PORT92 0x92
#define LAYOUT_PM1A_EVENT 0x600   /* 4: status, enable */
#define LAYOUT_PM1A_CONTROL 0x604 /* 2 */
#define LAYOUT_PM_TIMER 0x608     /* 4 */
#define LAYOUT_RESET_PORT 0xcf9   /* write 6 (or 0xe) to reset; also the ACPI reset register */
#define LAYOUT_RESET_VALUE 0x06

#define LAYOUT_S5_SLEEP_TYPE 5

/* GSIs. */
#define LAYOUT_I8042_GSI 1
#define LAYOUT_SERIAL_GSI 4
#define LAYOUT_VMGENID_GSI 5
#define LAYOUT_RTC_GSI 8
#define LAYOUT_SCI_GSI 9 /* level, active high in the MADT */

/* Chips that KVM holds. */
#define LAYOUT_IOAPIC_GPA 0xfec00000u
#define LAYOUT_LAPIC_GPA 0xfee00000u
#define LAYOUT_KVM_IDENTITY_GPA 0xfffbc000u /* 1 page, then 3 pages of TSS; VT-x needs them */
#define LAYOUT_KVM_TSS_GPA 0xfffbd000u

/* virtio over MMIO: windows side by side in the hole below 4 GiB; their GSIs are in virtio/mmio.c.
 */
#define LAYOUT_VIRTIO_GPA 0xd0000000u
#define LAYOUT_VIRTIO_BYTES 0x1000u

/* Low memory at boot. */
#define LAYOUT_BOOT_GDT 0x500u
#define LAYOUT_PVH_INFO 0x6000u   /* start info, module list, memory map */
#define LAYOUT_ZERO_PAGE 0x7000u  /* Linux boot_params */
#define LAYOUT_BOOT_PAGES 0x9000u /* page tables of the 64-bit Linux entry */
#define LAYOUT_CMDLINE 0x20000u
#define LAYOUT_CMDLINE_MAX 2048u
#define LAYOUT_LOW_END 0x9fc00u     /* conventional memory; then the EBDA */
#define LAYOUT_ACPI_GPA 0xe0000u    /* RSDP first, the tables behind it */
#define LAYOUT_MPTABLE_GPA 0xfe000u /* a page: for kernels that read no ACPI */
#define LAYOUT_VMGENID_GPA 0xff000u /* a page of its own behind them: 16 bytes */
#define LAYOUT_ACPI_END 0x100000u
#define LAYOUT_HIGH_LOAD 0x100000u
