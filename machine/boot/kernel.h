/*
 * A kernel file of any kind that a guest can be booted from: recognised, checked, put into guest
 * memory.
 */
#pragma once

#include <stdint.h>

#include "base/err.h"
#include "machine/boot/boot.h"
#include "machine/boot/input.h"
#include "machine/mem.h"

struct kernel {
    enum boot_protocol protocol;
    uint64_t rip;
    uint64_t end;         /* first guest address behind it */
    uint64_t initrd_max;  /* highest address that it takes an initrd at */
    uint64_t cmdline_max; /* longest command line, without the NUL */
};

int kernel_load(struct mem *mem, const struct input *in, struct kernel *kernel, struct err *err);
