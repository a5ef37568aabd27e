/* See boot.h. */
#include "machine/boot/boot.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "machine/boot/acpi.h"
#include "machine/boot/e820.h"
#include "machine/boot/entry.h"
#include "machine/boot/initrd.h"
#include "machine/boot/input.h"
#include "machine/boot/kernel.h"
#include "machine/boot/linux_params.h"
#include "machine/boot/pvh.h"
#include "machine/layout.h"

static int load_kernel(struct mem *mem, const struct boot_source *src, struct kernel *kernel,
                       struct boot_entry *entry, struct err *err)
{
    struct input in;
    int rc = input_init(&in, src->kernel_fd, err);
    if (rc == 0)
        rc = kernel_load(mem, &in, kernel, err);
    if (rc < 0)
        return err_wrap(err, "kernel");
    *entry = (struct boot_entry){.protocol = kernel->protocol, .rip = kernel->rip};
    return 0;
}

static int load_initrd(struct mem *mem, const struct boot_source *src, const struct kernel *kernel,
                       struct boot_entry *entry, struct err *err)
{
    struct initrd_room room = {.floor = kernel->end, .max = kernel->initrd_max};
    struct input in;
    if (src->initrd_fd < 0)
        return 0;
    int rc = input_init(&in, src->initrd_fd, err);
    if (rc == 0)
        rc = initrd_load(mem, &in, &room, &entry->initrd_gpa, err);
    if (rc < 0)
        return err_wrap(err, "initrd");
    entry->initrd_bytes = in.bytes;
    return 0;
}

static int write_cmdline(struct mem *mem, const char *cmdline, const struct kernel *kernel,
                         struct err *err)
{
    uint64_t max = LAYOUT_CMDLINE_MAX - 1, len = strlen(cmdline);
    if (kernel->cmdline_max < max)
        max = kernel->cmdline_max;
    if (len > max)
        return err_set(err, E2BIG,
                       "command line has %" PRIu64 " bytes, more than the %" PRIu64
                       " that fit this kernel",
                       len, max);
    return mem_write(mem, LAYOUT_CMDLINE, cmdline, len + 1, err);
}

static int write_info(struct mem *mem, const struct kernel *kernel, struct boot_entry *entry,
                      struct err *err)
{
    struct e820 map;
    e820_build(&map, mem);
    if (entry->protocol == BOOT_PVH) {
        struct pvh_facts facts = {.cmdline_gpa = LAYOUT_CMDLINE,
                                  .rsdp_gpa = LAYOUT_ACPI_GPA,
                                  .initrd_gpa = entry->initrd_gpa,
                                  .initrd_bytes = entry->initrd_bytes,
                                  .map = &map};
        entry->info = LAYOUT_PVH_INFO;
        return pvh_write(mem, &facts, err);
    }
    struct linux_facts facts = {.header = &kernel->header,
                                .cmdline_gpa = LAYOUT_CMDLINE,
                                .rsdp_gpa = LAYOUT_ACPI_GPA,
                                .initrd_gpa = entry->initrd_gpa,
                                .initrd_bytes = entry->initrd_bytes,
                                .map = &map};
    entry->info = LAYOUT_ZERO_PAGE;
    return linux_params_write(mem, &facts, err);
}

int boot_load(struct mem *mem, const struct boot_source *src, struct boot_entry *entry,
              struct err *err)
{
    struct kernel kernel = {0};
    int rc = load_kernel(mem, src, &kernel, entry, err);
    if (rc == 0)
        rc = load_initrd(mem, src, &kernel, entry, err);
    if (rc == 0)
        rc = write_cmdline(mem, src->cmdline ? src->cmdline : "", &kernel, err);
    if (rc == 0)
        rc = acpi_write(mem, src->cpus, err);
    if (rc == 0)
        rc = write_info(mem, &kernel, entry, err);
    return rc == 0 ? entry_write(mem, entry->protocol, err) : rc;
}
