/*
 * Guest memory, and the only door to it.
 *
 * RAM is one memfd mapped shared (or, of a saved machine, what mem_init_from makes), laid out in
 * guest order: below 3 GiB from address 0, the rest from 4 GiB on. "RAM offset" is the position in
 * the memfd. Devices and loaders read and write by guest address through the functions here; a
 * range is refused unless it lies in one region as a whole. Every write marks the VMM's dirty
 * bitmap, because KVM's log knows nothing of it.
 */
#pragma once

#include <stdint.h>

#include "base/bitmap.h"
#include "base/err.h"

#define MEM_PAGE 4096u
#define MEM_LOW_MAX (3ull << 30)   /* RAM below the hole ends here at the latest */
#define MEM_HIGH_BASE (4ull << 30) /* RAM above the hole begins here */
#define MEM_MIN (16ull << 20)
#define MEM_MAX (1ull << 40)
#define MEM_REGIONS 2

struct mem_region {
    uint64_t gpa, size;
    uint64_t offset; /* RAM offset of gpa */
};

struct mem {
    int fd;        /* owned memfd; -1 for RAM made by mem_init_from */
    uint8_t *base; /* owned mapping of all RAM, by RAM offset */
    uint64_t size;
    struct mem_region regions[MEM_REGIONS];
    unsigned nregions;
    struct bitmap written; /* pages written by the VMM, by RAM offset / MEM_PAGE */
};

/* Makes RAM of `size` bytes: MEM_MIN..MEM_MAX, whole MiB. */
int mem_init(struct mem *mem, uint64_t size, struct err *err);

/* A piece of RAM that begins as the content of a file. All three numbers are whole pages. */
struct mem_extent {
    uint64_t offset, bytes; /* RAM offset */
    int fd;                 /* borrowed during mem_init_from */
    uint64_t at;            /* in the file */
};

/* As fd: zeros over a part of an earlier piece. (Not -1, which is a file that could not be opened.)
 */
#define MEM_EXTENT_ZERO (-2)

/* More pieces than this may pass the kernel's limit of mappings (vm.max_map_count, 65530). */
#define MEM_EXTENTS_MAX 32768u

/*
 * RAM that begins as extents of files (mapped in their order, a later one over the earlier ones;
 * what lies in none is zero), mapped privately: nothing is read or copied before it is touched, the
 * files are never written, and all who map them share the page cache. Such RAM has no descriptor of
 * its own: fd is -1.
 */
int mem_init_from(struct mem *mem, uint64_t size, const struct mem_extent *extents, size_t count,
                  struct err *err);
void mem_fini(struct mem *mem);

/* 0 and the RAM offset when [gpa, gpa+len) lies within one region; -1 otherwise. No wrap. [any] */
int mem_offset(const struct mem *mem, uint64_t gpa, uint64_t len, uint64_t *offset);

/* 0, or -EFAULT with a sentence that names the range. [any] */
int mem_read(const struct mem *mem, uint64_t gpa, void *to, uint64_t len, struct err *err);
int mem_write(struct mem *mem, uint64_t gpa, const void *from, uint64_t len, struct err *err);
int mem_zero(struct mem *mem, uint64_t gpa, uint64_t len, struct err *err);

/* Reads exactly `len` bytes of `fd` at `at` straight into guest memory. */
int mem_write_from_fd(struct mem *mem, uint64_t gpa, int fd, uint64_t at, uint64_t len,
                      struct err *err);

/*
 * For bulk work (decompression, later device I/O): a borrowed pointer to a checked range, valid as
 * long as the mem; NULL when refused. The range is marked as written when `writable`.
 */
void *mem_borrow(struct mem *mem, uint64_t gpa, uint64_t len, bool writable, struct err *err);

/* Marks what was written through a borrowed pointer after it was lent. [any] */
void mem_mark_written(struct mem *mem, uint64_t gpa, uint64_t len);

/* Gives the memory back and makes it read as zero: what a reset does. */
int mem_clear(struct mem *mem, struct err *err);
