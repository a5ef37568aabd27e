/* See reader.h. What is in RAM: reader_memory.c. */
#include "snapshot/reader.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/crc32c.h"
#include "base/le.h"

int reader_load_file(int dirfd, const Ferry__SnapshotManifest *m, const char *name, struct buf *out,
                     uint64_t *bad_offset, struct err *err)
{
    const Ferry__SnapshotFile *file = manifest_file(m, name);
    CLEAN(clean_fd) int fd = manifest_open_file(dirfd, m, name, err);
    if (fd < 0)
        return fd;
    uint8_t *to = buf_reserve(out, (size_t)file->length);
    if (!to)
        return err_set(err, ENOMEM, "no memory for the %llu bytes of '%s'",
                       (unsigned long long)file->length, name);
    int rc = fileio_read(fd, name, to, (size_t)file->length, 0, err);
    for (uint64_t at = 0; rc == 0 && at < file->length; at += SNAPSHOT_CHUNK_BYTES) {
        uint64_t left = file->length - at;
        size_t n = left < SNAPSHOT_CHUNK_BYTES ? (size_t)left : SNAPSHOT_CHUNK_BYTES;
        if (crc32c(0, to + at, n) == manifest_crc(file, at / SNAPSHOT_CHUNK_BYTES))
            continue;
        if (bad_offset)
            *bad_offset = at;
        rc = err_set(err, EBADMSG, "'%s' is damaged in the %zu bytes from offset %llu on", name, n,
                     (unsigned long long)at);
    }
    if (rc == 0)
        out->len += (size_t)file->length;
    return rc;
}

static int load_pages(struct reader_layer *l, int dirfd, struct err *err)
{
    struct buf in;
    int rc = pages_init(&l->pages, l->manifest->ram_bytes / PAGES_PAGE_BYTES, err);
    if (rc < 0)
        return rc;
    buf_init(&in, l->pages.size);
    rc = reader_load_file(dirfd, l->manifest, "pages", &in, NULL, err);
    if (rc == 0) {
        memcpy(l->pages.bytes, in.data, l->pages.size);
        rc = pages_check(&l->pages, !manifest_is_diff(l->manifest), err);
    }
    buf_fini(&in);
    l->mapped = true;
    return rc;
}

/* Frames lie side by side; a chunk has one when it has data pages; the last ends with the file. */
static int check_index(struct reader_layer *l, uint64_t chunks, struct err *err)
{
    uint64_t at = 0;
    for (uint64_t i = 0; i < chunks; i++) {
        uint64_t first = i * SNAPSHOT_CHUNK_PAGES, len = le_get(l->index + 8 * i, 4);
        bool data = pages_count(&l->pages, first, first + SNAPSHOT_CHUNK_PAGES, PAGES_DATA) != 0;
        l->frame_at[i] = at;
        if (data != (len != 0) || len > packer_bound(SNAPSHOT_CHUNK_BYTES))
            return err_set(err, EBADMSG, "'index' has a frame of %llu bytes for chunk %llu",
                           (unsigned long long)len, (unsigned long long)i);
        at += len;
    }
    if (at != l->memory->length)
        return err_set(err, EBADMSG, "'index' has %llu bytes of frames, 'memory' %llu",
                       (unsigned long long)at, (unsigned long long)l->memory->length);
    return 0;
}

static int load_index(struct reader_layer *l, int dirfd, struct err *err)
{
    struct buf in;
    uint64_t chunks = manifest_chunks(l->manifest->ram_bytes);
    buf_init(&in, (size_t)chunks * SNAPSHOT_INDEX_ENTRY);
    int rc = reader_load_file(dirfd, l->manifest, "index", &in, NULL, err);
    l->index = steal_ptr(&in.data);
    l->frame_at = rc == 0 ? calloc(chunks, sizeof(*l->frame_at)) : NULL;
    if (rc == 0 && !l->frame_at)
        rc = err_set(err, ENOMEM, "no memory for an index");
    return rc < 0 ? rc : check_index(l, chunks, err);
}

static int open_layer(struct reader_layer *l, int dirfd, struct err *err)
{
    l->memory_fd = -1;
    l->manifest = manifest_read(dirfd, err);
    if (!l->manifest)
        return -err->code;
    l->packed = manifest_is_packed(l->manifest);
    l->memory = manifest_file(l->manifest, "memory");
    int rc = manifest_check_files(dirfd, l->manifest, err);
    if (rc == 0)
        rc = l->memory_fd = manifest_open_file(dirfd, l->manifest, "memory", err);
    if (rc >= 0 && manifest_has_pages(l->manifest))
        rc = load_pages(l, dirfd, err);
    if (rc >= 0 && l->packed)
        rc = load_index(l, dirfd, err);
    return rc < 0 ? err_wrap(err, "snapshot '%s'", l->manifest->name) : 0;
}

