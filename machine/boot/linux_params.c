/* See linux_params.h. */
#include "machine/boot/linux_params.h"

#include <string.h>

#include "machine/layout.h"

#define BOOT_FLAG 0xaa55u
#define HEADER_MAGIC 0x53726448u /* "HdrS" */
#define VERSION 0x20cu
#define LOADER_UNDEFINED 0xffu
#define ALIGNMENT 0x1000000u

void linux_params_default_header(struct setup_header *header)
{
    *header = (struct setup_header){.boot_flag = BOOT_FLAG,
                                    .header = HEADER_MAGIC,
                                    .version = VERSION,
                                    .loadflags = LOADED_HIGH,
                                    .kernel_alignment = ALIGNMENT,
                                    .initrd_addr_max = UINT32_MAX,
                                    .cmdline_size = LAYOUT_CMDLINE_MAX - 1,
                                    .xloadflags = XLF_KERNEL_64};
}

/* The loader's fields of the header; what it leaves alone is the kernel's. */
static void fill_header(struct setup_header *h, const struct linux_facts *facts)
{
    h->type_of_loader = LOADER_UNDEFINED;
    h->loadflags = (uint8_t)(h->loadflags & ~CAN_USE_HEAP);
    h->cmd_line_ptr = (uint32_t)facts->cmdline_gpa;
    h->ramdisk_image = (uint32_t)facts->initrd_gpa;
    h->ramdisk_size = (uint32_t)facts->initrd_bytes;
    h->setup_data = 0;
}

int linux_params_write(struct mem *mem, const struct linux_facts *facts, struct err *err)
{
    struct boot_params params = {.acpi_rsdp_addr = facts->rsdp_gpa, .hdr = *facts->header};
    fill_header(&params.hdr, facts);
    params.e820_entries = (uint8_t)facts->map->count;
    for (unsigned i = 0; i < facts->map->count; i++)
        params.e820_table[i] = (struct boot_e820_entry){.addr = facts->map->entries[i].gpa,
                                                        .size = facts->map->entries[i].bytes,
                                                        .type = facts->map->entries[i].type};
    return mem_write(mem, LAYOUT_ZERO_PAGE, &params, sizeof(params), err);
}
