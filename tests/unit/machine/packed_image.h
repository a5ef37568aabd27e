/*
 * Larger images for the loader's tests: a vmlinux of some size, the four ways to pack it, and a
 * bzImage around the result. Everything is malloc'ed; the caller frees.
 */
#pragma once

#include <lz4.h>
#include <lzma.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>

#include "tests/unit/machine/boot_image.h"

struct packed {
    uint8_t *data; /* owned by the caller */
    size_t len;
};

/* image_elf without its note, and a segment of `bytes` at 1 MiB that packs to about a third. */
static inline struct packed packed_vmlinux(size_t bytes)
{
    struct packed p = {.data = calloc(1, IMAGE_HEADERS_END + bytes),
                       .len = IMAGE_HEADERS_END + bytes};
    uint32_t x = 1;
    memcpy(p.data, image_elf, IMAGE_HEADERS_END);
    le_put(p.data + IMAGE_NOTE_HEADER, 0, 4); /* PT_NULL */
    le_put(p.data + IMAGE_P_FILESZ, bytes, 8);
    le_put(p.data + IMAGE_P_MEMSZ, bytes + 0x1000, 8);
    for (size_t i = 0; i < bytes; i++) {
        x = x * 1664525 + 1013904223;
        p.data[IMAGE_HEADERS_END + i] = (uint8_t)(i / 64 % 3 ? 'x' : x >> 24);
    }
    return p;
}

static inline struct packed packed_room(size_t bytes)
{
    return (struct packed){.data = calloc(1, bytes), .len = bytes};
}

static inline struct packed packed_gzip(const uint8_t *data, size_t len)
{
    struct packed p = packed_room(compressBound(len) + 64);
    z_stream z = {.next_in = (Bytef *)data,
                  .avail_in = (uInt)len,
                  .next_out = p.data,
                  .avail_out = (uInt)p.len};
    deflateInit2(&z, 9, Z_DEFLATED, MAX_WBITS + 16, 8, Z_DEFAULT_STRATEGY);
    deflate(&z, Z_FINISH);
    p.len = z.total_out;
    deflateEnd(&z);
    return p;
}

static inline struct packed packed_end(struct packed p, size_t used, size_t unpacked)
{
    le_put(p.data + used, unpacked, 4);
    p.len = used + 4;
    return p;
}

/* As the kernel's build does it: x86 filter, CRC32. */
static inline struct packed packed_xz(const uint8_t *data, size_t len, uint32_t dictionary)
{
    struct packed p = packed_room(lzma_stream_buffer_bound(len) + 64);
    lzma_options_lzma options;
    size_t used = 0;
    lzma_lzma_preset(&options, 1);
    options.dict_size = dictionary;
    lzma_filter filters[] = {
        {LZMA_FILTER_X86, NULL}, {LZMA_FILTER_LZMA2, &options}, {LZMA_VLI_UNKNOWN, NULL}};
    if (lzma_stream_buffer_encode(filters, LZMA_CHECK_CRC32, NULL, data, len, p.data, &used,
                                  p.len) != LZMA_OK)
        used = 0;
    return packed_end(p, used, len);
}

static inline struct packed packed_zstd(const uint8_t *data, size_t len)
{
    struct packed p = packed_room(ZSTD_compressBound(len) + 64);
    return packed_end(p, ZSTD_compress(p.data, p.len, data, len, 3), len);
}

/* The frame of "lz4 -l": magic, then blocks of up to `block` bytes behind their packed size. */
static inline struct packed packed_lz4(const uint8_t *data, size_t len, size_t block)
{
    struct packed p = packed_room((size_t)LZ4_compressBound((int)len) + 64 + 16 * (len / block));
    size_t used = 4;
    le_put(p.data, 0x184c2102, 4);
    for (size_t at = 0; at < len; at += block) {
        size_t n = len - at < block ? len - at : block;
        int packed = LZ4_compress_default((const char *)data + at, (char *)p.data + used + 4,
                                          (int)n, (int)(p.len - used - 4));
        le_put(p.data + used, (uint64_t)packed, 4);
        used += 4 + (size_t)packed;
    }
    return packed_end(p, used, len);
}

#define BZIMAGE_SETUP 1024u /* setup_sects 1: boot sector and one more */
#define BZIMAGE_CODE 0x220u /* the payload's offset in the protected-mode part */

/* Offsets in the setup header. */
#define BZ_SETUP_SECTS 0x1f1u
#define BZ_SYSSIZE 0x1f4u
#define BZ_BOOT_FLAG 0x1feu
#define BZ_JUMP 0x200u
#define BZ_HEADER 0x202u
#define BZ_VERSION 0x206u
#define BZ_LOADFLAGS 0x211u
#define BZ_INITRD_MAX 0x22cu
#define BZ_ALIGNMENT 0x230u
#define BZ_RELOCATABLE 0x234u
#define BZ_XLOADFLAGS 0x236u
#define BZ_CMDLINE_SIZE 0x238u
#define BZ_PAYLOAD_OFFSET 0x248u
#define BZ_PAYLOAD_LENGTH 0x24cu
#define BZ_PREF_ADDRESS 0x258u
#define BZ_INIT_SIZE 0x260u

/* A bzImage with this payload, protocol 2.15. */
static inline struct packed packed_bzimage(const uint8_t *payload, size_t len)
{
    size_t code = (BZIMAGE_CODE + len + 15) & ~(size_t)15;
    struct packed p = packed_room(BZIMAGE_SETUP + code);
    p.data[BZ_SETUP_SECTS] = 1;
    le_put(p.data + BZ_SYSSIZE, code / 16, 4);
    le_put(p.data + BZ_BOOT_FLAG, 0xaa55, 2);
    le_put(p.data + BZ_JUMP, 0x6aeb, 2); /* jmp 0x26c */
    memcpy(p.data + BZ_HEADER, "HdrS", 4);
    le_put(p.data + BZ_VERSION, 0x20f, 2);
    p.data[BZ_LOADFLAGS] = 1; /* LOADED_HIGH */
    le_put(p.data + BZ_INITRD_MAX, 0x7fffffff, 4);
    le_put(p.data + BZ_ALIGNMENT, 0x200000, 4);
    p.data[BZ_RELOCATABLE] = 1;
    le_put(p.data + BZ_XLOADFLAGS, 1, 2); /* XLF_KERNEL_64 */
    le_put(p.data + BZ_CMDLINE_SIZE, 100, 4);
    le_put(p.data + BZ_PAYLOAD_OFFSET, BZIMAGE_CODE, 4);
    le_put(p.data + BZ_PAYLOAD_LENGTH, len, 4);
    le_put(p.data + BZ_PREF_ADDRESS, 0x400000, 8);
    le_put(p.data + BZ_INIT_SIZE, 0x100000, 4);
    for (size_t i = 0; i < BZIMAGE_CODE; i++)
        p.data[BZIMAGE_SETUP + i] = (uint8_t)i;
    memcpy(p.data + BZIMAGE_SETUP + BZIMAGE_CODE, payload, len);
    return p;
}
