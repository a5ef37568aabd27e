/* Snapshots come, are found, and go; what should not be there harms nothing. */
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
#include <unistd.h>

#include "base/cleanup.h"
#include "snapshot/reader.h"
#include "tests/unit/snapshot/fixture.h"

#define RAW_FULL FERRY__SNAPSHOT_MEMORY__SNAPSHOT_MEMORY_RAW_FULL
#define RAW_DIFF FERRY__SNAPSHOT_MEMORY__SNAPSHOT_MEMORY_RAW_DIFF

static void take(struct fixture *f, const char *name, unsigned id, const char *parent,
                 unsigned parent_id)
{
    struct err err = {0};
    fixture_fill(f, id, 1, id);
    if (fixture_take(f, name, id, parent ? RAW_DIFF : RAW_FULL, parent, parent_id, NULL, &err) < 0)
        fail_msg("%s", err.text);
}

static void check_names(struct fixture *f, const char *want)
{
    struct catalogue_list list;
    struct err err = {0};
    char names[300] = "";
    if (catalogue_list(&f->catalogue, &list, &err) < 0)
        fail_msg("%s", err.text);
    for (size_t i = 0; i < list.count; i++) {
        size_t used = strlen(names);
        snprintf(names + used, sizeof(names) - used, "%s%s%s", used ? " " : "",
                 list.entries[i].name, list.entries[i].problem ? "!" : "");
    }
    assert_string_equal(names, want);
    catalogue_list_fini(&list);
}

static void test_list(void **state)
{
    struct fixture *f = *state;
    struct catalogue_list list;
    struct err err;
    struct uuid uuid = fixture_uuid(2);
    check_names(f, "");
    take(f, "b", 1, NULL, 0);
    take(f, "a", 2, "b", 1);
    assert_int_equal(catalogue_list(&f->catalogue, &list, &err), 0);
    assert_int_equal(list.count, 2);
    const struct catalogue_entry *a = catalogue_find(&list, "a"), *b = catalogue_find(&list, "b");
    assert_ptr_equal(a, &list.entries[0]);
    assert_ptr_equal(catalogue_find_uuid(&list, &uuid), a);
    assert_null(catalogue_find(&list, "c"));
    assert_string_equal(a->vm_name, "web");
    assert_string_equal(a->parent_name, "b");
    assert_true(a->has_parent && !b->has_parent);
    assert_int_equal(a->parent, 1);
    assert_int_equal(b->parent, -1);
    assert_int_equal(a->memory, RAW_DIFF);
    assert_int_equal(a->wall_ns, 2000);
    assert_int_equal(a->ram_bytes, FIXTURE_RAM);
    assert_true(b->disk_bytes >= 4096 && b->disk_bytes < 1 << 20);
    catalogue_list_fini(&list);
}

static void test_names_and_uuids_are_taken_once(void **state)
{
    struct fixture *f = *state;
    struct err err;
    take(f, "s", 1, NULL, 0);
    assert_int_equal(fixture_take(f, "s", 2, RAW_FULL, NULL, 0, NULL, &err), -EEXIST);
    assert_string_equal(err.text, "snapshot 's': there is a snapshot of that name");
    assert_int_equal(fixture_take(f, "t", 1, RAW_FULL, NULL, 0, NULL, &err), -EEXIST);
    assert_string_equal(err.text, "snapshot 't': it is there already, as 's'");
    assert_int_equal(fixture_take(f, "../t", 3, RAW_FULL, NULL, 0, NULL, &err), -EINVAL);
    assert_int_equal(mkdirat(f->dir, "u", 0700), 0);
    fixture_store(f, "u", "notes", "x", 1);
    assert_int_equal(fixture_take(f, "u", 4, RAW_FULL, NULL, 0, NULL, &err), -EEXIST);
    check_names(f, "s u!");
    assert_int_equal(fixture_count(f, "."), 0);
}

