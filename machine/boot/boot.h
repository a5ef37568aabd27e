/*
 * From a kernel file to a guest that is ready to run its first instruction.
 *
 * boot_load recognises the kernel, puts it into guest memory, the initrd as high as it goes, the
 * command line, the ACPI tables and what the boot protocol tells the kernel; and says where the
 * first vCPU begins (entry.h turns that into registers). Guest memory must read as zero before:
 * it does when it is new and after mem_clear.
 *
 * A file that is wrong, truncated or too large for the guest gives one sentence that begins with
 * "kernel:", "initrd:" or "command line"; memory is then half filled and its owner drops it.
 */
#pragma once

#include <stdint.h>

#include "base/err.h"
#include "machine/mem.h"

enum boot_protocol {
    BOOT_PVH,     /* 32-bit protected mode, hvm_start_info */
    BOOT_LINUX64, /* long mode, zero page */
};

struct boot_source {
    int kernel_fd, initrd_fd; /* borrowed plain files, read by position; initrd -1: none */
    const char *cmdline;      /* borrowed; NULL as "" */
    unsigned cpus;            /* 1..64 */
    unsigned virtio;          /* windows of virtio over MMIO that are in use */
};

struct boot_entry {
    enum boot_protocol protocol;
    uint64_t rip;
    uint64_t info; /* guest address of the start info or the zero page */
    uint64_t initrd_gpa, initrd_bytes;
};

int boot_load(struct mem *mem, const struct boot_source *src, struct boot_entry *entry,
              struct err *err);
