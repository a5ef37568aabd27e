/*
 * A whole boot of any bytes: the setup header, the four unpackers, the vmlinux in them, and what is
 * told to the kernel, into a guest of 16 MiB.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "machine/boot/boot.h"
#include "tests/unit/machine/boot_image.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct mem mem = {.fd = -1};
    struct boot_entry entry;
    struct err err;
    if (mem.fd < 0 && mem_init(&mem, MEM_MIN, &err) < 0)
        abort();
    CLEAN(clean_fd) int fd = image_file(data, size);
    if (fd < 0)
        abort();
    struct boot_source src = {.kernel_fd = fd, .initrd_fd = fd, .cmdline = "x", .cpus = 1};
    (void)!boot_load(&mem, &src, &entry, &err);
    return 0;
}
