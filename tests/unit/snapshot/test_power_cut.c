/*
 * The power goes at every moment of everything that changes the catalogue, and takes with it any
 * part of what was not synced: what a reader then finds is the catalogue before, or after, whole
 * snapshots all of them; and after success it is the one after. Where several come or go, they do
 * so one by one, a parent before and after its children. What is left over goes at the next start.
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
#include <unistd.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/fs.h"
#include "snapshot/export.h"
#include "snapshot/import.h"
#include "snapshot/prune.h"
#include "snapshot/reader.h"
#include "snapshot/verify.h"
#include "tests/unit/snapshot/crash_disk.h"
#include "tests/unit/snapshot/fixture.h"

#define RAW_FULL FERRY__SNAPSHOT_MEMORY__SNAPSHOT_MEMORY_RAW_FULL
#define RAW_DIFF FERRY__SNAPSHOT_MEMORY__SNAPSHOT_MEMORY_RAW_DIFF
#define PACKED_FULL FERRY__SNAPSHOT_MEMORY__SNAPSHOT_MEMORY_PACKED_FULL
#define PACKED_DIFF FERRY__SNAPSHOT_MEMORY__SNAPSHOT_MEMORY_PACKED_DIFF

/* Snapshots are called a, b, c and n; a catalogue is the string of its names, in order. */
#define NAMES "abcn"

struct world {
    struct fixture *f;
    struct crash_disk disk;
    uint8_t *ram[sizeof(NAMES)]; /* owned; what each one has */
    struct buf stream;           /* all of abc */
};

struct act {
    int (*run)(struct world *w, struct err *err);
    const char *before;
    const char *after[4];         /* may be found; the last that is one counts as done */
    Ferry__SnapshotMemory memory; /* of one that is taken */
};

static const struct act *now; /* the act that runs */

static void remember(struct world *w, char name)
{
    uint8_t **to = &w->ram[strchr(NAMES, name) - NAMES];
    *to = malloc(FIXTURE_RAM);
    assert_non_null(*to);
    memcpy(*to, w->f->ram, FIXTURE_RAM);
}

static int take(struct world *w, unsigned id, Ferry__SnapshotMemory memory, struct err *err)
{
    const char name[2] = {NAMES[id - 1]}, parent[2] = {NAMES[id < 2 ? 0 : id - 2]};
    bool diff = memory == RAW_DIFF || memory == PACKED_DIFF;
    CLEAN(clean_free) uint8_t *base = malloc(FIXTURE_RAM);
    memcpy(base, w->f->ram, FIXTURE_RAM);
    fixture_fill(w->f, id * 60, 1, 0);
    fixture_fill(w->f, id * 60 + 1, 3, id);
    fixture_fill(w->f, id * 60 + 260, 1, id);
    remember(w, name[0]);
    return fixture_take(w->f, name, id, memory, diff ? parent : NULL, id - 1, diff ? base : NULL,
                        err);
}

static int to_buf(void *ctx, const uint8_t *data, size_t len, struct err *err)
{
    return buf_append(ctx, data, len) < 0 ? err_set(err, ENOMEM, "no memory") : 0;
}

/* a <- b <- c, and the stream of them. */
static void build(struct world *w)
{
    static const Ferry__SnapshotMemory kinds[] = {RAW_FULL, RAW_DIFF, PACKED_DIFF};
    const struct export_sink sink = {.write = to_buf, .ctx = &w->stream};
    const struct export_options whole = {.alone = false};
    struct err err = {0};
    fixture_fill(w->f, 0, 20, 7);
    fixture_fill(w->f, FIXTURE_PAGES - 1, 1, 7);
    for (unsigned i = 0; i < 3; i++)
        if (take(w, i + 1, kinds[i], &err) < 0)
            fail_msg("%s", err.text);
    buf_init(&w->stream, 32 << 20);
    if (export_snapshot(&w->f->catalogue, "c", &whole, &sink, &err) < 0)
        fail_msg("%s", err.text);
}