static void test_publish_believes_nobody(void **state)
{
    struct fixture *f = *state;
    struct image_writer w;
    struct image_totals totals;
    struct fixture_manifest fm;
    struct uuid uuid = fixture_uuid(1);
    struct err err;
    CLEAN(clean_fd) int dirfd = -1;
    assert_int_equal(fixture_begin(f, 1, RAW_FULL, &w, &dirfd, &err), 0);
    assert_int_equal(catalogue_publish(&f->catalogue, &uuid, "s", &err), -ENOENT);
    assert_int_equal(image_write_state(&w, "x", 1, &err), 0);
    fixture_manifest(&fm, "other", 1, NULL, 0);
    assert_int_equal(image_finish(&w, &fm.m, &totals, &err), 0);
    assert_int_equal(catalogue_publish(&f->catalogue, &uuid, "s", &err), -EBADMSG);
    assert_string_equal(err.text,
                        "snapshot 's': its manifest is that of another snapshot, 'other'");
    assert_int_equal(symlinkat("/etc/passwd", dirfd, "disk-a"), 0);
    assert_int_equal(catalogue_publish(&f->catalogue, &uuid, "other", &err), -EBADMSG);
    assert_int_equal(unlinkat(dirfd, "disk-a", 0), 0);
    check_names(f, "");
    assert_int_equal(catalogue_publish(&f->catalogue, &uuid, "other", &err), 0);
    check_names(f, "other");
}

static void test_parents(void **state)
{
    struct fixture *f = *state;
    struct err err;
    assert_int_equal(fixture_take(f, "d", 2, RAW_DIFF, "p", 1, NULL, &err), -ENOENT);
    assert_string_equal(err.text, "snapshot 'd': its parent 'p' is not there");
    take(f, "p", 1, NULL, 0);
    take(f, "d", 2, "p", 1);
    take(f, "e", 3, "d", 2);
    take(f, "g", 4, "p", 1);
    assert_int_equal(catalogue_rm(&f->catalogue, "p", false, NULL, &err), -EBUSY);
    assert_string_equal(err.text, "snapshot 'p' is needed by d, g");
    assert_int_equal(catalogue_rm(&f->catalogue, "d", false, NULL, &err), -EBUSY);
    check_names(f, "d e g p");
    assert_int_equal(catalogue_rm(&f->catalogue, "d", true, NULL, &err), 0);
    check_names(f, "g p");
    assert_int_equal(catalogue_rm(&f->catalogue, "g", false, NULL, &err), 0);
    assert_int_equal(catalogue_rm(&f->catalogue, "p", false, NULL, &err), 0);
    assert_int_equal(catalogue_rm(&f->catalogue, "p", false, NULL, &err), -ENOENT);
    assert_string_equal(err.text, "there is no snapshot 'p'");
    assert_int_equal(fixture_count(f, ""), 0);
}

/* A chain has an end, and only its own parent below it. */
static void test_chains(void **state)
{
    struct fixture *f = *state;
    struct reader r;
    struct err err;
    int fds[4];
    take(f, "s1", 1, NULL, 0);
    for (unsigned i = 2; i <= SNAPSHOT_CHAIN_MAX; i++) {
        char name[8], parent[8];
        snprintf(name, sizeof(name), "s%u", i);
        snprintf(parent, sizeof(parent), "s%u", i - 1);
        take(f, name, i, parent, i - 1);
    }
    assert_int_equal(fixture_take(f, "s65", 65, RAW_DIFF, "s64", 64, NULL, &err), -ELOOP);
    assert_int_equal(reader_open(&r, &f->catalogue, "s64", &err), 0);
    assert_int_equal(r.count, SNAPSHOT_CHAIN_MAX);
    reader_close(&r);
    assert_int_equal(catalogue_open_chain(&f->catalogue, "s64", fds, 4, &err), -ELOOP);
    assert_int_equal(catalogue_open_chain(&f->catalogue, "s3", fds, 4, &err), 3);
    int swapped[] = {fds[1], fds[0], fds[2]};
    assert_int_equal(reader_open_dirs(&r, swapped, 3, &err), -ENOENT);
    assert_string_equal(err.text, "snapshot 's2' needs its parent 's1'");
    int missing[] = {fds[0], fds[2]};
    assert_int_equal(reader_open_dirs(&r, missing, 2, &err), -EBADMSG);
    assert_string_equal(err.text, "snapshot 's3' needs 's2', which 's1' is not");
    int twice[] = {fds[0], fds[0]};
    assert_int_equal(reader_open_dirs(&r, twice, 2, &err), -EINVAL);
    assert_int_equal(reader_open_dirs(&r, fds, 0, &err), -EINVAL);
    for (unsigned i = 0; i < 3; i++)
        close(fds[i]);
    assert_int_equal(renameat(f->dir, "s2", f->dir, ".gone"), 0);
    assert_int_equal(reader_open(&r, &f->catalogue, "s3", &err), -ENOENT);
    assert_string_equal(err.text, "snapshot 's3' needs 's2', which is not there");
    assert_int_equal(reader_open(&r, &f->catalogue, "nobody", &err), -ENOENT);
    assert_int_equal(reader_open(&r, &f->catalogue, "../s1", &err), -EINVAL);
}

