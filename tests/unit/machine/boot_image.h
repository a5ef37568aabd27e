/*
 * Small kernel images for the loader's tests and fuzz seeds, written byte by byte: the field names
 * of the formats stand beside their bytes.
 */
#pragma once

#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/le.h"

#define IMAGE_SEGMENT_GPA 0x100000u
#define IMAGE_SEGMENT_BYTES 32u
#define IMAGE_SEGMENT_MEM 0x3000u
#define IMAGE_ELF_BYTES 228u

/* clang-format off */
static const uint8_t image_elf[IMAGE_ELF_BYTES] = {
    /* 0x00 e_ident */     0x7f, 'E', 'L', 'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    /* 0x10 e_type */      2, 0,
    /* 0x12 e_machine */   62, 0,
    /* 0x14 e_version */   1, 0, 0, 0,
    /* 0x18 e_entry */     0x10, 0, 0x10, 0, 0, 0, 0, 0,
    /* 0x20 e_phoff */     64, 0, 0, 0, 0, 0, 0, 0,
    /* 0x28 e_shoff */     0, 0, 0, 0, 0, 0, 0, 0,
    /* 0x30 e_flags */     0, 0, 0, 0,
    /* 0x34 e_ehsize */    64, 0,
    /* 0x36 e_phentsize */ 56, 0,
    /* 0x38 e_phnum */     2, 0,
    /* 0x3a e_shentsize */ 0, 0,
    /* 0x3c e_shnum */     0, 0,
    /* 0x3e e_shstrndx */  0, 0,
    /* 0x40 p_type LOAD */ 1, 0, 0, 0,
    /* 0x44 p_flags */     7, 0, 0, 0,
    /* 0x48 p_offset */    0xb0, 0, 0, 0, 0, 0, 0, 0,
    /* 0x50 p_vaddr */     0, 0, 0, 0x80, 0xff, 0xff, 0xff, 0xff,
    /* 0x58 p_paddr */     0, 0, 0x10, 0, 0, 0, 0, 0,
    /* 0x60 p_filesz */    32, 0, 0, 0, 0, 0, 0, 0,
    /* 0x68 p_memsz */     0, 0x30, 0, 0, 0, 0, 0, 0,
    /* 0x70 p_align */     0, 0x10, 0, 0, 0, 0, 0, 0,
    /* 0x78 p_type NOTE */ 4, 0, 0, 0,
    /* 0x7c p_flags */     4, 0, 0, 0,
    /* 0x80 p_offset */    0xd0, 0, 0, 0, 0, 0, 0, 0,
    /* 0x88 p_vaddr */     0, 0, 0, 0, 0, 0, 0, 0,
    /* 0x90 p_paddr */     0, 0, 0, 0, 0, 0, 0, 0,
    /* 0x98 p_filesz */    20, 0, 0, 0, 0, 0, 0, 0,
    /* 0xa0 p_memsz */     20, 0, 0, 0, 0, 0, 0, 0,
    /* 0xa8 p_align */     4, 0, 0, 0, 0, 0, 0, 0,
    /* 0xb0 the segment */ 0xfa, 0xf4, 0xeb, 0xfd, 'a', 'b', 'c', 'd',
                           'e', 'f', 'g', 'h', 'i', 'j', 'k', 'l',
                           'm', 'n', 'o', 'p', 'q', 'r', 's', 't',
                           'u', 'v', 'w', 'x', 'y', 'z', '0', '1',
    /* 0xd0 n_namesz */    4, 0, 0, 0,
    /* 0xd4 n_descsz */    4, 0, 0, 0,
    /* 0xd8 n_type */      18, 0, 0, 0,
    /* 0xdc name */        'X', 'e', 'n', 0,
    /* 0xe0 entry */       8, 0, 0x10, 0,
};
/* clang-format on */

/* Offsets of what tests change. */
#define IMAGE_E_PHOFF 0x20u
#define IMAGE_E_PHNUM 0x38u
#define IMAGE_P_TYPE 0x40u
#define IMAGE_P_OFFSET 0x48u
#define IMAGE_P_PADDR 0x58u
#define IMAGE_P_FILESZ 0x60u
#define IMAGE_P_MEMSZ 0x68u
#define IMAGE_NOTE_HEADER 0x78u
#define IMAGE_NOTE 0xd0u
#define IMAGE_HEADERS_END 0xb0u

/* An unnamed file with these bytes; the caller closes it. */
static inline int image_file(const void *data, size_t len)
{
    int fd = memfd_create("image", MFD_CLOEXEC);
    if (fd >= 0 && len > 0 && pwrite(fd, data, len, 0) != (ssize_t)len) {
        close(fd);
        return -1;
    }
    return fd;
}
