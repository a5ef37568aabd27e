/* See image.h. How an image ends: image_finish.c. */
#include "snapshot/image.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/crc32c.h"
#include "snapshot/chunk.h"

#define PAGE PAGES_PAGE_BYTES
#define WRITEBACK_STEP (8u << 20)

static int fail(struct image_writer *w, int rc, struct err *err)
{
    if (rc < 0 && w->failed.code == 0)
        w->failed = *err;
    return rc;
}

static int check(const struct image_writer *w, struct err *err)
{
    if (w->failed.code)
        *err = w->failed;
    return -w->failed.code;
}

static int check_range(const struct image_writer *w, uint64_t offset, uint64_t bytes,
                       struct err *err)
{
    uint64_t ram = w->options.ram_bytes;
    if (offset % PAGE || bytes % PAGE || bytes > ram || offset > ram - bytes)
        return err_set(err, EINVAL, "0x%llx bytes at RAM offset 0x%llx are not whole pages of RAM",
                       (unsigned long long)bytes, (unsigned long long)offset);
    return check(w, err);
}

static int begin_memory(struct image_writer *w, struct err *err)
{
    const struct fileio *io = w->options.io;
    const char *name = w->packed ? "memory.raw" : "memory";
    w->raw_fd = fileio_create(io, w->options.dirfd, name, err);
    if (w->raw_fd < 0)
        return w->raw_fd;
    int rc = io->truncate(io->ctx, w->raw_fd, w->options.ram_bytes);
    return rc < 0 ? err_sys(err, -rc, "cannot size '%s'", name) : 0;
}

static int begin(struct image_writer *w, struct err *err)
{
    const struct image_options *o = &w->options;
    if (o->ram_bytes == 0 || o->ram_bytes % PAGE || o->ram_bytes > SNAPSHOT_RAM_MAX)
        return err_set(err, EINVAL, "an image of %llu bytes of RAM cannot be",
                       (unsigned long long)o->ram_bytes);
    int rc = pages_init(&w->pages, o->ram_bytes / PAGE, err);
    if (rc < 0)
        return rc;
    w->nchunks = manifest_chunks(o->ram_bytes);
    w->chunks = calloc(w->nchunks, sizeof(*w->chunks));
    w->state_crc = calloc(manifest_chunks(SNAPSHOT_STATE_MAX), sizeof(*w->state_crc));
    if (!w->chunks || !w->state_crc)
        return err_set(err, ENOMEM, "no memory for the checksums of an image");
    rc = begin_memory(w, err);
    if (rc == 0)
        rc = w->state_fd = fileio_create(o->io, o->dirfd, "state", err);
    return rc < 0 ? rc : 0;
}

int image_begin(struct image_writer *w, const struct image_options *options, struct err *err)
{
    const Ferry__SnapshotManifest kind = {.memory = options->memory};
    *w = (struct image_writer){.options = *options, .raw_fd = -1, .state_fd = -1};
    w->diff = manifest_is_diff(&kind);
    w->packed = manifest_is_packed(&kind);
    return fail(w, begin(w, err), err);
}

void image_abandon(struct image_writer *w)
{
    clean_fd(&w->raw_fd);
    clean_fd(&w->state_fd);
    while (w->nwritten)
        clean_fd(&w->written[--w->nwritten].fd);
    pages_fini(&w->pages);
    clean_free(&w->chunks);
    clean_free(&w->state_crc);
}

/* Pages [first, first+count) of one chunk pass by. */
static void crc_pass(struct image_writer *w, uint64_t page, unsigned count, const uint8_t *data)
{
    struct image_chunk *c = &w->chunks[page / SNAPSHOT_CHUNK_PAGES];
    unsigned first = page % SNAPSHOT_CHUNK_PAGES;
    if (first < c->next || w->packed) /* packing reads all of it anyway */
        c->stale = true;
    if (c->stale)
        return;
    if (!w->diff) /* pages that nobody writes are zeros of a full image */
        c->crc = chunk_crc_gap(c->crc, first - c->next);
    c->crc = crc32c(c->crc, data, (size_t)count * PAGE);
    c->next = (uint16_t)(first + count);
}

/* Begins writeback of what was written in a row, so that the last sync finds little to do. */
static void write_back(struct image_writer *w, uint64_t offset, uint64_t bytes)
{
    if (offset == w->sync_to) {
        w->sync_to += bytes;
        if (w->sync_to - w->sync_from < WRITEBACK_STEP)
            return;
        offset = w->sync_to;
        bytes = 0;
    }
    if (w->sync_to > w->sync_from && !w->packed)
        (void)sync_file_range(w->raw_fd, (off_t)w->sync_from, (off_t)(w->sync_to - w->sync_from),
                              SYNC_FILE_RANGE_WRITE);
    w->sync_from = offset;
    w->sync_to = offset + bytes;
}

