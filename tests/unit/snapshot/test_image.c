/* What a capture writes is what a reader reads, in every kind of image; and it takes no more room.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <fcntl.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "snapshot/reader.h"
#include "snapshot/verify.h"
#include "tests/unit/snapshot/fixture.h"

#define RAW_FULL FERRY__SNAPSHOT_MEMORY__SNAPSHOT_MEMORY_RAW_FULL
#define RAW_DIFF FERRY__SNAPSHOT_MEMORY__SNAPSHOT_MEMORY_RAW_DIFF
#define PACKED_FULL FERRY__SNAPSHOT_MEMORY__SNAPSHOT_MEMORY_PACKED_FULL
#define PACKED_DIFF FERRY__SNAPSHOT_MEMORY__SNAPSHOT_MEMORY_PACKED_DIFF

static void take(struct fixture *f, const char *name, unsigned id, Ferry__SnapshotMemory memory,
                 const char *parent, unsigned parent_id, const uint8_t *base)
{
    struct err err = {0};
    if (fixture_take(f, name, id, memory, parent, parent_id, base, &err) < 0)
        fail_msg("%s: %s", name, err.text);
}

static void check_verify(struct fixture *f, const char *name)
{
    struct verify_result result;
    struct err err = {0};
    CLEAN(clean_fd) int fd = catalogue_open(&f->catalogue, name, &err);
    if (fd < 0 || verify_snapshot(fd, NULL, &result, &err) < 0)
        fail_msg("%s: %s", name, err.text);
}

static void check_ram(struct fixture *f, const char *name, const uint8_t *ram)
{
    struct reader r;
    struct err err = {0};
    CLEAN(clean_free) uint8_t *got = malloc(FIXTURE_RAM);
    if (reader_open(&r, &f->catalogue, name, &err) < 0)
        fail_msg("%s: %s", name, err.text);
    memset(got, 0xaa, FIXTURE_RAM);
    if (reader_read(&r, 0, got, FIXTURE_RAM, &err) < 0)
        fail_msg("%s: %s", name, err.text);
    assert_memory_equal(got, ram, FIXTURE_RAM);
    for (unsigned i = 0; i < 200; i++) { /* pieces at random, across chunks */
        uint64_t page = (uint64_t)rand() % FIXTURE_PAGES;
        uint64_t count = 1 + (uint64_t)rand() % (FIXTURE_PAGES - page);
        memset(got, 0xaa, FIXTURE_RAM);
        assert_int_equal(reader_read(&r, page * 4096, got, count * 4096, &err), 0);
        assert_memory_equal(got, ram + page * 4096, count * 4096);
    }
    reader_close(&r);
    check_verify(f, name);
}

static uint64_t blocks_of(struct fixture *f, const char *path)
{
    struct stat st;
    assert_int_equal(fstatat(f->dir, path, &st, 0), 0);
    return (uint64_t)st.st_blocks * 512;
}

static void test_full_raw(void **state)
{
    struct fixture *f = *state;
    fixture_fill(f, 3, 10, 1);
    fixture_fill(f, 255, 2, 1); /* across a chunk */
    fixture_fill(f, FIXTURE_PAGES - 1, 1, 1);
    take(f, "s", 1, RAW_FULL, NULL, 0, NULL);
    check_ram(f, "s", f->ram);
    size_t len;
    CLEAN(clean_free) uint8_t *file = fixture_load(f, "s", "memory", &len);
    assert_int_equal(len, FIXTURE_RAM);
    assert_memory_equal(file, f->ram, len);
    assert_true(blocks_of(f, "s/memory") <= 13 * 4096 + 65536);
    assert_int_equal(fixture_count(f, "."), 0);
}

static void test_zero_ram_takes_no_room(void **state)
{
    struct fixture *f = *state;
    take(f, "raw", 1, RAW_FULL, NULL, 0, NULL);
    take(f, "packed", 2, PACKED_FULL, NULL, 0, NULL);
    assert_int_equal(blocks_of(f, "raw/memory"), 0);
    assert_int_equal(blocks_of(f, "packed/memory"), 0);
    check_ram(f, "raw", f->ram);
    check_ram(f, "packed", f->ram);
}

static void test_packed(void **state)
{
    struct fixture *f = *state;
    fixture_fill(f, 0, 300, 1);
    fixture_fill(f, FIXTURE_PAGES - 2, 2, 7);
    take(f, "p", 1, PACKED_FULL, NULL, 0, NULL);
    check_ram(f, "p", f->ram);
    assert_true(blocks_of(f, "p/memory") < 300 * 4096);
}

