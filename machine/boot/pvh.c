/*
 * See pvh.h.
 *
 *     +0   start info   u32 magic, version, flags, nr_modules; u64 modules, cmdline, rsdp, memmap;
 *                       u32 memmap entries, reserved
 *     +56  module       u64 address, size, cmdline, reserved
 *     +88  memory map   of each entry: u64 address, size; u32 type, reserved
 */
#include "machine/boot/pvh.h"

#include <string.h>

#include "base/le.h"
#include "machine/layout.h"

#define MODULE_AT 56u
#define MEMMAP_AT 88u
#define MEMMAP_ENTRY 24u
#define BYTES (MEMMAP_AT + E820_MAX * MEMMAP_ENTRY)

static void put_memmap(uint8_t *to, const struct e820 *map)
{
    for (unsigned i = 0; i < map->count; i++, to += MEMMAP_ENTRY) {
        le_put(to, map->entries[i].gpa, 8);
        le_put(to + 8, map->entries[i].bytes, 8);
        le_put(to + 16, map->entries[i].type, 4);
    }
}

int pvh_write(struct mem *mem, const struct pvh_facts *facts, struct err *err)
{
    uint8_t info[BYTES] = {0};
    le_put(info, PVH_MAGIC, 4);
    le_put(info + 4, 1, 4);
    if (facts->initrd_bytes) {
        le_put(info + 12, 1, 4);
        le_put(info + 16, LAYOUT_PVH_INFO + MODULE_AT, 8);
        le_put(info + MODULE_AT, facts->initrd_gpa, 8);
        le_put(info + MODULE_AT + 8, facts->initrd_bytes, 8);
    }
    le_put(info + 24, facts->cmdline_gpa, 8);
    le_put(info + 32, facts->rsdp_gpa, 8);
    le_put(info + 40, LAYOUT_PVH_INFO + MEMMAP_AT, 8);
    le_put(info + 48, facts->map->count, 4);
    put_memmap(info + MEMMAP_AT, facts->map);
    return mem_write(mem, LAYOUT_PVH_INFO, info, sizeof(info), err);
}
