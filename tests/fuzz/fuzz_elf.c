/* ELF kernels: headers, notes and segments of any bytes, into a guest of 16 MiB. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "machine/boot/elf.h"
#include "tests/unit/machine/boot_image.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct mem mem = {.fd = -1};
    struct elf_image image;
    struct input in;
    struct err err;
    bool pvh;
    uint64_t entry;
    if (mem.fd < 0 && mem_init(&mem, MEM_MIN, &err) < 0)
        abort();
    CLEAN(clean_fd) int fd = image_file(data, size);
    if (fd < 0 || input_init(&in, fd, &err) < 0)
        abort();
    if (elf_open(&image, &in, &mem, &err) == 0 &&
        elf_find_pvh(&image, &in, &pvh, &entry, &err) == 0)
        (void)!elf_load(&image, &in, &mem, &err);
    return 0;
}