static int write_now(struct image_writer *w, uint64_t offset, const uint8_t *data, uint64_t bytes,
                     struct err *err)
{
    uint64_t page = offset / PAGE, left = bytes / PAGE;
    pages_set(&w->pages, page, left, PAGES_DATA);
    while (left) { /* chunk by chunk: what was just copied is still in the CPU's cache */
        uint64_t room = SNAPSHOT_CHUNK_PAGES - page % SNAPSHOT_CHUNK_PAGES;
        unsigned n = (unsigned)(left < room ? left : room);
        int rc = fileio_write(w->options.io, w->raw_fd, "memory", data, (uint64_t)n * PAGE,
                              page * PAGE, err);
        if (rc < 0)
            return fail(w, rc, err);
        crc_pass(w, page, n, data);
        page += n;
        left -= n;
        data += (size_t)n * PAGE;
    }
    write_back(w, offset, bytes);
    return 0;
}

/* A page that was data before gives its room back; others are holes already. */
static int zero_run(struct image_writer *w, uint64_t page, uint64_t end, struct err *err)
{
    int rc = 0;
    if (pages_get(&w->pages, page) == PAGES_DATA)
        rc = fileio_zero(w->options.io, w->raw_fd, "memory", page * PAGE, (end - page) * PAGE, err);
    for (uint64_t at = page; rc == 0 && at < end;) {
        struct image_chunk *c = &w->chunks[at / SNAPSHOT_CHUNK_PAGES];
        if (at % SNAPSHOT_CHUNK_PAGES < c->next)
            c->stale = true;
        at += SNAPSHOT_CHUNK_PAGES - at % SNAPSHOT_CHUNK_PAGES;
    }
    pages_set(&w->pages, page, end - page, PAGES_ZERO);
    return fail(w, rc, err);
}

static int zero_now(struct image_writer *w, uint64_t offset, uint64_t bytes, struct err *err)
{
    uint64_t page = offset / PAGE, end = (offset + bytes) / PAGE;
    int rc = 0;
    for (uint64_t next; rc == 0 && page < end; page = next) {
        next = pages_run_end(&w->pages, page, end);
        rc = zero_run(w, page, next, err);
    }
    return rc;
}

int image_write_pages(struct image_writer *w, uint64_t offset, const void *data, uint64_t bytes,
                      struct err *err)
{
    int rc = check_range(w, offset, bytes, err);
    return rc < 0 || bytes == 0 ? rc : write_now(w, offset, data, bytes, err);
}

int image_write_zero(struct image_writer *w, uint64_t offset, uint64_t bytes, struct err *err)
{
    int rc = check_range(w, offset, bytes, err);
    return rc < 0 || bytes == 0 ? rc : zero_now(w, offset, bytes, err);
}

int image_write_state(struct image_writer *w, const void *data, size_t bytes, struct err *err)
{
    int rc = check(w, err);
    if (rc == 0 && bytes > SNAPSHOT_STATE_MAX - w->state_bytes)
        rc = err_set(err, EFBIG, "the state has more than %u bytes", SNAPSHOT_STATE_MAX);
    if (rc == 0)
        rc = fileio_write(w->options.io, w->state_fd, "state", data, bytes, w->state_bytes, err);
    const uint8_t *from = data;
    while (rc == 0 && bytes) {
        uint64_t room = SNAPSHOT_CHUNK_BYTES - w->state_bytes % SNAPSHOT_CHUNK_BYTES;
        size_t n = bytes < room ? bytes : (size_t)room;
        uint32_t *crc = &w->state_crc[w->state_bytes / SNAPSHOT_CHUNK_BYTES];
        *crc = crc32c(*crc, from, n);
        w->state_bytes += n;
        from += n;
        bytes -= n;
    }
    return fail(w, rc, err);
}

static int sink_pages(void *ctx, uint64_t offset, const uint8_t *data, size_t bytes,
                      struct err *err)
{
    return image_write_pages(ctx, offset, data, bytes, err);
}

static int sink_zero(void *ctx, uint64_t offset, uint64_t bytes, struct err *err)
{
    return image_write_zero(ctx, offset, bytes, err);
}

static int sink_state(void *ctx, const uint8_t *data, size_t bytes, struct err *err)
{
    return image_write_state(ctx, data, bytes, err);
}

struct page_sink image_sink(struct image_writer *w)
{
    static const struct page_sink_ops ops = {
        .pages = sink_pages, .zero = sink_zero, .state = sink_state};
    return (struct page_sink){
        .ops = &ops, .ctx = w, .wants_zero_scan = true, .starts_zero = !w->diff};
}
