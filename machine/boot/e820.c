/* See e820.h. */
#include "machine/boot/e820.h"

#include "machine/layout.h"

#define EBDA_END 0xa0000u
#define KVM_PAGES 4u /* identity map and TSS */

static void add(struct e820 *map, uint64_t from, uint64_t to, uint32_t type)
{
    map->entries[map->count++] = (struct e820_entry){.gpa = from, .bytes = to - from, .type = type};
}

void e820_build(struct e820 *map, const struct mem *mem)
{
    map->count = 0;
    add(map, 0, LAYOUT_LOW_END, E820_RAM);
    add(map, LAYOUT_LOW_END, EBDA_END, E820_RESERVED);
    add(map, LAYOUT_ACPI_GPA, LAYOUT_ACPI_END, E820_RESERVED);
    add(map, LAYOUT_HIGH_LOAD, mem->regions[0].size, E820_RAM);
    add(map, LAYOUT_KVM_IDENTITY_GPA, LAYOUT_KVM_IDENTITY_GPA + KVM_PAGES * MEM_PAGE,
        E820_RESERVED);
    for (unsigned i = 1; i < mem->nregions; i++)
        add(map, mem->regions[i].gpa, mem->regions[i].gpa + mem->regions[i].size, E820_RAM);
}
