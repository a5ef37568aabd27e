/*
 * The guest's physical memory map as firmware would tell it: what is RAM and what it must leave
 * alone. Both boot protocols hand it over, each in its own form; the type numbers are the same.
 */
#pragma once

#include <stdint.h>

#include "machine/mem.h"

#define E820_MAX 8
#define E820_RAM 1u
#define E820_RESERVED 2u

struct e820_entry {
    uint64_t gpa, bytes;
    uint32_t type;
};

struct e820 {
    struct e820_entry entries[E820_MAX]; /* sorted, not overlapping */
    unsigned count;
};

void e820_build(struct e820 *map, const struct mem *mem);
