/* How an image ends: checksums, the small files, syncs, and last of all the manifest. See image.h.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/crc32c.h"
#include "base/le.h"
#include "snapshot/chunk.h"
#include "snapshot/image.h"

#define PAGE PAGES_PAGE_BYTES
#define FILES 4 /* state, memory, pages, index */

uint32_t *image_crc_of(const uint8_t *data, size_t len)
{
    uint64_t count = manifest_chunks(len);
    uint32_t *crc = calloc(count ? count : 1, sizeof(*crc));
    for (uint64_t i = 0; crc && i < count; i++) {
        size_t at = (size_t)i * SNAPSHOT_CHUNK_BYTES, left = len - at;
        crc[i] = crc32c(0, data + at, left < SNAPSHOT_CHUNK_BYTES ? left : SNAPSHOT_CHUNK_BYTES);
    }
    return crc;
}

/* Behind the last page that passed, a raw full image has zeros up to the chunk's end. */
static void pad(struct image_writer *w, uint64_t chunk)
{
    struct image_chunk *c = &w->chunks[chunk];
    unsigned pages = chunk_pages(w->pages.count, chunk);
    if (c->next == 0)
        c->crc = chunk_crc_zero(pages);
    else
        c->crc = chunk_crc_gap(c->crc, pages - c->next);
    c->next = (uint16_t)pages;
}

static int complete_chunks(struct image_writer *w, struct err *err)
{
    const struct pages *pages = w->diff ? &w->pages : NULL;
    int rc = 0;
    for (uint64_t i = 0; rc == 0 && i < w->nchunks; i++) {
        struct image_chunk *c = &w->chunks[i];
        if (c->stale)
            rc = chunk_read_crc(w->raw_fd, pages, w->pages.count, i, &c->crc,
                                &w->totals.reread_bytes, err);
        else if (!w->diff)
            pad(w, i);
        c->stale = false;
    }
    return rc;
}

static int write_small(struct image_writer *w, const char *name, const void *data, size_t len,
                       struct err *err)
{
    const struct fileio *io = w->options.io;
    int fd = fileio_create(io, w->options.dirfd, name, err);
    if (fd < 0)
        return fd;
    image_wrote(w, fd, name);
    return fileio_write(io, fd, name, data, len, 0, err);
}

void image_wrote(struct image_writer *w, int fd, const char *name)
{
    w->written[w->nwritten++] = (struct image_file){.fd = fd, .name = name};
}

/* All of them are on their way before the first is waited for. */
static int sync_all(struct image_writer *w, struct err *err)
{
    int rc = 0;
    for (unsigned i = 0; i < w->nwritten; i++)
        (void)sync_file_range(w->written[i].fd, 0, 0, SYNC_FILE_RANGE_WRITE);
    for (unsigned i = 0; rc == 0 && i < w->nwritten; i++)
        rc = fileio_sync(w->options.io, w->written[i].fd, w->written[i].name, err);
    return rc;
}

/* What goes into the manifest, for the time of image_finish. */
struct listing {
    Ferry__SnapshotFile files[FILES], *list[FILES];
    uint8_t *crc[FILES]; /* owned; little-endian */
    unsigned count;
};

static void clean_listing(struct listing *l)
{
    for (unsigned i = 0; i < l->count; i++)
        free(l->crc[i]);
}

static int list_file(struct listing *l, const char *name, uint64_t length, const uint32_t *crc,
                     uint64_t chunks, struct err *err)
{
    Ferry__SnapshotFile *f = &l->files[l->count];
    uint8_t *bytes = malloc(chunks ? 4 * chunks : 1);
    if (!bytes || !crc) {
        free(bytes);
        return err_set(err, ENOMEM, "no memory for the checksums of '%s'", name);
    }
    for (uint64_t i = 0; i < chunks; i++)
        le_put(bytes + 4 * i, crc[i], 4);
    ferry__snapshot_file__init(f);
    f->name = (char *)name;
    f->length = length;
    f->crc32c.data = bytes;
    f->crc32c.len = 4 * chunks;
    l->crc[l->count] = bytes;
    l->list[l->count++] = f;
    return 0;
}