/* Layers of all kinds on each other, a page that is zero in the upper one, one that comes back. */
static void test_chain(void **state)
{
    struct fixture *f = *state;
    static const Ferry__SnapshotMemory kinds[][4] = {
        {RAW_FULL, RAW_DIFF, RAW_DIFF, RAW_DIFF},
        {PACKED_FULL, RAW_DIFF, PACKED_DIFF, RAW_DIFF},
        {RAW_FULL, PACKED_DIFF, PACKED_DIFF, PACKED_DIFF},
    };
    uint8_t *base = malloc(FIXTURE_RAM), *old[4];
    for (unsigned k = 0; k < 3; k++) {
        char names[4][16];
        fixture_fill(f, 0, FIXTURE_PAGES, 1);
        fixture_fill(f, 100, 20, 0);
        for (unsigned i = 0; i < 4; i++) {
            unsigned id = 1 + 10 * k + i;
            snprintf(names[i], sizeof(names[i]), "s%u-%u", k, i);
            if (i) {
                fixture_fill(f, 10 * i, 5, 0);                 /* becomes zero */
                fixture_fill(f, 10 * i - 8, 3, 50 + i);        /* changes */
                fixture_fill(f, 100 + i, 1, 60 + i);           /* was zero */
                fixture_fill(f, 250 + i, 10, 70 + i);          /* across chunks */
                fixture_fill(f, FIXTURE_PAGES - i, 1, 80 + i); /* at the end */
            }
            take(f, names[i], id, kinds[k][i], i ? names[i - 1] : NULL, id - 1, i ? base : NULL);
            memcpy(base, f->ram, FIXTURE_RAM);
            old[i] = malloc(FIXTURE_RAM);
            memcpy(old[i], f->ram, FIXTURE_RAM);
        }
        for (unsigned i = 0; i < 4; i++) { /* the lower ones are as they were */
            check_ram(f, names[i], old[i]);
            free(old[i]);
        }
    }
    free(base);
}

static void test_diff_is_small(void **state)
{
    struct fixture *f = *state;
    CLEAN(clean_free) uint8_t *base = malloc(FIXTURE_RAM);
    fixture_fill(f, 0, FIXTURE_PAGES, 1);
    memcpy(base, f->ram, FIXTURE_RAM);
    take(f, "full", 1, RAW_FULL, NULL, 0, NULL);
    fixture_fill(f, 200, 2, 9);
    take(f, "diff", 2, RAW_DIFF, "full", 1, base);
    assert_true(blocks_of(f, "diff/memory") <= 2 * 4096 + 8192);
    check_ram(f, "diff", f->ram);
}

/* Rounds of a live capture: pages come again, in any order, as data or as zeros; the last counts.
 */
static void rounds(struct fixture *f, Ferry__SnapshotMemory memory, unsigned id)
{
    struct image_writer w;
    struct image_totals totals;
    struct fixture_manifest fm;
    struct err err = {0};
    struct uuid uuid = fixture_uuid(id);
    char name[16];
    CLEAN(clean_fd) int dirfd = -1;
    snprintf(name, sizeof(name), "r%u", id);
    memset(f->ram, 0, FIXTURE_RAM);
    assert_int_equal(fixture_begin(f, id, memory, &w, &dirfd, &err), 0);
    for (unsigned i = 0; i < 400; i++) {
        unsigned page = (unsigned)rand() % FIXTURE_PAGES;
        unsigned count = 1 + (unsigned)rand() % 40;
        if (count > FIXTURE_PAGES - page)
            count = FIXTURE_PAGES - page;
        unsigned seed = (unsigned)rand() % 3;
        fixture_fill(f, page, count, seed);
        int rc =
            seed ? image_write_pages(&w, page * 4096u, f->ram + page * 4096u, count * 4096u, &err)
                 : image_write_zero(&w, page * 4096u, count * 4096u, &err);
        assert_int_equal(rc, 0);
    }
    assert_int_equal(image_write_state(&w, "state", 5, &err), 0);
    fixture_manifest(&fm, name, id, NULL, 0);
    if (image_finish(&w, &fm.m, &totals, &err) < 0)
        fail_msg("%s", err.text);
    assert_int_equal(
        totals.data_pages + (memory == PACKED_FULL ? totals.zero_pages : 0) <= FIXTURE_PAGES, 1);
    if (catalogue_publish(&f->catalogue, &uuid, name, &err) < 0)
        fail_msg("%s", err.text);
    check_ram(f, name, f->ram);
}

static void test_rounds(void **state)
{
    srand(1);
    for (unsigned i = 0; i < 3; i++) {
        rounds(*state, RAW_FULL, 10 + i);
        rounds(*state, PACKED_FULL, 30 + i);
    }
}

