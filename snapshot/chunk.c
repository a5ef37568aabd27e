/* See chunk.h. */
#include "snapshot/chunk.h"

#include <errno.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/crc32c.h"
#include "snapshot/fileio.h"
#include "snapshot/manifest.h"

#define PAGE PAGES_PAGE_BYTES

unsigned chunk_pages(uint64_t total, uint64_t chunk)
{
    uint64_t first = chunk * SNAPSHOT_CHUNK_PAGES;
    uint64_t left = first < total ? total - first : 0;
    return (unsigned)(left < SNAPSHOT_CHUNK_PAGES ? left : SNAPSHOT_CHUNK_PAGES);
}

uint32_t chunk_crc_gap(uint32_t crc, unsigned pages)
{
    static const uint8_t zeros[PAGE];
    while (pages--)
        crc = crc32c(crc, zeros, sizeof(zeros));
    return crc;
}

uint32_t chunk_crc_zero(unsigned pages)
{
    static _Atomic uint32_t whole; /* 0 until known; CRC-32C of a MiB of zeros is not 0 */
    if (pages != SNAPSHOT_CHUNK_PAGES)
        return chunk_crc_gap(0, pages);
    uint32_t crc = whole;
    if (crc == 0)
        whole = crc = chunk_crc_gap(0, pages);
    return crc;
}

int chunk_read(int fd, const struct pages *pages, uint64_t total, uint64_t chunk, uint8_t *to,
               size_t *bytes, struct err *err)
{
    uint64_t at = chunk * SNAPSHOT_CHUNK_PAGES, end = at + chunk_pages(total, chunk);
    int rc = 0;
    *bytes = 0;
    for (uint64_t next; rc == 0 && at < end; at = next) {
        next = pages ? pages_run_end(pages, at, end) : end;
        if (pages && pages_get(pages, at) != PAGES_DATA)
            continue;
        size_t n = (size_t)(next - at) * PAGE;
        rc = fileio_read(fd, "memory", to + *bytes, n, at * PAGE, err);
        *bytes += n;
    }
    return rc;
}

int chunk_read_crc(int fd, const struct pages *pages, uint64_t total, uint64_t chunk, uint32_t *crc,
                   uint64_t *bytes, struct err *err)
{
    CLEAN(clean_free) uint8_t *data = malloc(SNAPSHOT_CHUNK_BYTES);
    size_t len;
    if (!data)
        return err_set(err, ENOMEM, "no memory to read memory with");
    int rc = chunk_read(fd, pages, total, chunk, data, &len, err);
    if (rc == 0) {
        *crc = crc32c(0, data, len);
        *bytes += len;
    }
    return rc;
}
