/* The initial RAM disk: placed at the top of low memory, above the kernel, on a page boundary. */
#pragma once

#include <stdint.h>

#include "base/err.h"
#include "machine/boot/input.h"
#include "machine/mem.h"

struct initrd_room {
    uint64_t floor; /* end of the kernel */
    uint64_t max;   /* highest address that the kernel can use for it, inclusive */
};

/* Loads it and says where. */
int initrd_load(struct mem *mem, const struct input *in, const struct initrd_room *room,
                uint64_t *gpa, struct err *err);
