/*
 * A 64-bit x86 ELF program as a loader sees it: which bytes of the file go to which guest physical
 * addresses (p_paddr), where it is entered, and the Xen note that makes it a PVH kernel.
 *
 * elf_parse reads the two tables through a reader, so that they may come from a file or from the
 * first bytes of an unpacked kernel. elf_check compares the plan with guest memory. Only then is
 * anything written, by elf_load from a file or piece by piece by elf_take.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "machine/boot/input.h"
#include "machine/mem.h"

#define ELF_HEADERS_MAX 64u
#define ELF_NOTE_MAX 65536u /* bytes of one PT_NOTE that are searched */

struct elf_segment {
    uint64_t gpa, mem_bytes;     /* p_paddr, p_memsz */
    uint64_t offset, file_bytes; /* p_offset, p_filesz */
};

struct elf_note {
    uint64_t offset, bytes, align;
};

struct elf_image {
    uint64_t entry; /* e_entry */
    unsigned nsegments, nnotes;
    struct elf_segment segments[ELF_HEADERS_MAX];
    struct elf_note notes[ELF_HEADERS_MAX];
};

/* Where the bytes of an ELF file come from. */
struct elf_reader {
    int (*read)(void *ctx, uint64_t at, void *to, size_t len, struct err *err);
    void *ctx;      /* borrowed */
    uint64_t bytes; /* size of the ELF file */
};

bool elf_recognise(const uint8_t *head, size_t len);

int elf_parse(struct elf_image *image, const struct elf_reader *reader, struct err *err);

/* Refuses segments that are outside of RAM, below 1 MiB or in each other's way. */
int elf_check(const struct elf_image *image, const struct mem *mem, struct err *err);

/* A whole file at once: parse and check. */
int elf_open(struct elf_image *image, const struct input *in, const struct mem *mem,
             struct err *err);
int elf_load(const struct elf_image *image, const struct input *in, struct mem *mem,
             struct err *err);

/* Stores the file's bytes at..at+len wherever the segments want them. */
int elf_take(const struct elf_image *image, struct mem *mem, uint64_t at, const uint8_t *data,
             size_t len, struct err *err);

/* *found, and then *entry, from the note XEN_ELFNOTE_PHYS32_ENTRY. */
int elf_find_pvh(const struct elf_image *image, const struct input *in, bool *found,
                 uint64_t *entry, struct err *err);

/* true when guest address `gpa` is in a segment. */
bool elf_holds(const struct elf_image *image, uint64_t gpa);

/* The first address behind all segments that begin below `limit`. */
uint64_t elf_end_below(const struct elf_image *image, uint64_t limit);
