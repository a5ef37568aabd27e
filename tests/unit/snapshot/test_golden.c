/*
 * Snapshots of the first format, as they lie in tests/golden/snapshot-v1, stay what they were: in
 * every later release they open, verify, and have the memory and state that they were made with.
 * And who reads them by docs/snapshot-format.md alone sees the same.
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
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fs.h"
#include "snapshot/reader.h"
#include "snapshot/verify.h"
#include "tests/temp.h"
#include "vmstate/section.h"

#define PAGES 16u
#define RAM (PAGES * 4096u)

/* Of each page the factor of its pattern; 0 for a page of zeros. */
static const struct golden {
    const char *name;
    unsigned layers, instance, pages[PAGES];
} goldens[] = {
    {"full", 1, 1, {[1] = 3, [2] = 5, [7] = 9}},
    {"diff", 2, 2, {[1] = 3, [2] = 11, [9] = 13}},
    {"packed-diff", 3, 3, {[2] = 11, [9] = 13, [15] = 17}},
    {"packed", 1, 4, {[2] = 11, [9] = 13, [15] = 17}},
};
#define GOLDENS (sizeof(goldens) / sizeof(goldens[0]))

static char source[200], golden_dir[256];

static struct catalogue open_goldens(void)
{
    const char *from = getenv("FERRY_SOURCE");
    snprintf(source, sizeof(source), "%s", from ? from : ".");
    snprintf(golden_dir, sizeof(golden_dir), "%s/tests/golden/snapshot-v1", source);
    int fd = open(golden_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        fail_msg("no %s: FERRY_SOURCE is the top of the tree", golden_dir);
    return (struct catalogue){.fd = fd, .io = &fileio_system};
}

static void check_ram(const uint8_t *ram, const struct golden *g)
{
    for (unsigned p = 0; p < PAGES; p++)
        for (unsigned i = 0; i < 4096; i++) {
            unsigned want = g->pages[p] ? (p * 7 + i * g->pages[p]) % 251 + 1 : 0;
            if (ram[p * 4096 + i] != want)
                fail_msg("%s: byte %u of page %u is %u, not %u", g->name, i, p, ram[p * 4096 + i],
                         want);
        }
}

static void check_state(struct span in, const struct golden *g)
{
    struct section s;
    struct err err = {0};
    if (section_read(&in, &s, &err) != 1)
        fail_msg("%s: %s", g->name, err.text);
    assert_string_equal(s.name, "golden");
    assert_int_equal(s.instance, g->instance);
    assert_int_equal(s.payload.left, strlen(g->name));
    assert_memory_equal(s.payload.at, g->name, s.payload.left);
    assert_int_equal(in.left, 0);
}

static void test_load(void **state)
{
    static uint8_t ram[RAM];
    struct catalogue c = open_goldens();
    for (unsigned i = 0; i < GOLDENS; i++) {
        const struct golden *g = &goldens[i];
        struct verify_result result;
        struct reader r;
        struct buf bytes;
        struct err err = {0};
        buf_init(&bytes, SNAPSHOT_STATE_MAX);
        int fd = catalogue_open(&c, g->name, &err);
        if (fd < 0 || verify_snapshot(fd, NULL, &result, &err) < 0 ||
            reader_open(&r, &c, g->name, &err) < 0 || reader_read(&r, 0, ram, RAM, &err) < 0 ||
            reader_state(&r, fd, &bytes, &err) < 0)
            fail_msg("%s: %s", g->name, err.text);
        assert_int_equal(r.count, g->layers);
        assert_int_equal(reader_manifest(&r)->regions[1]->gpa, 4ull << 30);
        assert_string_equal(reader_manifest(&r)->cpu->features, "sse sse2 cx16");
        check_ram(ram, g);
        check_state((struct span){bytes.data, bytes.len}, g);
        buf_fini(&bytes);
        reader_close(&r);
        close(fd);
    }
    close(c.fd);
}

/* The pieces of RAM that a restore maps. */
static void test_extents(void **state)
{
    static const struct reader_extent want[] = {
        {0, 4096, 0, 0},          {4096, 4096, 0, 4096},         {8192, 4096, 1, 8192},
        {12288, 16384, 0, 12288}, {28672, 4096, READER_ZERO, 0}, {32768, 4096, 0, 32768},
        {36864, 4096, 1, 36864},  {40960, 24576, 0, 40960},
    };
    struct catalogue c = open_goldens();
    struct reader_extent *got;
    struct reader r;
    struct err err = {0};
    size_t count;
    assert_int_equal(reader_open(&r, &c, "diff", &err), 0);
    assert_int_equal(reader_extents(&r, 100, &got, &count, &err), 0);
    unsigned n = 0; /* the first two are one piece */
    for (size_t i = 0; i < count; i++) {
        uint64_t end = got[i].offset + got[i].length;
        assert_int_equal(got[i].offset, want[n].offset);
        assert_int_equal(got[i].layer, want[n].layer);
        assert_int_equal(got[i].file_offset, want[n].file_offset);
        while (n < 8 && want[n].offset < end) {
            assert_int_equal(got[i].layer, want[n].layer);
            n++;
        }
    }
    assert_int_equal(n, 8);
    assert_int_equal(count, 7);
    free(got);
    assert_int_equal(reader_extents(&r, 6, &got, &count, &err), -E2BIG);
    reader_close(&r);
    close(c.fd);
}

/* Returns the exit code. */
static int run_script(const char *from, const char *name, const char *out)
{
    char script[300], snapshot[300];
    snprintf(script, sizeof(script), "%s/tools/read_snapshot.py", source);
    snprintf(snapshot, sizeof(snapshot), "%s/%s", from, name);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        execlp("python3", "python3", script, snapshot, out, NULL);
        _exit(127);
    }
    int status = 0;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void test_python(void **state)
{
    struct catalogue c = open_goldens();
    char dir[64], out[80];
    struct err err = {0};
    assert_true(temp_dir(dir, sizeof(dir)));
    snprintf(out, sizeof(out), "%s/ram", dir);
    for (unsigned i = 0; i < GOLDENS; i++) {
        struct buf ram;
        int code = run_script(golden_dir, goldens[i].name, out);
        if (code == 127 || code == 77) {
            (void)fs_remove_tree(AT_FDCWD, dir, &err);
            print_message("needs python3 and zstd\n");
            skip();
        }
        assert_int_equal(code, 0);
        buf_init(&ram, RAM + 1);
        if (fs_read_file(AT_FDCWD, out, &ram, &err) < 0)
            fail_msg("%s", err.text);
        assert_int_equal(ram.len, RAM);
        check_ram(ram.data, &goldens[i]);
        buf_fini(&ram);
    }
    assert_int_equal(fs_remove_tree(AT_FDCWD, dir, &err), 0);
    close(c.fd);
}

/* It finds a parent by its uuid, whatever that is called; and does not take another for it. */
static void test_python_renamed(void **state)
{
    struct catalogue c = open_goldens();
    char dir[64], out[80], parent[80], command[600];
    struct err err = {0};
    assert_true(temp_dir(dir, sizeof(dir)));
    snprintf(out, sizeof(out), "%s/ram", dir);
    snprintf(command, sizeof(command), "cp -r %s %s/all && mv %s/all/full %s/all/other", golden_dir,
             dir, dir, dir);
    assert_int_equal(system(command), 0);
    snprintf(command, sizeof(command), "%s/all", dir);
    int code = run_script(command, "diff", out);
    snprintf(parent, sizeof(parent), "%s/all/other", dir);
    assert_int_equal(fs_remove_tree(AT_FDCWD, parent, &err), 0);
    int orphan = run_script(command, "diff", out);
    assert_int_equal(fs_remove_tree(AT_FDCWD, dir, &err), 0);
    close(c.fd);
    if (code == 127 || code == 77)
        skip();
    assert_int_equal(code, 0);
    assert_int_equal(orphan, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_load),
        cmocka_unit_test(test_extents),
        cmocka_unit_test(test_python),
        cmocka_unit_test(test_python_renamed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
