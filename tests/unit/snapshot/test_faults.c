/*
 * A disk that fails, and a process that dies, at every single call of a snapshot's life: either the
 * old catalogue is there or the new one, whole.
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

#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "snapshot/export.h"
#include "snapshot/import.h"
#include "snapshot/reader.h"
#include "snapshot/verify.h"
#include "tests/unit/snapshot/fixture.h"

#define RAW_FULL FERRY__SNAPSHOT_MEMORY__SNAPSHOT_MEMORY_RAW_FULL
#define RAW_DIFF FERRY__SNAPSHOT_MEMORY__SNAPSHOT_MEMORY_RAW_DIFF
#define PACKED_FULL FERRY__SNAPSHOT_MEMORY__SNAPSHOT_MEMORY_PACKED_FULL
#define PACKED_DIFF FERRY__SNAPSHOT_MEMORY__SNAPSHOT_MEMORY_PACKED_DIFF
#define CALLS_MAX 500u

static void fill(struct fixture *f)
{
    fixture_fill(f, 1, 3, 5);
    fixture_fill(f, 255, 2, 5);
}

static void base(struct fixture *f)
{
    struct err err = {0};
    fill(f);
    if (fixture_take(f, "base", 1, RAW_FULL, NULL, 0, NULL, &err) < 0)
        fail_msg("%s", err.text);
}

static int take(struct fixture *f, Ferry__SnapshotMemory memory, struct err *err)
{
    bool diff = memory == RAW_DIFF || memory == PACKED_DIFF;
    fixture_fill(f, 7, 2, 9);
    return fixture_take(f, "new", 2, memory, diff ? "base" : NULL, 1, NULL, err);
}

/* Whether it is there; then it is whole and can be opened. */
static bool is_there(struct fixture *f, const char *name)
{
    struct catalogue_list list;
    struct verify_result result;
    struct reader r;
    struct err err = {0};
    if (catalogue_list(&f->catalogue, &list, &err) < 0)
        fail_msg("%s", err.text);
    const struct catalogue_entry *e = catalogue_find(&list, name);
    if (e && e->problem)
        fail_msg("'%s' is there, but %s", name, e->problem);
    if (e) {
        CLEAN(clean_fd) int fd = catalogue_open(&f->catalogue, name, &err);
        if (verify_snapshot(fd, NULL, &result, &err) < 0 ||
            reader_open(&r, &f->catalogue, name, &err) < 0)
            fail_msg("'%s' is there, but %s", name, err.text);
        reader_close(&r);
    }
    bool there = e != NULL;
    catalogue_list_fini(&list);
    return there;
}

/* What changes a catalogue that has "base": "new" comes or goes. */
static int take_full(struct fixture *f, struct err *err)
{
    return take(f, RAW_FULL, err);
}

static int take_diff(struct fixture *f, struct err *err)
{
    return take(f, RAW_DIFF, err);
}

static int take_packed(struct fixture *f, struct err *err)
{
    return take(f, PACKED_FULL, err);
}

static int take_packed_diff(struct fixture *f, struct err *err)
{
    return take(f, PACKED_DIFF, err);
}

static int remove_new(struct fixture *f, struct err *err)
{
    return catalogue_rm(&f->catalogue, "new", false, NULL, err);
}

static struct buf stream; /* base <- middle <- new */

static int import_chain(struct fixture *f, struct err *err)
{
    struct import im;
    char name[NAME_MAX_CHARS + 1];
    int rc = import_init(&im, &f->catalogue, NULL, 0, err);
    if (rc == 0)
        rc = import_push(&im, stream.data, stream.len, err);
    if (rc == 0)
        rc = import_finish(&im, name, err);
    import_fini(&im);
    return rc;
}

static int to_stream(void *ctx, const uint8_t *data, size_t len, struct err *err)
{
    return buf_append(ctx, data, len) < 0 ? err_set(err, ENOMEM, "no memory") : 0;
}

/* Leaves only "base". */
static void make_stream(struct fixture *f)
{
    const struct export_sink sink = {.write = to_stream, .ctx = &stream};
    const struct export_options whole = {.alone = false};
    struct err err = {0};
    fixture_fill(f, 20, 2, 9);
    int rc = fixture_take(f, "middle", 3, RAW_DIFF, "base", 1, NULL, &err);
    if (rc == 0)
        rc = fixture_take(f, "new", 2, PACKED_DIFF, "middle", 3, NULL, &err);
    buf_init(&stream, 32 << 20);
    if (rc == 0)
        rc = export_snapshot(&f->catalogue, "new", &whole, &sink, &err);
    if (rc == 0)
        rc = catalogue_rm(&f->catalogue, "middle", true, NULL, &err);
    if (rc < 0)
        fail_msg("%s", err.text);
}

/* What a call is called in a log and in a sentence. */
static const char *const verbs[][2] = {
    {"open ", "cannot make '"},     {"mkdir ", "cannot make '"},    {"write ", "cannot write '"},
    {"truncate ", "cannot size '"}, {"sync ", "cannot sync '"},     {"rename ", "cannot rename '"},
    {"rename ", "cannot remove "},  {"remove ", "cannot remove '"},
};