static int list_memory(struct image_writer *w, struct listing *l, uint64_t length, struct err *err)
{
    CLEAN(clean_free) uint32_t *crc = malloc(w->nchunks * sizeof(*crc));
    for (uint64_t i = 0; crc && i < w->nchunks; i++)
        crc[i] = w->chunks[i].crc;
    return list_file(l, "memory", length, crc, w->nchunks, err);
}

static int finish_pages(struct image_writer *w, struct listing *l, struct err *err)
{
    if (!w->diff)
        pages_fill_zero(&w->pages);
    CLEAN(clean_free) uint32_t *crc = image_crc_of(w->pages.bytes, w->pages.size);
    int rc = write_small(w, "pages", w->pages.bytes, w->pages.size, err);
    if (rc == 0)
        rc = list_file(l, "pages", w->pages.size, crc, manifest_chunks(w->pages.size), err);
    return rc;
}

static int finish_memory(struct image_writer *w, struct listing *l, struct err *err)
{
    CLEAN(clean_free) uint32_t *index_crc = NULL;
    uint64_t length = w->options.ram_bytes, index = w->nchunks * SNAPSHOT_INDEX_ENTRY;
    int rc = w->packed ? image_pack(w, &index_crc, &length, err) : complete_chunks(w, err);
    if (rc == 0 && !w->packed)
        image_wrote(w, steal_fd(&w->raw_fd), "memory");
    if (rc == 0)
        rc = list_memory(w, l, length, err);
    if (rc == 0 && w->packed)
        rc = list_file(l, "index", index, index_crc, manifest_chunks(index), err);
    if (rc == 0 && (w->diff || w->packed))
        rc = finish_pages(w, l, err);
    if (rc == 0 && w->packed)
        w->totals.memory_bytes = length;
    return rc;
}

static int finish_manifest(struct image_writer *w, Ferry__SnapshotManifest *m, struct listing *l,
                           struct err *err)
{
    Ferry__SnapshotManifest full = *m;
    full.version = SNAPSHOT_VERSION;
    full.min_version = SNAPSHOT_VERSION;
    full.arch = (char *)SNAPSHOT_ARCH;
    full.page_bytes = PAGE;
    full.ram_bytes = w->options.ram_bytes;
    full.memory = w->options.memory;
    full.files = l->list;
    full.n_files = l->count;
    int fd = manifest_create(w->options.io, w->options.dirfd, &full, err);
    if (fd < 0)
        return err_wrap(err, "manifest");
    image_wrote(w, fd, "manifest");
    return 0;
}

static int finish(struct image_writer *w, Ferry__SnapshotManifest *m, struct err *err)
{
    CLEAN(clean_listing) struct listing l = {.count = 0};
    int rc = -w->failed.code;
    if (rc < 0) {
        *err = w->failed;
        return rc;
    }
    w->totals.data_pages = pages_count(&w->pages, 0, w->pages.count, PAGES_DATA);
    w->totals.memory_bytes = w->totals.data_pages * PAGE;
    image_wrote(w, steal_fd(&w->state_fd), "state");
    rc = list_file(&l, "state", w->state_bytes, w->state_crc, manifest_chunks(w->state_bytes), err);
    if (rc == 0)
        rc = finish_memory(w, &l, err);
    w->totals.zero_pages = pages_count(&w->pages, 0, w->pages.count, PAGES_ZERO);
    if (rc == 0)
        rc = finish_manifest(w, m, &l, err);
    return rc < 0 ? rc : sync_all(w, err);
}

int image_finish(struct image_writer *w, Ferry__SnapshotManifest *m, struct image_totals *totals,
                 struct err *err)
{
    int rc = finish(w, m, err);
    *totals = w->totals;
    image_abandon(w);
    return rc;
}
