/* See remake.h. */
#include "tests/kvm/remake.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "snapshot/image.h"

#define PAGE PAGES_PAGE_BYTES
#define BLOCK SNAPSHOT_CHUNK_BYTES

static struct catalogue catalogue_of(const struct host *h)
{
    char path[200];
    snprintf(path, sizeof(path), "%s/root/snapshots", h->dir);
    struct catalogue c = {.fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC),
                          .io = &fileio_system};
    assert_true(c.fd >= 0);
    return c;
}

static void must(int rc, const struct err *err)
{
    if (rc < 0)
        fail_msg("%s", err->text);
}

void remake_open(const struct host *h, const char *name, struct reader *r)
{
    struct err err = {0};
    struct catalogue c = catalogue_of(h);
    must(reader_open(r, &c, name, &err), &err);
    close(c.fd);
}

static bool is_zero(const uint8_t *page)
{
    return page[0] == 0 && memcmp(page, page + 1, PAGE - 1) == 0;
}

/* `below` is NULL for a full one. */
static void write_memory(struct image_writer *w, struct reader *from, struct reader *below)
{
    struct err err = {0};
    CLEAN(clean_free) uint8_t *now = malloc(BLOCK);
    CLEAN(clean_free) uint8_t *then = malloc(BLOCK);
    for (uint64_t at = 0; at < from->ram_bytes; at += BLOCK) {
        uint64_t n = from->ram_bytes - at < BLOCK ? from->ram_bytes - at : BLOCK;
        must(reader_read(from, at, now, n, &err), &err);
        if (below)
            must(reader_read(below, at, then, n, &err), &err);
        for (uint64_t p = 0; p < n; p += PAGE) {
            if (below && memcmp(now + p, then + p, PAGE) == 0)
                continue;
            must(is_zero(now + p) ? image_write_zero(w, at + p, PAGE, &err)
                                  : image_write_pages(w, at + p, now + p, PAGE, &err),
                 &err);
        }
    }
}

static void write_state(struct image_writer *w, struct reader *from, const struct remake *how,
                        const struct catalogue *c)
{
    struct err err = {0};
    struct buf state;
    CLEAN(clean_fd) int dirfd = catalogue_open(c, how->from, &err);
    buf_init(&state, SNAPSHOT_STATE_MAX);
    must(reader_state(from, dirfd, &state, &err), &err);
    if (how->edit_state)
        how->edit_state(&state);
    must(image_write_state(w, state.data, state.len, &err), &err);
    buf_fini(&state);
}

static void finish(struct image_writer *w, const struct remake *how, const struct reader *from,
                   const struct reader *below, struct uuid *uuid)
{
    struct err err = {0};
    struct image_totals totals;
    Ferry__SnapshotManifest m = *reader_manifest(from);
    Ferry__SnapshotRef parent = FERRY__SNAPSHOT_REF__INIT;
    m.name = (char *)(uintptr_t)how->name;
    m.uuid = (ProtobufCBinaryData){.data = uuid->bytes, .len = sizeof(uuid->bytes)};
    m.files = NULL;
    m.n_files = 0;
    m.parent = NULL;
    if (below) {
        parent.name = reader_manifest(below)->name;
        parent.uuid = reader_manifest(below)->uuid;
        m.parent = &parent;
    }
    if (how->edit)
        how->edit(&m);
    must(image_finish(w, &m, &totals, &err), &err);
}

void remake(const struct host *h, const struct remake *how)
{
    struct err err = {0};
    struct catalogue c = catalogue_of(h);
    struct reader from, below;
    struct image_writer w;
    struct uuid uuid;
    remake_open(h, how->from, &from);
    if (how->parent)
        remake_open(h, how->parent, &below);
    must(uuid_make(&uuid, &err), &err);
    int dirfd = catalogue_begin(&c, &uuid, &err);
    must(dirfd, &err);
    struct image_options options = {
        .io = &fileio_system, .dirfd = dirfd, .ram_bytes = from.ram_bytes, .memory = how->memory};
    must(image_begin(&w, &options, &err), &err);
    write_memory(&w, &from, how->parent ? &below : NULL);
    write_state(&w, &from, how, &c);
    finish(&w, how, &from, how->parent ? &below : NULL, &uuid);
    close(dirfd);
    must(catalogue_publish(&c, &uuid, how->name, &err), &err);
    reader_close(&from);
    if (how->parent)
        reader_close(&below);
    close(c.fd);
}

unsigned remake_compare(const struct host *h, const char *a, const char *b)
{
    struct err err = {0};
    struct reader one, other;
    unsigned differ = 0;
    CLEAN(clean_free) uint8_t *left = malloc(PAGE);
    CLEAN(clean_free) uint8_t *right = malloc(PAGE);
    remake_open(h, a, &one);
    remake_open(h, b, &other);
    assert_int_equal(one.ram_bytes, other.ram_bytes);
    for (uint64_t at = 0; at < one.ram_bytes; at += PAGE) {
        must(reader_read(&one, at, left, PAGE, &err), &err);
        must(reader_read(&other, at, right, PAGE, &err), &err);
        differ += memcmp(left, right, PAGE) != 0;
    }
    reader_close(&one);
    reader_close(&other);
    return differ;
}