/* The sentence says what could not be done, to what, and why; and a sync that failed is not tried
 * again: only taking several names back syncs the catalogue's directory once more. */
static void check_sentence(const struct fixture *f, const struct err *err, int code)
{
    bool told = false;
    const char *hit = f->disk.log + f->disk.hit, *end = strchr(hit, '\n');
    for (unsigned i = 0; i < sizeof(verbs) / sizeof(verbs[0]); i++)
        told |=
            strncmp(hit, verbs[i][0], strlen(verbs[i][0])) == 0 && strstr(err->text, verbs[i][1]);
    if (!told || !strstr(err->text, strerror(code)))
        fail_msg("the call '%.*s' fails with '%s'", (int)(end - hit), hit, err->text);
    if (strncmp(hit, "sync ", 5) != 0)
        return;
    char again[200];
    snprintf(again, sizeof(again), "\n%.*s\n", (int)(end - hit), hit);
    if (strstr(end, again) && !strstr(again, strrchr(f->root, '/') + 1))
        fail_msg("'%.*s' is tried again after it failed", (int)(end - hit), hit);
}

struct change {
    int (*act)(struct fixture *f, struct err *err);
    bool removes; /* "new", which is there before */
};

/* Every call in turn fails: the catalogue is what it was, without anything beside it. */
static void fails_everywhere(struct fixture *f, const struct change *change, int code)
{
    unsigned at = 1;
    for (; at < CALLS_MAX; at++) {
        struct err err = {0};
        f->disk.kinds = DISK_ALL & ~DISK_PUNCH; /* packing only saves room by it */
        f->disk.at = at;
        f->disk.code = code;
        f->disk.count = 0;
        f->disk.log[0] = '\0';
        int rc = change->act(f, &err);
        f->disk.at = 0;
        if (rc == 0)
            break;
        assert_int_equal(rc, -code);
        assert_int_equal(err.code, code);
        check_sentence(f, &err, code);
        assert_true(is_there(f, "new") == change->removes);
        assert_true(is_there(f, "base"));
        assert_int_equal(fixture_count(f, ""), change->removes ? 2 : 1);
    }
    assert_true(at > (change->removes ? 2 : 10) && at < CALLS_MAX);
    assert_true(is_there(f, "new") != change->removes);
}

static void test_refusing_disk(void **state)
{
    static const struct change changes[] = {
        {take_full}, {take_diff}, {take_packed}, {take_packed_diff}, {remove_new, true}};
    static const int codes[] = {ENOSPC, EIO};
    struct fixture *f = *state;
    struct err err = {0};
    base(f);
    for (unsigned i = 0; i < 10; i++) {
        const struct change *change = &changes[i / 2];
        if (change->removes)
            assert_int_equal(take(f, RAW_FULL, &err), 0);
        fails_everywhere(f, change, codes[i % 2]);
        if (!change->removes)
            assert_int_equal(catalogue_rm(&f->catalogue, "new", false, NULL, &err), 0);
    }
}

static void test_refusing_disk_of_an_import(void **state)
{
    struct fixture *f = *state;
    base(f);
    make_stream(f);
    fails_everywhere(f, &(struct change){import_chain}, ENOSPC);
    assert_true(is_there(f, "middle"));
    buf_fini(&stream);
}

/* No sync is tried twice, and none is forgotten: all is written, then each file is synced, then the
 * directory; then it gets its name. */
static void test_order(void **state)
{
    struct fixture *f = *state;
    struct err err = {0};
    base(f);
    f->disk.log[0] = '\0';
    if (take(f, PACKED_DIFF, &err) < 0)
        fail_msg("%s", err.text);
    static const char *const order[] = {"open manifest\n", "sync ", "sync manifest\n", "sync .tmp-",
                                        "rename new\n"};
    const char *at = f->disk.log;
    for (unsigned i = 0; i < sizeof(order) / sizeof(order[0]); i++) {
        at = strstr(at, order[i]);
        if (!at)
            fail_msg("no '%s' after the one before it in:\n%s", order[i], f->disk.log);
    }
    at += strlen("rename new\n");
    assert_int_equal(strncmp(at, "sync ", 5), 0); /* of the catalogue's directory */
    assert_int_equal(strchr(at, '\n')[1], '\0');
    const char *directory = strstr(f->disk.log, "sync .tmp-");
    static const char *const files[] = {"memory", "state", "pages", "index", "manifest"};
    for (unsigned i = 0; i < 5; i++) {
        char write[32], sync[32];
        snprintf(write, sizeof(write), "write %s\n", files[i]);
        snprintf(sync, sizeof(sync), "sync %s\n", files[i]);
        const char *synced = strstr(f->disk.log, sync);
        assert_non_null(strstr(f->disk.log, write));
        assert_true(synced && synced < directory);
        assert_null(strstr(synced, write)); /* nothing is written behind its sync */
        assert_null(strstr(synced + 1, sync));
    }
}

