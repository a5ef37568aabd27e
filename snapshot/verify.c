/* See verify.h. */
#include "snapshot/verify.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/crc32c.h"
#include "base/le.h"
#include "snapshot/chunk.h"
#include "snapshot/manifest.h"
#include "snapshot/reader.h"
#include "vmstate/section.h"

#define PAGE PAGES_PAGE_BYTES

struct verifier {
    int dirfd;                        /* borrowed */
    const Ferry__SnapshotManifest *m; /* borrowed */
    const struct verify_watch *watch; /* borrowed; may be NULL */
    struct verify_result *result;     /* borrowed */
    uint64_t total;
    uint8_t *data; /* owned; a MiB */
};

static int damage(struct verifier *v, const char *file, uint64_t offset, uint64_t length,
                  const char *what, struct err *err)
{
    snprintf(v->result->file, sizeof(v->result->file), "%s", file);
    v->result->offset = offset;
    v->result->length = length;
    return err_set(err, EBADMSG, "'%s' is damaged at offset %llu: %s in %llu bytes", file,
                   (unsigned long long)offset, what, (unsigned long long)length);
}

static int advance(struct verifier *v, uint64_t bytes, struct err *err)
{
    v->result->bytes_read += bytes;
    if (v->watch && !v->watch->progress(v->watch->ctx, v->result->bytes_read, v->total))
        return err_set(err, ECANCELED, "verification was cancelled");
    return 0;
}

static int read_piece(struct verifier *v, int fd, const char *name, uint64_t offset, size_t len,
                      struct err *err)
{
    int rc = fileio_read(fd, name, v->data, len, offset, err);
    return rc == -EIO ? damage(v, name, offset, len, "the disk gives no answer", err) : rc;
}

/* Where in a state with a wrong checksum the first damaged section begins. */
static uint64_t first_bad_section(const uint8_t *data, size_t len, size_t *left)
{
    struct span in = {.at = data, .left = len};
    struct section section;
    struct err unused;
    int rc = 1;
    do {
        *left = in.left;
    } while (in.left && (rc = section_read(&in, &section, &unused)) > 0);
    return rc < 0 ? len - *left : 0;
}

static int verify_file(struct verifier *v, const Ferry__SnapshotFile *f, struct err *err)
{
    CLEAN(clean_fd) int fd = manifest_open_file(v->dirfd, v->m, f->name, err);
    int rc = fd < 0 ? fd : 0;
    for (uint64_t at = 0; rc == 0 && at < f->length; at += SNAPSHOT_CHUNK_BYTES) {
        uint64_t left = f->length - at;
        size_t n = left < SNAPSHOT_CHUNK_BYTES ? (size_t)left : SNAPSHOT_CHUNK_BYTES;
        rc = read_piece(v, fd, f->name, at, n, err);
        if (rc == 0 && crc32c(0, v->data, n) != manifest_crc(f, at / SNAPSHOT_CHUNK_BYTES)) {
            size_t rest = n;
            uint64_t in = strcmp(f->name, "state") == 0 && f->length == n
                              ? first_bad_section(v->data, n, &rest)
                              : 0;
            rc = damage(v, f->name, at + in, in ? rest : n, "wrong checksum", err);
        }
        if (rc == 0)
            rc = advance(v, n, err);
    }
    return rc;
}

/* What is not data must read as zero: a reader may map the file as a whole. */
static int verify_gap(struct verifier *v, uint64_t page, uint64_t end, const uint8_t *data,
                      struct err *err)
{
    uint64_t length = (end - page) * PAGE;
    for (uint64_t i = 0; i < length; i++)
        if (data[i])
            return damage(v, "memory", page * PAGE + i, 1, "a byte where nothing should be", err);
    return 0;
}

static int verify_raw_chunk(struct verifier *v, const struct reader_layer *l, uint64_t chunk,
                            struct err *err)
{
    uint64_t first = chunk * SNAPSHOT_CHUNK_PAGES, at = first;
    uint64_t end = first + chunk_pages(v->m->ram_bytes / PAGE, chunk);
    uint32_t crc = 0;
    int rc = read_piece(v, l->memory_fd, "memory", first * PAGE, (size_t)(end - first) * PAGE, err);
    for (uint64_t next; rc == 0 && at < end; at = next) {
        const uint8_t *data = v->data + (at - first) * PAGE;
        next = l->mapped ? pages_run_end(&l->pages, at, end) : end;
        if (l->mapped && pages_get(&l->pages, at) != PAGES_DATA)
            rc = verify_gap(v, at, next, data, err);
        else
            crc = crc32c(crc, data, (size_t)(next - at) * PAGE);
    }
    if (rc == 0 && crc != manifest_crc(l->memory, chunk))
        rc = damage(v, "memory", first * PAGE, (end - first) * PAGE, "wrong checksum", err);
    return rc;
}

