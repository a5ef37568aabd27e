/*
 * A kernel file of any kind that a guest can be booted from: recognised, checked, put into guest
 * memory.
 *
 *     ELF with a Xen PVH note      as it is          PVH, at the note's entry
 *     ELF without (vmlinux)        as it is          64-bit Linux, at e_entry
 *     bzImage                      unpacked here     64-bit Linux, at e_entry of the vmlinux in it
 *     bzImage packed in a way
 *       that is not known here     as it is          64-bit Linux, at +0x200: it unpacks itself
 */
#pragma once

#include <asm/bootparam.h>
#include <stdint.h>

#include "base/err.h"
#include "machine/boot/boot.h"
#include "machine/boot/input.h"
#include "machine/mem.h"

struct kernel {
    enum boot_protocol protocol;
    uint64_t rip;
    uint64_t end;               /* first address of low RAM behind it */
    uint64_t initrd_max;        /* highest address that it takes an initrd at */
    uint64_t cmdline_max;       /* longest command line, without the NUL */
    struct setup_header header; /* for BOOT_LINUX64 */
};

int kernel_load(struct mem *mem, const struct input *in, struct kernel *kernel, struct err *err);