/* the acts ------------------------------------------------------------------------------------ */

static int run_take(struct world *w, struct err *err)
{
    return take(w, 4, now->memory, err);
}

static int run_rm(struct world *w, struct err *err)
{
    return catalogue_rm(&w->f->catalogue, "c", false, NULL, err);
}

static int run_rm_family(struct world *w, struct err *err)
{
    return catalogue_rm(&w->f->catalogue, "a", true, NULL, err);
}

static ssize_t choose_all(void *ctx, const struct catalogue_list *list, size_t *order,
                          struct err *err)
{
    const struct prune_rule all = {.before_wall_ns = UINT64_MAX};
    struct prune_verdict verdicts[8];
    assert_in_range(list->count, 0, 8);
    return prune_plan(list, &all, verdicts, order, err);
}

static int run_prune(struct world *w, struct err *err)
{
    struct catalogue_list list;
    int rc = catalogue_rm_chosen(&w->f->catalogue, choose_all, NULL, &list, NULL, err);
    catalogue_list_fini(&list);
    return rc;
}

static int run_import(struct world *w, struct err *err)
{
    struct import im;
    char name[NAME_MAX_CHARS + 1];
    int rc = import_init(&im, &w->f->catalogue, NULL, 0, err);
    if (rc == 0)
        rc = import_push(&im, w->stream.data, w->stream.len, err);
    if (rc == 0)
        rc = import_finish(&im, name, err);
    import_fini(&im);
    return rc;
}

/* what is found ------------------------------------------------------------------------------- */

static void check_whole(struct world *w, const struct catalogue *c, const char *name)
{
    struct verify_result result;
    struct reader r;
    struct err err = {0};
    CLEAN(clean_fd) int fd = catalogue_open(c, name, &err);
    static uint8_t got[FIXTURE_RAM];
    if (fd < 0 || verify_snapshot(fd, NULL, &result, &err) < 0 ||
        reader_open(&r, c, name, &err) < 0)
        fail_msg("'%s' is there, but %s", name, err.text);
    if (reader_read(&r, 0, got, FIXTURE_RAM, &err) < 0)
        fail_msg("'%s' is there, but %s", name, err.text);
    assert_memory_equal(got, w->ram[strchr(NAMES, name[0]) - NAMES], FIXTURE_RAM);
    reader_close(&r);
}

/* The catalogue as a string; nothing in it may be damaged. */
static void names_of(const struct catalogue *c, char *names)
{
    struct catalogue_list list;
    struct err err = {0};
    if (catalogue_list(c, &list, &err) < 0)
        fail_msg("%s", err.text);
    for (size_t i = 0; i < list.count; i++) {
        const struct catalogue_entry *e = &list.entries[i];
        if (e->problem || strlen(e->name) != 1)
            fail_msg("'%s' is there, but %s", e->name, e->problem ? e->problem : "nobody made it");
        *names++ = e->name[0];
    }
    *names = '\0';
    catalogue_list_fini(&list);
}

static bool may_be(const struct act *act, const char *names, bool done)
{
    const char *last = NULL;
    for (unsigned i = 0; i < 4 && act->after[i]; i++) {
        last = act->after[i];
        if (!done && strcmp(names, last) == 0)
            return true;
    }
    return strcmp(names, done ? last : act->before) == 0;
}