/* A damaged one is shown, hides no other, and can be removed; its children still count. */
static void test_damage(void **state)
{
    struct fixture *f = *state;
    struct reader r;
    struct err err;
    take(f, "p", 1, NULL, 0);
    take(f, "d", 2, "p", 1);
    take(f, "q", 3, NULL, 0);
    fixture_flip(f, "p", "manifest", 40, 2);
    check_names(f, "d p! q");
    assert_int_equal(reader_open(&r, &f->catalogue, "d", &err), -EBADMSG);
    assert_string_equal(
        err.text, "snapshot 'd' needs 'p', which is damaged: 'manifest' has the wrong checksum");
    assert_int_equal(catalogue_rm(&f->catalogue, "p", false, NULL, &err), -EBUSY);
    assert_int_equal(catalogue_rm(&f->catalogue, "p", true, NULL, &err), 0);
    check_names(f, "q");
    assert_int_equal(renameat(f->dir, "q", f->dir, "z"), 0);
    fixture_flip(f, "z", "manifest", 40, 2);
    check_names(f, "z!");
    assert_int_equal(mkdirat(f->dir, "empty", 0700), 0);
    assert_int_equal(symlinkat("z", f->dir, "link"), 0);
    assert_int_equal(mkfifoat(f->dir, "pipe", 0600), 0);
    fixture_store(f, ".", "file", "x", 1);
    check_names(f, "empty! file! link! pipe! z!");
    assert_int_equal(catalogue_rm(&f->catalogue, "empty", false, NULL, &err), 0);
    assert_int_equal(catalogue_rm(&f->catalogue, "z", false, NULL, &err), 0);
    check_names(f, "file! link! pipe!");
}

static void copy_by_hand(const struct fixture *f, const char *from, const char *to)
{
    char command[300];
    snprintf(command, sizeof(command), "cp -a '%s/%s' '%s/%s'", f->root, from, f->root, to);
    assert_int_equal(system(command), 0);
}

static void check_problem(const struct fixture *f, const char *name, const char *want)
{
    struct catalogue_list list;
    struct err err;
    assert_int_equal(catalogue_list(&f->catalogue, &list, &err), 0);
    const struct catalogue_entry *e = catalogue_find(&list, name);
    assert_non_null(e);
    if (want)
        assert_string_equal(e->problem, want);
    else
        assert_null(e->problem);
    catalogue_list_fini(&list);
}