static bool same_regions(const Ferry__SnapshotManifest *a, const Ferry__SnapshotManifest *b)
{
    if (a->n_regions != b->n_regions)
        return false;
    for (size_t i = 0; i < a->n_regions; i++)
        if (a->regions[i]->gpa != b->regions[i]->gpa || a->regions[i]->size != b->regions[i]->size)
            return false;
    return true;
}

/* A layer on the one below it, NULL for the lowest. */
static int check_link(const Ferry__SnapshotManifest *m, const Ferry__SnapshotManifest *below,
                      struct err *err)
{
    if (!below && m->parent)
        return err_set(err, ENOENT, "snapshot '%s' needs its parent '%s'", m->name,
                       m->parent->name);
    if (below && !m->parent)
        return err_set(err, EINVAL, "snapshot '%s' is full and has nothing below it", m->name);
    if (below && !manifest_same_uuid(&m->parent->uuid, &below->uuid))
        return err_set(err, EBADMSG, "snapshot '%s' needs '%s', which '%s' is not", m->name,
                       m->parent->name, below->name);
    if (below && (m->ram_bytes != below->ram_bytes || !same_regions(m, below)))
        return err_set(err, EBADMSG, "snapshots '%s' and '%s' have other regions of RAM", m->name,
                       below->name);
    return 0;
}

static int open_layers(struct reader *r, const int *dirfds, unsigned count, bool linked,
                       struct err *err)
{
    int rc = 0;
    r->layers = calloc(count, sizeof(*r->layers));
    if (!r->layers)
        return err_set(err, ENOMEM, "no memory to open a snapshot with");
    for (unsigned i = 0; rc == 0 && i < count; i++) {
        r->count = i + 1;
        rc = open_layer(&r->layers[i], dirfds[i], err);
        if (rc == 0 && linked)
            rc = check_link(r->layers[i].manifest, i ? r->layers[i - 1].manifest : NULL, err);
    }
    return rc;
}

static int open_chain(struct reader *r, const int *dirfds, unsigned count, bool linked,
                      struct err *err)
{
    *r = (struct reader){.cached_layer = -1};
    if (count == 0 || count > SNAPSHOT_CHAIN_MAX)
        return err_set(err, EINVAL, "a chain of %u snapshots cannot be read", count);
    int rc = open_layers(r, dirfds, count, linked, err);
    if (rc < 0) {
        reader_close(r);
        return rc;
    }
    r->ram_bytes = reader_manifest(r)->ram_bytes;
    r->npages = r->ram_bytes / PAGES_PAGE_BYTES;
    return 0;
}

int reader_open_dirs(struct reader *r, const int *dirfds, unsigned count, struct err *err)
{
    return open_chain(r, dirfds, count, true, err);
}

int reader_open_single(struct reader *r, int dirfd, struct err *err)
{
    return open_chain(r, &dirfd, 1, false, err);
}

int reader_open(struct reader *r, const struct catalogue *c, const char *name, struct err *err)
{
    int fds[SNAPSHOT_CHAIN_MAX];
    *r = (struct reader){.cached_layer = -1};
    int n = catalogue_open_chain(c, name, fds, SNAPSHOT_CHAIN_MAX, err);
    if (n < 0)
        return n;
    int rc = reader_open_dirs(r, fds, (unsigned)n, err);
    while (n--)
        clean_fd(&fds[n]);
    return rc;
}

void reader_close(struct reader *r)
{
    for (unsigned i = 0; i < r->count; i++) {
        struct reader_layer *l = &r->layers[i];
        manifest_free(l->manifest);
        clean_fd(&l->memory_fd);
        pages_fini(&l->pages);
        free(l->index);
        free(l->frame_at);
    }
    reader_rest(r);
    free(r->layers);
    *r = (struct reader){.cached_layer = -1};
}

const Ferry__SnapshotManifest *reader_manifest(const struct reader *r)
{
    return r->layers[r->count - 1].manifest;
}

int reader_state(const struct reader *r, int dirfd, struct buf *out, struct err *err)
{
    const Ferry__SnapshotManifest *m = reader_manifest(r);
    int rc = reader_load_file(dirfd, m, "state", out, NULL, err);
    return rc < 0 ? err_wrap(err, "snapshot '%s'", m->name) : 0;
}
