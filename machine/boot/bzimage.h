/*
 * A Linux bzImage: a real-mode part of 512-byte sectors, in which the setup header stands at 0x1f1,
 * and behind it the protected-mode part, which contains the kernel proper as a packed payload.
 */
#pragma once

#include <asm/bootparam.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "machine/boot/input.h"

#define BZIMAGE_HEADER_AT 0x1f1u

struct bzimage {
    struct setup_header header; /* what the file has of it, the rest is zero */
    struct input code;          /* the protected-mode part */
    struct input payload;       /* 0 bytes: none */
};

bool bzimage_recognise(const uint8_t *head, size_t len);

/* Refuses kernels that are too old, 32-bit or cut short. */
int bzimage_open(struct bzimage *image, const struct input *in, struct err *err);

/* Where the protected-mode part is to be loaded to unpack itself, and how much room it needs
 * there; the room ends at or below `ram_end`. */
int bzimage_place(const struct bzimage *image, uint64_t ram_end, uint64_t *gpa, uint64_t *room,
                  struct err *err);
