/* RAM out of the layers of a chain: which has what, and its bytes. See reader.h. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/crc32c.h"
#include "base/le.h"
#include "snapshot/chunk.h"
#include "snapshot/reader.h"
#include "vmstate/pages.h"

#define PAGE PAGES_PAGE_BYTES
#define LOOK_AHEAD                                                                                 \
    16384u /* pages; a long run in one layer is not walked again for each in others */

/* The topmost layer that says something of a page, and up to where all layers say the same; end is
 * lowered, never below page + 1. */
static int layer_of(const struct reader *r, uint64_t page, uint64_t *end)
{
    for (unsigned i = r->count; i-- > 0;) {
        const struct reader_layer *l = &r->layers[i];
        if (!l->mapped)
            return (int)i;
        *end = pages_run_end(&l->pages, page, *end);
        enum pages_state state = pages_get(&l->pages, page);
        if (state == PAGES_DATA)
            return (int)i;
        if (state == PAGES_ZERO)
            return READER_ZERO;
    }
    return READER_ZERO;
}

bool reader_extent_before(const struct reader *r, uint64_t from, uint64_t end,
                          struct reader_extent *extent)
{
    uint64_t page = from / PAGE, at = page, stop = end / PAGE < r->npages ? end / PAGE : r->npages;
    if (page >= stop)
        return false;
    int layer = READER_ZERO, next;
    do {
        uint64_t same = stop - at < LOOK_AHEAD ? stop : at + LOOK_AHEAD;
        next = layer_of(r, at, &same);
        if (at == page)
            layer = next;
        if (next == layer)
            at = same;
    } while (next == layer && at < stop);
    *extent =
        (struct reader_extent){.offset = page * PAGE, .length = (at - page) * PAGE, .layer = layer};
    if (layer != READER_ZERO && !r->layers[layer].packed)
        extent->file_offset = extent->offset;
    return true;
}

bool reader_next_extent(const struct reader *r, uint64_t from, struct reader_extent *extent)
{
    return reader_extent_before(r, from, r->ram_bytes, extent);
}

void reader_next_data(const struct reader *r, size_t from, size_t limit, size_t *begin, size_t *end)
{
    struct reader_extent e;
    for (; reader_extent_before(r, from * PAGE, limit * PAGE, &e); from = *end) {
        *begin = from;
        *end = from + e.length / PAGE;
        if (e.layer == READER_ZERO)
            continue;
        size_t all = *end;
        if (!r->layers[e.layer].mapped)
            pages_next_in_file(r->layers[e.layer].memory_fd, from, all, begin, end);
        if (*begin < all)
            return;
        *end = all;
    }
    *begin = *end = limit;
}

int reader_check_whole(const struct reader *r, struct err *err)
{
    struct stat st;
    for (unsigned i = 0; i < r->count; i++) {
        const struct reader_layer *l = &r->layers[i];
        if (fstat(l->memory_fd, &st) < 0)
            return err_sys(err, errno, "snapshot '%s': cannot look at 'memory'", l->manifest->name);
        if ((uint64_t)st.st_size < l->memory->length)
            return err_set(err, EIO,
                           "snapshot '%s', which the guest runs on, was cut short: 'memory' has "
                           "%llu bytes, not %llu",
                           l->manifest->name, (unsigned long long)st.st_size,
                           (unsigned long long)l->memory->length);
    }
    return 0;
}

int reader_extents(const struct reader *r, size_t max, struct reader_extent **extents,
                   size_t *count, struct err *err)
{
    struct reader_extent next, *list = NULL;
    size_t n = 0, capacity = 0;
    for (uint64_t at = 0; reader_next_extent(r, at, &next); at = next.offset + next.length) {
        if (n == capacity) {
            capacity = capacity ? 2 * capacity : 64;
            struct reader_extent *grown = n < max ? realloc(list, capacity * sizeof(*list)) : NULL;
            if (!grown) {
                free(list);
                return err_set(err, n < max ? ENOMEM : E2BIG,
                               "the snapshot's RAM is in more than %zu pieces", n);
            }
            list = grown;
        }
        list[n++] = next;
    }
    if (n > max) {
        free(list);
        return err_set(err, E2BIG, "the snapshot's RAM is in %zu pieces, more than %zu", n, max);
    }
    *extents = list;
    *count = n;
    return 0;
}

static int prepare(struct reader *r, struct err *err)
{
    if (r->unpacker.context)
        return 0;
    r->frame = malloc(packer_bound(SNAPSHOT_CHUNK_BYTES));
    r->chunk = malloc(SNAPSHOT_CHUNK_BYTES);
    int rc = r->frame && r->chunk ? 0 : err_set(err, ENOMEM, "no memory to unpack with");
    if (rc == 0)
        rc = unpacker_init(&r->unpacker, err);
    if (rc < 0)
        reader_rest(r);
    return rc;
}

