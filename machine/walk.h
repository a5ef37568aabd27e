/*
 * Guest virtual to guest physical, by walking the guest's page tables in guest memory: 2-level,
 * PAE, 4- and 5-level. For looking into a guest, not for running it: permissions are not checked.
 */
#pragma once

#include <stdint.h>

#include "machine/mem.h"

struct walk_mode {
    uint64_t cr0, cr3, cr4, efer;
};

/* 0 and the address, or -1 when the tables do not map it or lie outside of guest memory. */
int walk_translate(const struct mem *mem, const struct walk_mode *mode, uint64_t va, uint64_t *gpa);

/* Reads up to `len` bytes at a virtual address; returns how many could be read. */
size_t walk_read(const struct mem *mem, const struct walk_mode *mode, uint64_t va, void *to,
                 size_t len);
