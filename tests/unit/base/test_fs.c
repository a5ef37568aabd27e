/* Files as whole values, in a directory of their own that is gone afterwards. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fs.h"
#include "tests/temp.h"

static char root[64];
static int dir = -1;

static int setup(void **state)
{
    if (!temp_dir(root, sizeof(root)))
        return -1;
    dir = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return dir < 0 ? -1 : 0;
}

static int teardown(void **state)
{
    struct err err;
    clean_fd(&dir);
    return fs_remove_tree(AT_FDCWD, root, &err);
}

static unsigned entries(void)
{
    unsigned n = 0;
    DIR *d = opendir(root);
    assert_non_null(d);
    for (struct dirent *e; (e = readdir(d));)
        n += strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0;
    closedir(d);
    return n;
}

static void write_file(const char *name, const char *text)
{
    CLEAN(clean_fd) int fd = openat(dir, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
}

static void check_file(const char *name, const char *text)
{
    struct buf b;
    struct err err = {0};
    buf_init(&b, 1 << 20);
    if (fs_read_file(dir, name, &b, &err) < 0)
        fail_msg("%s", err.text);
    assert_int_equal(b.len, strlen(text));
    if (b.len)
        assert_memory_equal(b.data, text, b.len);
    buf_fini(&b);
}

static void test_make_dirs(void **state)
{
    char path[200];
    struct stat st;
    struct err err;
    snprintf(path, sizeof(path), "%s//a/b/c/", root);
    assert_int_equal(fs_make_dirs(path, 0750, &err), 0);
    assert_int_equal(fs_make_dirs(path, 0750, &err), 0); /* there already */
    assert_true(stat(path, &st) == 0 && S_ISDIR(st.st_mode));
}

static void test_make_dirs_refuses(void **state)
{
    char path[5000];
    struct err err;
    write_file("plain", "x");
    snprintf(path, sizeof(path), "%s/plain", root);
    assert_int_equal(fs_make_dirs(path, 0700, &err), -ENOTDIR);
    assert_non_null(strstr(err.text, "/plain' is not a directory"));
    snprintf(path, sizeof(path), "%s/plain/below", root);
    assert_int_equal(fs_make_dirs(path, 0700, &err), -ENOTDIR);
    assert_int_equal(fs_make_dirs("", 0700, &err), -ENAMETOOLONG);
    memset(path, 'x', sizeof(path) - 1);
    path[sizeof(path) - 1] = '\0';
    assert_int_equal(fs_make_dirs(path, 0700, &err), -ENAMETOOLONG);
}

static void test_write_replaces_and_leaves_nothing_else(void **state)
{
    struct err err;
    struct stat st;
    assert_int_equal(fs_write_atomic(dir, "f", "one", 3, 0640, &err), 0);
    check_file("f", "one");
    assert_int_equal(fs_write_atomic(dir, "f", "", 0, 0640, &err), 0);
    check_file("f", "");
    write_file(".f.new", "left by a killed process, longer than what comes");
    assert_int_equal(fs_write_atomic(dir, "f", "two", 3, 0640, &err), 0);
    check_file("f", "two");
    assert_int_equal(entries(), 1);
    assert_int_equal(fstatat(dir, "f", &st, 0), 0);
    assert_int_equal(st.st_mode & 0777 & ~0640, 0);
}

static void test_failed_write_keeps_the_old_and_cleans_up(void **state)
{
    char name[300];
    struct err err;
    assert_int_equal(mkdirat(dir, "d", 0700), 0);
    assert_int_equal(fs_write_atomic(dir, "d", "x", 1, 0600, &err), -EISDIR);
    assert_string_equal(err.text, "cannot write 'd': Is a directory");
    assert_int_equal(entries(), 1);
    memset(name, 'n', sizeof(name) - 1);
    name[sizeof(name) - 1] = '\0';
    assert_int_equal(fs_write_atomic(dir, name, "x", 1, 0600, &err), -ENAMETOOLONG);
    assert_int_equal(fs_write_atomic(-1, "f", "x", 1, 0600, &err), -EBADF);
    assert_int_equal(entries(), 1);
}

/* The temporary name may be somebody's link: the target must not be touched. */
static void test_write_follows_no_link(void **state)
{
    struct err err;
    write_file("precious", "keep");
    assert_int_equal(symlinkat("precious", dir, ".f.new"), 0);
    (void)fs_write_atomic(dir, "f", "x", 1, 0600, &err);
    check_file("precious", "keep");
}

