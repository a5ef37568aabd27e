/*
 * What a Linux kernel is told by the 64-bit boot protocol: struct boot_params, the "zero page", at
 * LAYOUT_ZERO_PAGE.
 */
#pragma once

#include <asm/bootparam.h>
#include <stdint.h>

#include "base/err.h"
#include "machine/boot/e820.h"
#include "machine/mem.h"

struct linux_facts {
    const struct setup_header *header; /* borrowed; the kernel's own */
    uint64_t cmdline_gpa, rsdp_gpa;
    uint64_t initrd_gpa, initrd_bytes; /* 0 bytes: none; below 4 GiB */
    const struct e820 *map;            /* borrowed */
};

/* The setup header of a bare vmlinux, which has none in its file. */
void linux_params_default_header(struct setup_header *header);

int linux_params_write(struct mem *mem, const struct linux_facts *facts, struct err *err);
