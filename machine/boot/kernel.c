/* See kernel.h. */
#include "machine/boot/kernel.h"

#include <errno.h>
#include <inttypes.h>

#include "machine/boot/elf.h"
#include "machine/layout.h"

#define HEAD_BYTES 4096u

static int set_pvh_entry(struct kernel *kernel, const struct elf_image *image, uint64_t entry,
                         struct err *err)
{
    if (entry > UINT32_MAX || !elf_holds(image, entry))
        return err_set(err, ENOEXEC, "the PVH entry 0x%" PRIx64 " is outside of its segments",
                       entry);
    kernel->protocol = BOOT_PVH;
    kernel->rip = entry;
    return 0;
}

static int load_elf(struct mem *mem, const struct input *in, struct kernel *kernel, struct err *err)
{
    struct elf_image image;
    bool pvh = false;
    uint64_t entry;
    int rc = elf_open(&image, in, mem, err);
    if (rc == 0)
        rc = elf_find_pvh(&image, in, &pvh, &entry, err);
    if (rc < 0)
        return rc;
    if (!pvh)
        return err_set(err, ENOEXEC, "has no PVH note");
    kernel->end = elf_end_below(&image, mem->regions[0].size);
    rc = set_pvh_entry(kernel, &image, entry, err);
    return rc < 0 ? rc : elf_load(&image, in, mem, err);
}

int kernel_load(struct mem *mem, const struct input *in, struct kernel *kernel, struct err *err)
{
    uint8_t head[HEAD_BYTES];
    size_t len = in->bytes < sizeof(head) ? in->bytes : sizeof(head);
    *kernel = (struct kernel){.initrd_max = UINT32_MAX, .cmdline_max = LAYOUT_CMDLINE_MAX - 1};
    int rc = input_read(in, 0, head, len, err);
    if (rc < 0)
        return rc;
    if (len == 0)
        return err_set(err, ENODATA, "the file is empty");
    if (elf_recognise(head, len))
        return load_elf(mem, in, kernel, err);
    return err_set(err, ENOEXEC, "neither an ELF file nor a Linux bzImage");
}