/* A child of ours that does something and dies in its N-th call; true while there was such a call.
 */
static bool dies(struct fixture *f, unsigned at, enum disk_fault fault,
                 int (*act)(struct fixture *, struct err *))
{
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        f->disk.kinds = fault == DISK_DIE ? DISK_ALL : DISK_OPEN | DISK_WRITE | DISK_RENAME;
        f->disk.at = at;
        f->disk.fault = fault;
        f->disk.count = 0;
        struct err err;
        _exit(act(f, &err) == 0 ? 0 : 1);
    }
    int status = 0;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    assert_true(WEXITSTATUS(status) == 9 || WEXITSTATUS(status) == 0);
    return WEXITSTATUS(status) == 9;
}

/* After each death: the catalogue opens, its names are whole, leftovers go, and then it works. */
static void look_after(struct fixture *f, bool new_may_be)
{
    struct catalogue_busy busy;
    unsigned removed;
    struct err err = {0};
    assert_true(is_there(f, "base"));
    bool there = is_there(f, "new");
    assert_true(!there || new_may_be);
    if (catalogue_clean(&f->catalogue, &removed, &busy, &err) < 0)
        fail_msg("%s", err.text);
    assert_int_equal(busy.count, 0);
    assert_int_equal(fixture_count(f, ""), there ? 2 : 1);
    if (there)
        assert_int_equal(catalogue_rm(&f->catalogue, "new", false, NULL, &err), 0);
}

static void test_killed_while_taking(void **state)
{
    static int (*const acts[])(struct fixture *, struct err *) = {take_packed, take_diff};
    struct fixture *f = *state;
    base(f);
    for (unsigned k = 0; k < 4; k++) {
        unsigned at = 1;
        while (at < CALLS_MAX && dies(f, at, k & 1 ? DISK_DIE_HALF : DISK_DIE, acts[k / 2])) {
            look_after(f, true);
            at++;
        }
        assert_true(at > 8 && at < CALLS_MAX);
        look_after(f, true);
    }
}

static void test_killed_while_removing(void **state)
{
    struct fixture *f = *state;
    struct err err;
    base(f);
    for (unsigned k = 0; k < 2; k++) {
        unsigned at = 1;
        for (bool died = true; died && at < 10; at++) {
            if (!is_there(f, "new"))
                assert_int_equal(take(f, RAW_FULL, &err), 0);
            died = dies(f, at, k ? DISK_DIE_HALF : DISK_DIE, remove_new);
            if (is_there(f, "new"))
                continue;
            look_after(f, false);
        }
        assert_true(at > 2 && at < 10);
        assert_false(is_there(f, "new"));
    }
}

/* A removal that the disk refuses leaves the snapshot whole. */
static void test_failed_removal(void **state)
{
    struct fixture *f = *state;
    struct err err;
    base(f);
    assert_int_equal(take(f, RAW_FULL, &err), 0);
    static const unsigned kinds[] = {DISK_RENAME, DISK_SYNC};
    for (unsigned i = 0; i < 2; i++) {
        f->disk.kinds = kinds[i];
        f->disk.at = 1;
        f->disk.code = EIO;
        f->disk.count = 0;
        assert_int_equal(catalogue_rm(&f->catalogue, "new", false, NULL, &err), -EIO);
        assert_true(is_there(f, "new"));
        assert_int_equal(fixture_count(f, ""), 2);
    }
}

/* Where holes cannot be punched, zeros are written instead. */
static void test_no_holes(void **state)
{
    struct fixture *f = *state;
    struct image_writer w;
    struct image_totals totals;
    struct fixture_manifest fm;
    struct uuid uuid = fixture_uuid(2);
    struct err err;
    CLEAN(clean_fd) int dirfd = -1;
    base(f);
    assert_int_equal(fixture_begin(f, 2, RAW_FULL, &w, &dirfd, &err), 0);
    assert_int_equal(image_write_pages(&w, 0, f->ram, 20 * 4096, &err), 0);
    f->disk.kinds = DISK_PUNCH;
    f->disk.at = 1;
    f->disk.code = EOPNOTSUPP;
    f->disk.count = 0;
    assert_int_equal(image_write_zero(&w, 4096, 18 * 4096, &err), 0);
    assert_int_equal(image_write_state(&w, "x", 1, &err), 0);
    fixture_manifest(&fm, "new", 2, NULL, 0);
    assert_int_equal(image_finish(&w, &fm.m, &totals, &err), 0);
    assert_int_equal(catalogue_publish(&f->catalogue, &uuid, "new", &err), 0);
    assert_true(is_there(f, "new"));
}

int main(void)
{
#define T(x) cmocka_unit_test_setup_teardown(x, fixture_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        T(test_refusing_disk),
        T(test_refusing_disk_of_an_import),
        T(test_order),
        T(test_killed_while_taking),
        T(test_killed_while_removing),
        T(test_failed_removal),
        T(test_no_holes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
