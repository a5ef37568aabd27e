/* See boot.h. */
#include "machine/boot/boot.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "machine/boot/acpi.h"
#include "machine/boot/e820.h"
#include "machine/boot/entry.h"
#include "machine/boot/initrd.h"
#include "machine/boot/input.h"
#include "machine/boot/kernel.h"
#include "machine/boot/linux_params.h"
#include "machine/boot/mptable.h"
#include "machine/boot/pvh.h"
#include "machine/layout.h"
#include "machine/virtio/mmio.h"

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

/* Whether `word` is one of the words of a command line, or how one begins that ends in '='. */
static bool has_word(const char *cmdline, const char *word)
{
    size_t len = strlen(word);
    for (const char *at = cmdline; (at = strstr(at, word)); at += len)
        if ((at == cmdline || at[-1] == ' ') &&
            (word[len - 1] == '=' || at[len] == ' ' || at[len] == '\0'))
            return true;
    return false;
}

/* A kernel that is told to do without ACPI finds its virtio devices here, unless somebody said
 * already which. It has no interrupt lines but those of the ISA bus. */
static void announce_virtio(char *cmdline, size_t size, unsigned virtio)
{
    if (!has_word(cmdline, "acpi=off") || has_word(cmdline, "virtio_mmio.device="))
        return;
    for (unsigned i = 0; i < virtio && virtio_mmio_gsi(i) < 16; i++) {
        size_t len = strlen(cmdline);
        snprintf(cmdline + len, size - len, " virtio_mmio.device=4K@0x%" PRIx64 ":%u",
                 virtio_mmio_gpa(i), virtio_mmio_gsi(i));
    }
}

static int write_cmdline(struct mem *mem, const struct boot_source *src,
                         const struct kernel *kernel, struct err *err)
{
    char text[2 * LAYOUT_CMDLINE_MAX];
    uint64_t max = LAYOUT_CMDLINE_MAX - 1;
    if (kernel->cmdline_max < max)
        max = kernel->cmdline_max;
    snprintf(text, sizeof(text), "%s", src->cmdline ? src->cmdline : "");
    announce_virtio(text, sizeof(text), src->virtio);
    uint64_t len = strlen(text);
    if (len > max)
        return err_set(err, E2BIG,
                       "command line has %" PRIu64 " bytes, more than the %" PRIu64
                       " that fit this kernel",
                       len, max);
    return mem_write(mem, LAYOUT_CMDLINE, text, len + 1, err);
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
        rc = write_cmdline(mem, src, &kernel, err);
    if (rc == 0)
        rc = acpi_write(mem, &(struct acpi_facts){.cpus = src->cpus, .virtio = src->virtio}, err);
    if (rc == 0)
        rc = mptable_write(mem, src->cpus, err);
    if (rc == 0)
        rc = write_info(mem, &kernel, entry, err);
    return rc == 0 ? entry_write(mem, entry->protocol, err) : rc;
}