/* A hole has no bytes to read: what its chunk's checksum must be is known. */
static int verify_hole(struct verifier *v, const struct reader_layer *l, uint64_t chunk,
                       struct err *err)
{
    uint64_t first = chunk * SNAPSHOT_CHUNK_PAGES;
    unsigned pages = chunk_pages(v->m->ram_bytes / PAGE, chunk);
    if (l->mapped && pages_count(&l->pages, first, first + pages, PAGES_DATA))
        return verify_raw_chunk(v, l, chunk, err);
    uint32_t crc = l->mapped ? 0 : chunk_crc_zero(pages);
    if (crc != manifest_crc(l->memory, chunk))
        return damage(v, "memory", first * PAGE, (uint64_t)pages * PAGE, "wrong checksum", err);
    return 0;
}

/* The first offset at or behind `from` that is not in a hole; `end` when all of the rest is. */
static uint64_t next_data(int fd, uint64_t from, uint64_t end)
{
    off_t at = lseek(fd, (off_t)from, SEEK_DATA);
    if (at < 0)
        return errno == ENXIO ? end : from;
    return (uint64_t)at;
}

static int verify_raw(struct verifier *v, const struct reader_layer *l, struct err *err)
{
    uint64_t chunks = manifest_chunks(v->m->ram_bytes), data = 0;
    int rc = 0;
    for (uint64_t i = 0; rc == 0 && i < chunks; i++) {
        uint64_t at = i * SNAPSHOT_CHUNK_BYTES, end = at + SNAPSHOT_CHUNK_BYTES;
        if (data <= at)
            data = next_data(l->memory_fd, at, v->m->ram_bytes);
        rc = data >= end || data >= v->m->ram_bytes ? verify_hole(v, l, i, err)
                                                    : verify_raw_chunk(v, l, i, err);
        if (rc == 0)
            rc = advance(v, end < v->m->ram_bytes ? SNAPSHOT_CHUNK_BYTES : v->m->ram_bytes - at,
                         err);
    }
    return rc;
}

static int verify_packed(struct verifier *v, struct reader *r, struct err *err)
{
    const struct reader_layer *l = &r->layers[0];
    uint64_t chunks = manifest_chunks(v->m->ram_bytes);
    size_t bytes;
    int rc = 0;
    for (uint64_t i = 0; rc == 0 && i < chunks; i++) {
        uint64_t len = le_get(l->index + SNAPSHOT_INDEX_ENTRY * i, 4);
        rc = reader_unpack(r, 0, i, v->data, &bytes, err);
        if (rc < 0) {
            struct err cause = *err;
            rc = damage(v, "memory", l->frame_at[i], len, "a frame that does not unpack", err);
            if (cause.code != EBADMSG)
                *err = cause;
        } else if (bytes == 0 && manifest_crc(l->memory, i)) {
            rc = damage(v, "memory", l->frame_at[i], 0, "wrong checksum", err);
        }
        if (rc == 0)
            rc = advance(v, len, err);
    }
    return rc < 0 ? -err->code : 0;
}

static int verify_memory(struct verifier *v, struct err *err)
{
    struct reader r;
    int rc = reader_open_single(&r, v->dirfd, err);
    if (rc < 0)
        return rc;
    rc = r.layers[0].packed ? verify_packed(v, &r, err) : verify_raw(v, &r.layers[0], err);
    reader_close(&r);
    return rc;
}

static int verify(struct verifier *v, struct err *err)
{
    int rc = manifest_check_files(v->dirfd, v->m, err);
    for (size_t i = 0; i < v->m->n_files; i++)
        v->total += v->m->files[i]->length;
    v->data = malloc(SNAPSHOT_CHUNK_BYTES);
    if (rc == 0 && !v->data)
        rc = err_set(err, ENOMEM, "no memory to verify with");
    for (size_t i = 0; rc == 0 && i < v->m->n_files; i++)
        if (strcmp(v->m->files[i]->name, "memory") != 0)
            rc = verify_file(v, v->m->files[i], err);
    if (rc == 0)
        rc = verify_memory(v, err);
    free(v->data);
    return rc;
}

int verify_snapshot(int dirfd, const struct verify_watch *watch, struct verify_result *result,
                    struct err *err)
{
    *result = (struct verify_result){.file = ""};
    CLEAN(clean_manifest) Ferry__SnapshotManifest *m = manifest_read(dirfd, err);
    if (!m) {
        snprintf(result->file, sizeof(result->file), "manifest");
        return -err->code;
    }
    struct verifier v = {.dirfd = dirfd, .m = m, .watch = watch, .result = result};
    int rc = verify(&v, err);
    return rc < 0 ? err_wrap(err, "snapshot '%s'", m->name) : 0;
}