/* A snapshot is its uuid: under another name it is the same, and a second directory is a copy. */
static void test_by_hand(void **state)
{
    static const char is_copy[] =
        "it is a copy of 'p', with the same uuid: remove it, or import it anew";
    struct fixture *f = *state;
    struct reader r;
    struct err err;
    take(f, "p", 1, NULL, 0);
    take(f, "d", 2, "p", 1);
    copy_by_hand(f, "p", "a");
    check_names(f, "a! d p");
    check_problem(f, "a", is_copy);
    assert_int_equal(reader_open(&r, &f->catalogue, "a", &err), -EEXIST);
    assert_int_equal(catalogue_open_own(&f->catalogue, "a", &err), -EEXIST);
    assert_string_equal(
        err.text,
        "snapshot 'a': it is a copy of 'p', with the same uuid: remove it, or import it anew");
    assert_int_equal(reader_open(&r, &f->catalogue, "d", &err), 0);
    reader_close(&r);
    assert_int_equal(catalogue_rm(&f->catalogue, "a", false, NULL, &err), 0);
    /* renamed: its children find it, and what needs it is told by the name it has now */
    assert_int_equal(renameat(f->dir, "p", f->dir, "z"), 0);
    check_names(f, "d z");
    assert_int_equal(reader_open(&r, &f->catalogue, "d", &err), 0);
    reader_close(&r);
    assert_int_equal(reader_open(&r, &f->catalogue, "z", &err), 0);
    reader_close(&r);
    assert_int_equal(catalogue_rm(&f->catalogue, "z", false, NULL, &err), -EBUSY);
    /* renamed and copied: the first is it, until it is damaged */
    copy_by_hand(f, "z", "y");
    check_names(f, "d y z!");
    fixture_flip(f, "y", "manifest", 40, 2);
    check_names(f, "d y! z");
    assert_int_equal(reader_open(&r, &f->catalogue, "d", &err), 0);
    reader_close(&r);
}

/* Snapshots that claim each other as parents: forged, and removable. */
static void test_circle(void **state)
{
    struct fixture *f = *state;
    struct reader r;
    struct err err;
    take(f, "a", 1, NULL, 0);
    take(f, "b", 2, "a", 1);
    assert_int_equal(renameat(f->dir, "a", f->dir, ".a"), 0);
    take(f, "x", 3, NULL, 0);
    assert_int_equal(renameat(f->dir, "x", f->dir, ".x"), 0);
    /* "a" again, as a diff of "b" */
    take(f, "a", 1, "b", 2);
    check_names(f, "a b");
    assert_int_equal(reader_open(&r, &f->catalogue, "b", &err), -ELOOP);
    assert_int_equal(catalogue_rm(&f->catalogue, "a", false, NULL, &err), -EBUSY);
    assert_int_equal(catalogue_rm(&f->catalogue, "a", true, NULL, &err), 0);
    check_names(f, "");
}

static void test_leftovers(void **state)
{
    struct fixture *f = *state;
    struct image_writer w;
    struct uuid uuid = fixture_uuid(1);
    struct err err;
    struct catalogue_busy busy;
    unsigned removed;
    CLEAN(clean_fd) int dirfd = -1;
    take(f, "s", 2, NULL, 0);
    assert_int_equal(fixture_begin(f, 1, RAW_FULL, &w, &dirfd, &err), 0);
    assert_int_equal(catalogue_begin(&f->catalogue, &uuid, &err), -EEXIST);
    assert_int_equal(mkdirat(f->dir, ".tmp-old", 0700), 0);
    fixture_store(f, ".tmp-old", "memory", "x", 1);
    fixture_store(f, ".", ".tmp-file", "x", 1);
    int copy = dup(dirfd); /* as a worker that outlived its ferryd has it */
    clean_fd(&dirfd);
    assert_int_equal(catalogue_clean(&f->catalogue, &removed, &busy, &err), 0);
    assert_int_equal(removed, 2);
    assert_int_equal(busy.count, 1);
    assert_int_equal(fixture_count(f, ".tmp-"), 1);
    close(copy);
    image_abandon(&w);
    assert_int_equal(catalogue_clean_busy(&f->catalogue, &busy, &err), 0);
    assert_int_equal(fixture_count(f, ".tmp-"), 0);
    assert_int_equal(catalogue_clean(&f->catalogue, &removed, &busy, &err), 0);
    assert_int_equal(removed, 0);
    assert_int_equal(busy.count, 0);
    check_names(f, "s");
    assert_int_equal(fixture_count(f, ""), 1);
}

int main(void)
{
#define T(x) cmocka_unit_test_setup_teardown(x, fixture_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        T(test_list),    T(test_names_and_uuids_are_taken_once),
        T(test_parents), T(test_publish_believes_nobody),
        T(test_chains),  T(test_damage),
        T(test_circle),  T(test_leftovers),
        T(test_by_hand),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
