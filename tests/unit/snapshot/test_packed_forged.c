/*
 * Packed images whose checksums are right and whose contents are not: the index, the map of pages
 * and the frames tell different stories. Each is refused, by the reader when it opens or reads it
 * and by verify, with a sentence that names the file.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "base/crc32c.h"
#include "base/le.h"
#include "snapshot/reader.h"
#include "snapshot/verify.h"
#include "tests/unit/snapshot/fixture.h"
#include "vmstate/pack.h"

#define PACKED_FULL FERRY__SNAPSHOT_MEMORY__SNAPSHOT_MEMORY_PACKED_FULL

/* Chunk 0 has 3 data pages, chunk 1 none, chunk 2 one. */
struct image {
    uint8_t *index, *pages, *memory; /* owned */
    size_t index_len, pages_len, memory_len;
};

struct forgery {
    const char *what;
    void (*change)(struct image *i);
    const char *refused; /* the sentence has this */
};

static void set_frame(struct image *i, unsigned chunk, uint64_t len)
{
    le_put(i->index + SNAPSHOT_INDEX_ENTRY * chunk, len, 4);
}

static uint64_t frame(const struct image *i, unsigned chunk)
{
    return le_get(i->index + SNAPSHOT_INDEX_ENTRY * chunk, 4);
}

static void set_page(struct image *i, unsigned page, unsigned code)
{
    uint8_t *byte = &i->pages[page / 4];
    *byte = (uint8_t)((*byte & ~(3u << page % 4 * 2)) | code << page % 4 * 2);
}

/* The checksum of each frame where the index says that it lies. */
static void seal_frames(struct image *i)
{
    uint64_t at = 0;
    for (unsigned chunk = 0; chunk < 3 && frame(i, chunk) <= i->memory_len - at; chunk++) {
        le_put(i->index + SNAPSHOT_INDEX_ENTRY * chunk + 4,
               crc32c(0, i->memory + at, frame(i, chunk)), 4);
        at += frame(i, chunk);
    }
}

static void no_frame(struct image *i)
{
    set_frame(i, 0, 0);
}

static void frame_of_a_byte(struct image *i)
{
    set_frame(i, 0, 1);
}

static void frame_2_31(struct image *i)
{
    set_frame(i, 0, 1u << 31);
}

static void frame_2_32(struct image *i)
{
    set_frame(i, 0, 0xffffffffu);
}

static void frame_longer(struct image *i)
{
    set_frame(i, 2, frame(i, 2) + 1);
}

static void frame_shorter(struct image *i)
{
    set_frame(i, 2, frame(i, 2) - 1);
}

/* The sum stays, so only the bytes tell. */
static void frames_moved(struct image *i)
{
    set_frame(i, 0, frame(i, 0) + 1);
    set_frame(i, 2, frame(i, 2) - 1);
    seal_frames(i);
}

static void frame_for_nothing(struct image *i)
{
    set_frame(i, 1, 10);
    set_frame(i, 2, frame(i, 2) - 10);
}

static void frame_checksum(struct image *i)
{
    i->index[4] ^= 1;
}

static void more_pages(struct image *i)
{
    set_page(i, 77, PAGES_DATA);
}

static void fewer_pages(struct image *i)
{
    set_page(i, 1, PAGES_ZERO);
}

static void other_page(struct image *i)
{
    set_page(i, 1, PAGES_ZERO);
    set_page(i, 256 + 1, PAGES_DATA);
}

static void page_code_3(struct image *i)
{
    set_page(i, 300, 3);
}

static void page_of_no_parent(struct image *i)
{
    set_page(i, 300, PAGES_PARENT);
}

static void page_behind_the_end(struct image *i)
{
    i->pages[i->pages_len - 1] |= 0x40;
}

static void trailing_byte(struct image *i)
{
    i->memory = realloc(i->memory, ++i->memory_len);
    i->memory[i->memory_len - 1] = 0;
}

/* Another packer's frame in place of the first: pages as many as `bytes` has. */
static void put_frame(struct image *i, size_t bytes)
{
    static uint8_t plain[8 << 20], out[9 << 20];
    struct packer p;
    struct err err;
    size_t old = (size_t)frame(i, 0), rest = i->memory_len - old;
    assert_int_equal(packer_init(&p, 0, &err), 0);
    ssize_t n = packer_pack(&p, plain, bytes, out, sizeof(out), &err);
    packer_fini(&p);
    assert_true(n > 0);
    memcpy(out + n, i->memory + old, rest);
    free(i->memory);
    i->memory_len = (size_t)n + rest;
    i->memory = malloc(i->memory_len);
    assert_non_null(i->memory);
    memcpy(i->memory, out, i->memory_len);
    set_frame(i, 0, (uint64_t)n);
    seal_frames(i);
}

static void other_bytes(struct image *i)
{
    put_frame(i, 3 * 4096);
}

static void frame_too_large(struct image *i)
{
    put_frame(i, 4 * 4096);
}

static void frame_bomb(struct image *i)
{
    put_frame(i, 8 << 20);
}

static void no_zstd(struct image *i)
{
    memset(i->memory, 0xff, 4);
    seal_frames(i);
}