/* As a capture sees it. */
static void test_sink(void **state)
{
    struct fixture *f = *state;
    struct image_writer w;
    struct image_totals totals;
    struct fixture_manifest fm;
    struct err err = {0};
    struct uuid uuid = fixture_uuid(1);
    CLEAN(clean_fd) int dirfd = -1;
    fixture_fill(f, 5, 300, 3);
    fixture_fill(f, 20, 4, 0);
    assert_int_equal(fixture_begin(f, 1, RAW_FULL, &w, &dirfd, &err), 0);
    struct page_sink sink = image_sink(&w);
    assert_true(sink.starts_zero && sink.wants_zero_scan);
    assert_int_equal(sink.ops->pages(sink.ctx, 5 * 4096, f->ram + 5 * 4096, 300 * 4096, &err), 0);
    assert_int_equal(sink.ops->zero(sink.ctx, 20 * 4096, 4 * 4096, &err), 0);
    assert_int_equal(sink.ops->state(sink.ctx, (const uint8_t *)"state", 5, &err), 0);
    fixture_manifest(&fm, "s", 1, NULL, 0);
    if (image_finish(&w, &fm.m, &totals, &err) < 0)
        fail_msg("%s", err.text);
    assert_int_equal(totals.data_pages, 296);
    assert_int_equal(catalogue_publish(&f->catalogue, &uuid, "s", &err), 0);
    check_ram(f, "s", f->ram);
    w.diff = true; /* of a diff, what is not told is in the parent */
    assert_false(image_sink(&w).starts_zero);
}

/* In order, nothing has to be read back for the checksums. */
static void test_sequential_is_not_reread(void **state)
{
    struct fixture *f = *state;
    struct image_writer w;
    struct image_totals totals;
    struct fixture_manifest fm;
    struct err err = {0};
    CLEAN(clean_fd) int dirfd = -1;
    fixture_fill(f, 0, FIXTURE_PAGES, 3);
    fixture_manifest(&fm, "s", 1, NULL, 0);
    assert_int_equal(fixture_begin(f, 1, RAW_FULL, &w, &dirfd, &err), 0);
    assert_int_equal(image_write_pages(&w, 0, f->ram, 4096 * 300, &err), 0);
    assert_int_equal(image_write_pages(&w, 4096 * 310, f->ram, 4096 * 100, &err), 0);
    assert_int_equal(image_write_state(&w, "x", 1, &err), 0);
    if (image_finish(&w, &fm.m, &totals, &err) < 0)
        fail_msg("%s", err.text);
    assert_int_equal(totals.reread_bytes, 0);
    assert_int_equal(totals.data_pages, 400);
}

static void test_refuses_ranges(void **state)
{
    struct fixture *f = *state;
    struct image_writer w;
    struct err err;
    CLEAN(clean_fd) int dirfd = -1;
    assert_int_equal(fixture_begin(f, 1, RAW_FULL, &w, &dirfd, &err), 0);
    static const struct {
        uint64_t offset, bytes;
    } bad[] = {{1, 4096},
               {0, 1},
               {FIXTURE_RAM, 4096},
               {FIXTURE_RAM - 4096, 8192},
               {4096, UINT64_MAX - 4095},
               {UINT64_MAX - 4095, 8192}};
    for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_int_equal(image_write_pages(&w, bad[i].offset, f->ram, bad[i].bytes, &err), -EINVAL);
        assert_int_equal(image_write_zero(&w, bad[i].offset, bad[i].bytes, &err), -EINVAL);
    }
    image_abandon(&w);
}

/* The first failure stays, whatever is called next. */
static void test_failure_stays(void **state)
{
    struct fixture *f = *state;
    struct image_writer w;
    struct image_totals totals;
    struct fixture_manifest fm;
    struct err err;
    CLEAN(clean_fd) int dirfd = -1;
    fixture_fill(f, 0, 4, 3);
    fixture_manifest(&fm, "s", 1, NULL, 0);
    assert_int_equal(fixture_begin(f, 1, RAW_FULL, &w, &dirfd, &err), 0);
    f->disk.kinds = DISK_WRITE;
    f->disk.at = 1;
    f->disk.code = ENOSPC;
    assert_int_equal(image_write_pages(&w, 0, f->ram, 4096, &err), -ENOSPC);
    assert_string_equal(err.text, "cannot write 'memory': No space left on device");
    err = (struct err){0};
    assert_int_equal(image_write_pages(&w, 4096, f->ram, 4096, &err), -ENOSPC);
    assert_int_equal(image_write_zero(&w, 4096, 4096, &err), -ENOSPC);
    assert_int_equal(image_write_state(&w, "x", 1, &err), -ENOSPC);
    assert_int_equal(image_finish(&w, &fm.m, &totals, &err), -ENOSPC);
    assert_string_equal(err.text, "cannot write 'memory': No space left on device");
    assert_null(strstr(f->disk.log, "open manifest"));
}

int main(void)
{
#define T(x) cmocka_unit_test_setup_teardown(x, fixture_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        T(test_full_raw),       T(test_zero_ram_takes_no_room),
        T(test_packed),         T(test_chain),
        T(test_diff_is_small),  T(test_rounds),
        T(test_sink),           T(test_sequential_is_not_reread),
        T(test_refuses_ranges), T(test_failure_stays),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