/* One power cut. What was there before has two looks at each call, a new one has one each time. */
static void cut(struct world *w, const struct act *act, uint64_t seed, bool done)
{
    char path[100], names[16];
    unsigned removed;
    struct err err = {0};
    snprintf(path, sizeof(path), "%s/left", w->f->root);
    assert_int_equal(mkdir(path, 0700), 0);
    CLEAN(clean_fd) int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    const struct catalogue c = {.fd = fd, .io = &fileio_system};
    crash_disk_leave(&w->disk, seed, fd);
    if (catalogue_clean(&c, &removed, NULL, &err) < 0)
        fail_msg("%s", err.text);
    names_of(&c, names);
    if (!may_be(act, names, done))
        fail_msg("call %u, seed %llu: the catalogue is '%s'", w->disk.step,
                 (unsigned long long)seed, names);
    for (const char *name = names; *name; name++)
        if (seed < 2 || !strchr(act->before, *name))
            check_whole(w, &c, (const char[2]){*name});
    assert_int_equal(catalogue_clean(&c, &removed, NULL, &err), 0);
    assert_int_equal(removed, 0);
    assert_int_equal(fs_remove_tree(AT_FDCWD, path, &err), 0);
}

static void cut_everywhere(struct world *w, const struct act *act)
{
    unsigned seeds = getenv("FERRY_LONG") ? 40 : 4, cuts = 0;
    bool more;
    do {
        more = crash_disk_step(&w->disk);
        /* What is certain changes with a sync only. */
        const struct crash_op *last = w->disk.step ? &w->disk.ops[w->disk.step - 1] : NULL;
        unsigned seed = more && last && last->kind != CRASH_SYNC;
        for (; seed < seeds; seed++, cuts++)
            cut(w, act, seed, !more);
    } while (more);
    assert_true(cuts > 4 * seeds);
}

static void clean_world(struct world *w)
{
    for (unsigned i = 0; i < sizeof(w->ram) / sizeof(w->ram[0]); i++)
        free(w->ram[i]);
    buf_fini(&w->stream);
    crash_disk_fini(&w->disk);
    free(w);
}

/* The catalogue lies in a directory of its own, so that what is left can lie beside it. */
static void test_act(void **state)
{
    struct fixture *f;
    struct err err = {0};
    struct world *w = calloc(1, sizeof(*w));
    now = *state;
    assert_int_equal(fixture_setup((void **)&f), 0);
    w->f = f;
    int top = f->dir;
    assert_int_equal(mkdirat(top, "catalogue", 0700), 0);
    f->dir = openat(top, "catalogue", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    f->catalogue.fd = f->dir;
    build(w);
    if (!now->before[0])
        assert_int_equal(catalogue_rm(&f->catalogue, "a", true, NULL, &err), 0);
    crash_disk_begin(&w->disk, f->dir);
    f->catalogue.io = &w->disk.io;
    if (now->run(w, &err) < 0)
        fail_msg("%s", err.text);
    crash_disk_end(&w->disk);
    cut_everywhere(w, now);
    clean_world(w);
    close(top);
    assert_int_equal(fixture_teardown((void **)&f), 0);
}

int main(void)
{
    static struct act acts[] = {
        {run_take, "abc", {"abcn"}, RAW_FULL},
        {run_take, "abc", {"abcn"}, RAW_DIFF},
        {run_take, "abc", {"abcn"}, PACKED_FULL},
        {run_take, "abc", {"abcn"}, PACKED_DIFF},
        {.run = run_rm, .before = "abc", .after = {"ab"}},
        {.run = run_rm_family, .before = "abc", .after = {"ab", "a", ""}},
        {.run = run_prune, .before = "abc", .after = {"ab", "a", ""}},
        {.run = run_import, .before = "", .after = {"a", "ab", "abc"}},
    };
    const struct CMUnitTest tests[] = {
        {"taking a full one", test_act, NULL, NULL, &acts[0]},
        {"taking a diff", test_act, NULL, NULL, &acts[1]},
        {"taking a packed full one", test_act, NULL, NULL, &acts[2]},
        {"taking a packed diff", test_act, NULL, NULL, &acts[3]},
        {"removing one", test_act, NULL, NULL, &acts[4]},
        {"removing one with its children", test_act, NULL, NULL, &acts[5]},
        {"pruning", test_act, NULL, NULL, &acts[6]},
        {"importing a chain", test_act, NULL, NULL, &acts[7]},
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
