/* Every flipped bit of every file is found, and said where. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <unistd.h>

#include "base/cleanup.h"
#include "base/le.h"
#include "snapshot/verify.h"
#include "tests/unit/snapshot/fixture.h"
#include "vmstate/section.h"

#define RAW_FULL FERRY__SNAPSHOT_MEMORY__SNAPSHOT_MEMORY_RAW_FULL
#define RAW_DIFF FERRY__SNAPSHOT_MEMORY__SNAPSHOT_MEMORY_RAW_DIFF
#define PACKED_FULL FERRY__SNAPSHOT_MEMORY__SNAPSHOT_MEMORY_PACKED_FULL
#define PACKED_DIFF FERRY__SNAPSHOT_MEMORY__SNAPSHOT_MEMORY_PACKED_DIFF

static int verify(struct fixture *f, const char *name, struct verify_result *result,
                  struct err *err)
{
    CLEAN(clean_fd) int fd = catalogue_open(&f->catalogue, name, err);
    assert_true(fd >= 0);
    return verify_snapshot(fd, NULL, result, err);
}

static void take_all(struct fixture *f)
{
    static const Ferry__SnapshotMemory kinds[] = {RAW_FULL, RAW_DIFF, PACKED_FULL, PACKED_DIFF};
    CLEAN(clean_free) uint8_t *base = malloc(FIXTURE_RAM);
    fixture_fill(f, 4, 10, 1);
    fixture_fill(f, 300, 1, 1);
    for (unsigned i = 0; i < 4; i++) {
        char name[8], parent[8];
        struct err err = {0};
        struct verify_result result;
        snprintf(name, sizeof(name), "s%u", i);
        snprintf(parent, sizeof(parent), "s%u", i - 1);
        bool diff = kinds[i] == RAW_DIFF || kinds[i] == PACKED_DIFF;
        if (diff) {
            fixture_fill(f, 5, 2, 0);
            fixture_fill(f, 40 + i, 3, 9);
        }
        if (fixture_take(f, name, i + 1, kinds[i], diff ? parent : NULL, i, diff ? base : NULL,
                         &err) < 0 ||
            verify(f, name, &result, &err) < 0)
            fail_msg("%s", err.text);
        memcpy(base, f->ram, FIXTURE_RAM);
    }
}

static void flip_and_look(struct fixture *f, const char *name, const char *file, uint64_t offset,
                          unsigned bit)
{
    struct verify_result result;
    struct err err = {0};
    fixture_flip(f, name, file, offset, bit);
    int rc = verify(f, name, &result, &err);
    if (rc >= 0)
        fail_msg("%s/%s: bit %u of byte %llu was not found", name, file, bit,
                 (unsigned long long)offset);
    if (strcmp(result.file, file) != 0)
        fail_msg("%s/%s, byte %llu: it said '%s': %s", name, file, (unsigned long long)offset,
                 result.file, err.text);
    char quoted[40];
    snprintf(quoted, sizeof(quoted), "'%s'", file);
    assert_non_null(strstr(err.text, quoted));
    if (strcmp(file, "manifest") != 0)
        assert_true(result.offset <= offset && offset < result.offset + result.length);
    fixture_flip(f, name, file, offset, bit);
}

static void test_small_files(void **state)
{
    struct fixture *f = *state;
    static const char *const files[] = {"manifest", "state", "pages", "index"};
    take_all(f);
    for (unsigned i = 0; i < 4; i++) {
        for (unsigned k = 0; k < 4; k++) {
            char name[8], path[32];
            size_t len;
            snprintf(name, sizeof(name), "s%u", i);
            snprintf(path, sizeof(path), "%s/%s", name, files[k]);
            if (faccessat(f->dir, path, F_OK, 0) != 0)
                continue;
            free(fixture_load(f, name, files[k], &len));
            assert_true(len > 0);
            for (size_t bit = 0; bit < 8 * len; bit++)
                flip_and_look(f, name, files[k], bit / 8, bit % 8);
        }
    }
}

static void test_memory(void **state)
{
    struct fixture *f = *state;
    take_all(f);
    srand(5);
    for (unsigned i = 0; i < 4; i++) {
        char name[8];
        size_t len;
        struct verify_result result;
        struct err err;
        snprintf(name, sizeof(name), "s%u", i);
        free(fixture_load(f, name, "memory", &len));
        for (unsigned n = 0; n < 150; n++) /* data, holes and what is in the parent */
            flip_and_look(f, name, "memory", (uint64_t)rand() % len, (unsigned)rand() % 8);
        flip_and_look(f, name, "memory", 0, 0);
        flip_and_look(f, name, "memory", len - 1, 7);
        assert_int_equal(verify(f, name, &result, &err), 0);
        assert_string_equal(result.file, "");
    }
}

