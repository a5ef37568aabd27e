/*
 * A chunk is a MiB of RAM, the unit of checksums and of packed frames. Its bytes are those of its
 * data pages one after the other; where no map says which those are, all of its pages.
 */
#pragma once

#include <stdint.h>

#include "base/err.h"
#include "snapshot/pages.h"

/* Pages of a chunk: 256, or what is left of `total` for the last one. */
unsigned chunk_pages(uint64_t total, uint64_t chunk);

/* Goes on over so many pages of zeros. */
uint32_t chunk_crc_gap(uint32_t crc, unsigned pages);

/* Of so many pages of zeros; quick for a whole chunk. */
uint32_t chunk_crc_zero(unsigned pages);

/* The chunk's bytes from a file where offset = RAM offset; how many. `to` has room for a MiB. */
int chunk_read(int fd, const struct pages *pages, uint64_t total, uint64_t chunk, uint8_t *to,
               size_t *bytes, struct err *err);

/* The same, only the checksum; *bytes grows. */
int chunk_read_crc(int fd, const struct pages *pages, uint64_t total, uint64_t chunk, uint32_t *crc,
                   uint64_t *bytes, struct err *err);