// clang-format off
static const struct forgery forgeries[] = {
    {"no frame for a chunk with pages",     no_frame,            "'index' has a frame of 0 bytes"},
    {"a frame of one byte",                 frame_of_a_byte,     "'index'"},
    {"a frame of 2^31 bytes",               frame_2_31,          "'index' has a frame of 2147483648"},
    {"a frame of 2^32-1 bytes",             frame_2_32,          "'index' has a frame of 4294967295"},
    {"frames longer than memory",           frame_longer,        "'index'"},
    {"frames shorter than memory",          frame_shorter,       "'index'"},
    {"a frame that begins in another",      frames_moved,        "'memory'"},
    {"a frame for a chunk without pages",   frame_for_nothing,   "'index' has a frame of 10 bytes"},
    {"a frame with a wrong checksum",       frame_checksum,      "'memory'"},
    {"a page more than the frame has",      more_pages,          "'memory'"},
    {"a page less than the frame has",      fewer_pages,         "'memory'"},
    {"a page in a chunk without a frame",   other_page,          "'index' has a frame of 0 bytes"},
    {"a page of an unknown kind",           page_code_3,         "'pages'"},
    {"a page of the parent in a full one",  page_of_no_parent,   "'pages'"},
    {"a page behind the end of RAM",        page_behind_the_end, "'pages'"},
    {"a byte behind the last frame",        trailing_byte,       "'index'"},
    {"a frame of other pages",              other_bytes,         "'memory'"},
    {"a frame of too many pages",           frame_too_large,     "'memory'"},
    {"a frame of 8 MiB",                    frame_bomb,          "'memory'"},
    {"a frame that is none",                no_zstd,             "'memory'"},
};
// clang-format on

/* The manifest says what the files are now: only memory's checksums are of what it should be. */
static void store(struct fixture *f, Ferry__SnapshotManifest *m, const struct image *i)
{
    const struct {
        const char *name;
        const uint8_t *data;
        size_t len;
    } files[] = {{"index", i->index, i->index_len},
                 {"pages", i->pages, i->pages_len},
                 {"memory", i->memory, i->memory_len}};
    struct buf out;
    struct err err = {0};
    for (unsigned k = 0; k < 3; k++) {
        Ferry__SnapshotFile *file = (Ferry__SnapshotFile *)manifest_file(m, files[k].name);
        fixture_store(f, "s", files[k].name, files[k].data, files[k].len);
        file->length = files[k].len;
        if (k < 2)
            le_put(file->crc32c.data, crc32c(0, files[k].data, files[k].len), 4);
    }
    buf_init(&out, MANIFEST_HEAD_BYTES + MANIFEST_BODY_MAX);
    if (manifest_pack(m, &out, &err) < 0)
        fail_msg("%s", err.text);
    fixture_store(f, "s", "manifest", out.data, out.len);
    buf_fini(&out);
}

static struct image load(struct fixture *f)
{
    struct image i;
    i.index = fixture_load(f, "s", "index", &i.index_len);
    i.pages = fixture_load(f, "s", "pages", &i.pages_len);
    i.memory = fixture_load(f, "s", "memory", &i.memory_len);
    return i;
}

static void unload(struct image *i)
{
    free(i->index);
    free(i->pages);
    free(i->memory);
}

/* 0 when all of RAM could be read. */
static int read_all(struct fixture *f, struct err *err)
{
    static uint8_t ram[FIXTURE_RAM];
    struct reader r;
    int rc = reader_open(&r, &f->catalogue, "s", err);
    if (rc < 0)
        return rc;
    rc = reader_read(&r, 0, ram, FIXTURE_RAM, err);
    reader_close(&r);
    return rc;
}

static int verify(struct fixture *f, struct err *err)
{
    struct verify_result result;
    CLEAN(clean_fd) int fd = catalogue_open(&f->catalogue, "s", err);
    return verify_snapshot(fd, NULL, &result, err);
}

static void test_forged(void **state)
{
    struct fixture *f = *state;
    struct err err = {0};
    size_t len;
    fixture_fill(f, 1, 3, 5);
    fixture_fill(f, 2 * 256 + 2, 1, 5);
    assert_int_equal(fixture_take(f, "s", 1, PACKED_FULL, NULL, 0, NULL, &err), 0);
    CLEAN(clean_free) uint8_t *whole = fixture_load(f, "s", "manifest", &len);
    Ferry__SnapshotManifest *m = manifest_unpack(whole, len, &err);
    struct image good = load(f);
    for (size_t k = 0; k < sizeof(forgeries) / sizeof(forgeries[0]); k++) {
        const struct forgery *forgery = &forgeries[k];
        struct image forged = load(f);
        forgery->change(&forged);
        store(f, m, &forged);
        for (unsigned reader = 0; reader < 2; reader++) {
            int rc = reader ? read_all(f, &err) : verify(f, &err);
            if (rc == 0 || !strstr(err.text, forgery->refused))
                fail_msg("%s: %s", forgery->what, rc ? err.text : "is taken");
        }
        unload(&forged);
        store(f, m, &good);
    }
    assert_int_equal(read_all(f, &err), 0); /* and the good one is one */
    assert_int_equal(verify(f, &err), 0);
    unload(&good);
    manifest_free(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_forged, fixture_setup, fixture_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
