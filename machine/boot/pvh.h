/*
 * What a PVH kernel is told: Xen's hvm_start_info, version 1, with one module for the initrd and
 * the memory map. All of it lies at LAYOUT_PVH_INFO.
 */
#pragma once

#include <stdint.h>

#include "base/err.h"
#include "machine/boot/e820.h"
#include "machine/mem.h"

#define PVH_MAGIC 0x336ec578u

struct pvh_facts {
    uint64_t cmdline_gpa, rsdp_gpa;
    uint64_t initrd_gpa, initrd_bytes; /* 0 bytes: none */
    const struct e820 *map;            /* borrowed */
};

int pvh_write(struct mem *mem, const struct pvh_facts *facts, struct err *err);