static void test_read_is_bounded(void **state)
{
    struct buf b;
    struct err err;
    write_file("f", "12345678");
    buf_init(&b, 8);
    assert_int_equal(fs_read_file(dir, "f", &b, &err), 0);
    assert_int_equal(b.len, 8);
    buf_fini(&b);
    buf_init(&b, 7);
    assert_int_equal(fs_read_file(dir, "f", &b, &err), -EFBIG);
    assert_string_equal(err.text, "'f' is larger than 7 bytes");
    buf_fini(&b);
    buf_init(&b, 0);
    assert_int_equal(fs_read_file(dir, "f", &b, &err), -EFBIG);
    buf_fini(&b);
}

static void test_read_appends(void **state)
{
    struct buf b;
    struct err err;
    write_file("f", "tail");
    buf_init(&b, 100);
    assert_int_equal(buf_append(&b, "head ", 5), 0);
    assert_int_equal(fs_read_file(dir, "f", &b, &err), 0);
    assert_int_equal(b.len, 9);
    assert_memory_equal(b.data, "head tail", 9);
    buf_fini(&b);
}

/* None of them may block or be followed. */
static void test_read_takes_plain_files_only(void **state)
{
    struct buf b;
    struct err err;
    buf_init(&b, 100);
    assert_int_equal(mkdirat(dir, "d", 0700), 0);
    assert_int_equal(mkfifoat(dir, "fifo", 0600), 0);
    write_file("f", "x");
    assert_int_equal(symlinkat("f", dir, "link"), 0);
    assert_int_equal(fs_read_file(dir, "d", &b, &err), -EINVAL);
    assert_string_equal(err.text, "'d' is not a plain file");
    assert_int_equal(fs_read_file(dir, "fifo", &b, &err), -EINVAL);
    assert_int_equal(fs_read_file(dir, "link", &b, &err), -ELOOP);
    assert_int_equal(fs_read_file(AT_FDCWD, "/dev/zero", &b, &err), -EINVAL);
    assert_int_equal(fs_read_file(dir, "none", &b, &err), -ENOENT);
    assert_string_equal(err.text, "cannot open 'none': No such file or directory");
    assert_int_equal(b.len, 0);
    buf_fini(&b);
}

static void test_read_tail(void **state)
{
    char to[8];
    write_file("f", "0123456789");
    CLEAN(clean_fd) int fd = openat(dir, "f", O_RDONLY | O_CLOEXEC);
    assert_int_equal(fs_read_tail(fd, to, 4), 4);
    assert_memory_equal(to, "6789", 4);
    assert_int_equal(fs_read_tail(fd, to, 0), 0);
    assert_int_equal(fs_read_tail(-1, to, 4), -EBADF);
    write_file("f", "ab");
    assert_int_equal(fs_read_tail(fd, to, 8), 2);
    assert_memory_equal(to, "ab", 2);
}

static void test_remove_tree(void **state)
{
    char path[200];
    struct err err;
    write_file("outside", "keep");
    snprintf(path, sizeof(path), "%s/t/a/b", root);
    assert_int_equal(fs_make_dirs(path, 0700, &err), 0);
    write_file("t/f", "x");
    write_file("t/a/b/f", "x");
    assert_int_equal(mkfifoat(dir, "t/fifo", 0600), 0);
    assert_int_equal(symlinkat("../outside", dir, "t/link"), 0);
    assert_int_equal(symlinkat("..", dir, "t/up"), 0);
    assert_int_equal(fs_remove_tree(dir, "t", &err), 0);
    assert_int_equal(entries(), 1);
    check_file("outside", "keep");
    assert_int_equal(fs_remove_tree(dir, "t", &err), 0); /* a missing one is fine */
    assert_int_equal(fs_remove_tree(dir, "outside", &err), 0);
    assert_int_equal(entries(), 0);
}

static void test_remove_takes_a_link_not_its_target(void **state)
{
    struct err err;
    assert_int_equal(mkdirat(dir, "target", 0700), 0);
    write_file("target/f", "keep");
    assert_int_equal(symlinkat("target", dir, "link"), 0);
    assert_int_equal(fs_remove_tree(dir, "link", &err), 0);
    check_file("target/f", "keep");
    assert_int_equal(entries(), 1);
}

#define EACH(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        EACH(test_make_dirs),
        EACH(test_make_dirs_refuses),
        EACH(test_write_replaces_and_leaves_nothing_else),
        EACH(test_failed_write_keeps_the_old_and_cleans_up),
        EACH(test_write_follows_no_link),
        EACH(test_read_is_bounded),
        EACH(test_read_appends),
        EACH(test_read_takes_plain_files_only),
        EACH(test_read_tail),
        EACH(test_remove_tree),
        EACH(test_remove_takes_a_link_not_its_target),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
