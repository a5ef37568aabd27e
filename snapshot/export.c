/* See export.h. */
#include "snapshot/export.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/crc32c.h"
#include "base/le.h"
#include "snapshot/manifest.h"
#include "snapshot/transfer.h"
#include "vmstate/pack.h"

#define PAGE 4096u

struct exporter {
    const struct export_sink *sink; /* borrowed */
    const char *name;               /* borrowed; of the last one */
    struct pack_stream stream;
    uint8_t *data; /* owned; TRANSFER_DATA_MAX */
    uint64_t done, total;
};

static int write_out(void *ctx, const uint8_t *data, size_t len, struct err *err)
{
    const struct export_sink *sink = ctx;
    return sink->write(sink->ctx, data, len, err);
}

static int push(struct exporter *e, const void *data, size_t len, bool end, struct err *err)
{
    return pack_stream_push(&e->stream, data, len, end, write_out, (void *)e->sink, err);
}

static int put_record(struct exporter *e, enum transfer_kind kind, uint64_t offset,
                      const void *payload, size_t len, struct err *err)
{
    uint8_t head[TRANSFER_RECORD_BYTES];
    le_put(head, kind, 4);
    le_put(head + 4, len, 4);
    le_put(head + 8, offset, 8);
    le_put(head + 16, crc32c(crc32c(0, head, 16), payload, len), 4);
    int rc = push(e, head, sizeof(head), false, err);
    return rc < 0 ? rc : push(e, payload, len, false, err);
}

static bool is_zero(const uint8_t *page)
{
    static const uint8_t zeros[PAGE];
    return memcmp(page, zeros, sizeof(zeros)) == 0;
}

static size_t page_at(size_t at, size_t len)
{
    return len - at < PAGE ? len - at : PAGE;
}

/* The end of the run of pages that are zero, or are not, as the one at `at` is. */
static size_t run_end(const uint8_t *data, size_t at, size_t len, bool *zero)
{
    *zero = page_at(at, len) == PAGE && is_zero(data + at);
    do {
        at += page_at(at, len);
    } while (at < len && (page_at(at, len) == PAGE && is_zero(data + at)) == *zero);
    return at;
}

static int put_data(struct exporter *e, uint64_t offset, size_t len, struct err *err)
{
    int rc = 0;
    for (size_t at = 0, end; rc == 0 && at < len; at = end) {
        bool zero;
        end = run_end(e->data, at, len, &zero);
        if (!zero)
            rc = put_record(e, TRANSFER_DATA, offset + at, e->data + at, end - at, err);
    }
    return rc;
}

/* Where data begins at or behind `from`; the end of the file when only a hole is left. */
static uint64_t next_data(int fd, uint64_t from, uint64_t length)
{
    off_t at = lseek(fd, (off_t)from, SEEK_DATA);
    if (at < 0)
        return errno == ENXIO ? length : from;
    return (uint64_t)at < length ? (uint64_t)at / PAGE * PAGE : length;
}

static int advance(struct exporter *e, uint64_t bytes, struct err *err)
{
    e->done += bytes;
    if (e->sink->progress && !e->sink->progress(e->sink->ctx, e->done, e->total))
        return err_set(err, ECANCELED, "the export was cancelled");
    return 0;
}

static int put_file(struct exporter *e, int dirfd, const Ferry__SnapshotManifest *m,
                    const Ferry__SnapshotFile *f, struct err *err)
{
    CLEAN(clean_fd) int fd = manifest_open_file(dirfd, m, f->name, err);
    int rc = fd < 0 ? fd : put_record(e, TRANSFER_FILE, 0, f->name, strlen(f->name), err);
    for (uint64_t at = 0, next; rc == 0 && at < f->length; at = next) {
        uint64_t data = next_data(fd, at, f->length), left = f->length - data;
        size_t n = left < TRANSFER_DATA_MAX ? (size_t)left : TRANSFER_DATA_MAX;
        next = data + n;
        rc = fileio_read(fd, f->name, e->data, n, data, err);
        if (rc == 0)
            rc = put_data(e, data, n, err);
        if (rc == 0)
            rc = advance(e, next - at, err);
    }
    return rc;
}

/* It leaves under `name`: it may have been renamed since its manifest was written. */
static int put_snapshot(struct exporter *e, int dirfd, const Ferry__SnapshotManifest *m,
                        const char *name, struct err *err)
{
    Ferry__SnapshotManifest named = *m;
    struct buf bytes;
    named.name = (char *)(uintptr_t)name;
    buf_init(&bytes, MANIFEST_HEAD_BYTES + MANIFEST_BODY_MAX);
    int rc = manifest_pack(&named, &bytes, err);
    if (rc == 0)
        rc = put_record(e, TRANSFER_SNAPSHOT, 0, bytes.data, bytes.len, err);
    buf_fini(&bytes);
    for (size_t i = 0; rc == 0 && i < m->n_files; i++)
        rc = put_file(e, dirfd, m, m->files[i], err);
    return rc < 0 ? err_wrap(err, "snapshot '%s'", name) : 0;
}

static int put_all(struct exporter *e, const int *dirfds, Ferry__SnapshotManifest **manifests,
                   unsigned count, struct err *err)
{
    uint8_t head[TRANSFER_HEAD_BYTES];
    le_put(head, TRANSFER_MAGIC, 4);
    le_put(head + 4, TRANSFER_VERSION, 4);
    int rc = e->sink->write(e->sink->ctx, head, sizeof(head), err);
    for (unsigned i = 0; rc == 0 && i < count; i++)
        rc = put_snapshot(e, dirfds[i], manifests[i], i + 1 == count ? e->name : manifests[i]->name,
                          err);
    if (rc == 0)
        rc = put_record(e, TRANSFER_END, count, "", 0, err);
    return rc < 0 ? rc : push(e, "", 0, true, err);
}

static int export_dirs(struct exporter *e, const int *dirfds, unsigned count, struct err *err)
{
    Ferry__SnapshotManifest *manifests[SNAPSHOT_CHAIN_MAX] = {NULL};
    int rc = 0;
    for (unsigned i = 0; rc == 0 && i < count; i++) {
        manifests[i] = manifest_read(dirfds[i], err);
        if (!manifests[i])
            rc = -err->code;
        for (size_t k = 0; rc == 0 && k < manifests[i]->n_files; k++)
            e->total += manifests[i]->files[k]->length;
    }
    if (rc == 0)
        rc = put_all(e, dirfds, manifests, count, err);
    for (unsigned i = 0; i < count; i++)
        manifest_free(manifests[i]);
    return rc;
}

int export_snapshot(const struct catalogue *c, const char *name,
                    const struct export_options *options, const struct export_sink *sink,
                    struct err *err)
{
    struct exporter e = {.sink = sink, .name = name};
    int fds[SNAPSHOT_CHAIN_MAX];
    int n = catalogue_open_chain(c, name, fds, SNAPSHOT_CHAIN_MAX, err);
    if (n < 0)
        return n;
    unsigned first = options->alone ? (unsigned)n - 1 : 0;
    e.data = malloc(TRANSFER_DATA_MAX);
    int rc = e.data ? pack_stream_init(&e.stream, options->level, err)
                    : err_set(err, ENOMEM, "no memory to export with");
    if (rc == 0)
        rc = export_dirs(&e, fds + first, (unsigned)n - first, err);
    pack_stream_fini(&e.stream);
    free(e.data);
    while (n--)
        clean_fd(&fds[n]);
    return rc;
}