void reader_rest(struct reader *r)
{
    unpacker_fini(&r->unpacker);
    clean_free(&r->frame);
    clean_free(&r->chunk);
    r->cached_layer = -1;
}

int reader_unpack(struct reader *r, unsigned layer, uint64_t chunk, uint8_t *to, size_t *bytes,
                  struct err *err)
{
    const struct reader_layer *l = &r->layers[layer];
    uint64_t first = chunk * SNAPSHOT_CHUNK_PAGES, at = l->frame_at[chunk];
    uint64_t data = pages_count(&l->pages, first, first + SNAPSHOT_CHUNK_PAGES, PAGES_DATA);
    size_t len = (size_t)le_get(l->index + SNAPSHOT_INDEX_ENTRY * chunk, 4);
    *bytes = (size_t)data * PAGE;
    if (data == 0)
        return 0;
    int rc = prepare(r, err);
    if (rc == 0)
        rc = fileio_read(l->memory_fd, "memory", r->frame, len, at, err);
    if (rc == 0 &&
        crc32c(0, r->frame, len) != le_get(l->index + SNAPSHOT_INDEX_ENTRY * chunk + 4, 4))
        rc = err_set(err, EBADMSG, "'memory' is damaged in the %zu bytes from offset %llu on", len,
                     (unsigned long long)at);
    if (rc == 0 && (rc = unpacker_unpack(&r->unpacker, r->frame, len, to, *bytes, err)) < 0)
        rc = err_wrap(err, "'memory' at offset %llu", (unsigned long long)at);
    if (rc == 0 && crc32c(0, to, *bytes) != manifest_crc(l->memory, chunk))
        rc = err_set(err, EBADMSG, "'memory' at offset %llu unpacks to another chunk",
                     (unsigned long long)at);
    return rc < 0 ? err_wrap(err, "snapshot '%s'", l->manifest->name) : 0;
}

/* Pages of one chunk, [page, end), all data of a packed layer. */
static int read_packed(struct reader *r, int layer, uint64_t page, uint64_t end, uint8_t *to,
                       struct err *err)
{
    uint64_t chunk = page / SNAPSHOT_CHUNK_PAGES;
    size_t bytes;
    if (r->cached_layer != layer || r->cached_chunk != chunk) {
        r->cached_layer = -1;
        int rc = prepare(r, err);
        if (rc == 0)
            rc = reader_unpack(r, (unsigned)layer, chunk, r->chunk, &bytes, err);
        if (rc < 0)
            return rc;
        r->cached_layer = layer;
        r->cached_chunk = chunk;
    }
    uint64_t before =
        pages_count(&r->layers[layer].pages, chunk * SNAPSHOT_CHUNK_PAGES, page, PAGES_DATA);
    memcpy(to, r->chunk + before * PAGE, (size_t)(end - page) * PAGE);
    return 0;
}

static int read_run(struct reader *r, int layer, uint64_t page, uint64_t end, uint8_t *to,
                    struct err *err)
{
    size_t bytes = (size_t)(end - page) * PAGE;
    if (layer == READER_ZERO) {
        memset(to, 0, bytes);
        return 0;
    }
    if (r->layers[layer].packed)
        return read_packed(r, layer, page, end, to, err);
    int rc = fileio_read(r->layers[layer].memory_fd, "memory", to, bytes, page * PAGE, err);
    return rc < 0 ? err_wrap(err, "snapshot '%s'", r->layers[layer].manifest->name) : 0;
}

int reader_read(struct reader *r, uint64_t offset, void *to, uint64_t bytes, struct err *err)
{
    if (offset % PAGE || bytes % PAGE || bytes > r->ram_bytes || offset > r->ram_bytes - bytes)
        return err_set(err, EINVAL, "0x%llx bytes at RAM offset 0x%llx are not whole pages of RAM",
                       (unsigned long long)bytes, (unsigned long long)offset);
    uint64_t page = offset / PAGE, last = page + bytes / PAGE;
    uint8_t *at = to;
    int rc = 0;
    for (uint64_t end; rc == 0 && page < last; page = end) {
        end = (page / SNAPSHOT_CHUNK_PAGES + 1) * SNAPSHOT_CHUNK_PAGES;
        if (end > last)
            end = last;
        int layer = layer_of(r, page, &end);
        rc = read_run(r, layer, page, end, at, err);
        at += (end - page) * PAGE;
    }
    return rc;
}