static void test_lengths_and_lists(void **state)
{
    struct fixture *f = *state;
    struct verify_result result;
    struct err err;
    size_t len;
    take_all(f);
    CLEAN(clean_free) uint8_t *bytes = fixture_load(f, "s0", "state", &len);
    fixture_store(f, "s0", "state", bytes, len - 1);
    assert_int_equal(verify(f, "s0", &result, &err), -EBADMSG);
    assert_string_equal(err.text, "snapshot 's0': 'state' has 1 bytes, not 2");
    fixture_store(f, "s0", "state", bytes, len);
    fixture_store(f, "s0", "extra", bytes, len);
    assert_int_equal(verify(f, "s0", &result, &err), -EBADMSG);
    assert_string_equal(err.text, "snapshot 's0': 'extra' is not in the manifest");
    assert_int_equal(unlinkat(f->dir, "s0/extra", 0), 0);
    assert_int_equal(verify(f, "s0", &result, &err), 0);
    assert_int_equal(unlinkat(f->dir, "s0/state", 0), 0);
    assert_int_equal(verify(f, "s0", &result, &err), -ENOENT);
}

/* In a state of sections the first damaged one is said. */
static void test_section(void **state)
{
    struct fixture *f = *state;
    struct image_writer w;
    struct image_totals totals;
    struct fixture_manifest fm;
    struct verify_result result;
    struct err err = {0};
    struct uuid uuid = fixture_uuid(1);
    struct buf out;
    size_t second = 0;
    CLEAN(clean_fd) int dirfd = -1;
    buf_init(&out, 4096);
    for (unsigned i = 0; i < 3; i++) {
        struct section s = {.name = "vcpu",
                            .instance = i,
                            .version = 1,
                            .reader_version = 1,
                            .payload = {(const uint8_t *)"payload", 7}};
        if (i == 1)
            second = out.len;
        assert_int_equal(section_write(&s, &out, &err), 0);
    }
    assert_int_equal(fixture_begin(f, 1, RAW_FULL, &w, &dirfd, &err), 0);
    assert_int_equal(image_write_state(&w, out.data, out.len, &err), 0);
    fixture_manifest(&fm, "s", 1, NULL, 0);
    assert_int_equal(image_finish(&w, &fm.m, &totals, &err), 0);
    assert_int_equal(catalogue_publish(&f->catalogue, &uuid, "s", &err), 0);
    fixture_flip(f, "s", "state", second + 30, 3);
    assert_int_equal(verify(f, "s", &result, &err), -EBADMSG);
    assert_int_equal(result.offset, second);
    buf_fini(&out);
}

static bool stop(void *ctx, uint64_t done, uint64_t total)
{
    unsigned *calls = ctx;
    assert_true(done > 0 && done <= total);
    return ++*calls < 3;
}

static void test_cancel(void **state)
{
    struct fixture *f = *state;
    struct verify_result result;
    struct err err;
    unsigned calls = 0;
    const struct verify_watch watch = {.progress = stop, .ctx = &calls};
    take_all(f);
    CLEAN(clean_fd) int fd = catalogue_open(&f->catalogue, "s0", &err);
    assert_int_equal(verify_snapshot(fd, &watch, &result, &err), -ECANCELED);
    assert_int_equal(calls, 3);
}

int main(void)
{
#define T(x) cmocka_unit_test_setup_teardown(x, fixture_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        T(test_small_files), T(test_memory), T(test_lengths_and_lists),
        T(test_section),     T(test_cancel),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
