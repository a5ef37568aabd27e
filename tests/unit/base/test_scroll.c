/* A scrollback keeps the last bytes at their offsets, in memory and in a file, and a file that is
 * none is refused. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/scroll.h"

static void make(struct scroll *s, size_t size)
{
    struct err err;
    assert_int_equal(scroll_init(s, size, &err), 0);
}

/* Byte n of the stream, so that a reader can tell where it is. */
static uint8_t byte_at(uint64_t n)
{
    return (uint8_t)(n * 7 + (n >> 8));
}

static void append(struct scroll *s, size_t len)
{
    uint8_t data[64];
    assert_true(len <= sizeof(data));
    for (size_t i = 0; i < len; i++)
        data[i] = byte_at(scroll_end(s) + i);
    scroll_append(s, data, len);
}

static void check_window(const struct scroll *s)
{
    uint8_t data[128];
    uint64_t at = scroll_begin(s), missed = 99;
    size_t n = scroll_read(s, &at, data, sizeof(data), &missed);
    assert_int_equal(n, scroll_end(s) - scroll_begin(s));
    assert_int_equal(missed, 0);
    assert_int_equal(at, scroll_end(s));
    for (size_t i = 0; i < n; i++)
        assert_int_equal(data[i], byte_at(scroll_begin(s) + i));
}

static void test_keeps_the_last_bytes(void **state)
{
    struct scroll s;
    for (size_t size = 1; size < 20; size++) {
        make(&s, size);
        for (size_t len = 0; len < 45; len++) {
            append(&s, len);
            uint64_t end = scroll_end(&s);
            assert_int_equal(scroll_begin(&s), end > size ? end - size : 0);
            check_window(&s);
        }
        scroll_fini(&s);
    }
}

static void test_slow_reader_is_told_what_it_missed(void **state)
{
    struct scroll s;
    uint8_t data[10];
    uint64_t at = 3, missed;
    make(&s, 8);
    append(&s, 20);
    assert_int_equal(scroll_read(&s, &at, data, 5, &missed), 5);
    assert_int_equal(missed, 9); /* 3..11 */
    assert_int_equal(at, 17);
    assert_int_equal(data[0], byte_at(12));
    assert_int_equal(scroll_read(&s, &at, data, 10, &missed), 3);
    assert_int_equal(missed, 0);
    assert_int_equal(scroll_read(&s, &at, data, 10, &missed), 0);
    scroll_fini(&s);
}

static void test_offset_behind_the_end_comes_back(void **state)
{
    struct scroll s;
    uint8_t data[10];
    uint64_t at = UINT64_MAX, missed;
    make(&s, 8);
    append(&s, 5);
    assert_int_equal(scroll_read(&s, &at, data, 10, &missed), 0);
    assert_int_equal(at, 5);
    at = 0;
    assert_int_equal(scroll_read(&s, &at, data, 0, &missed), 0);
    assert_int_equal(at, 0);
    scroll_fini(&s);
}

static int temp(void)
{
    int fd = memfd_create("scroll", MFD_CLOEXEC);
    assert_true(fd >= 0);
    return fd;
}

static void test_file_outlives_its_writer(void **state)
{
    CLEAN(clean_fd) int fd = temp();
    struct scroll s;
    struct err err;
    assert_int_equal(scroll_init_file(&s, fd, 16, &err), 0);
    append(&s, 40);
    scroll_fini(&s);
    assert_int_equal(scroll_open_file(&s, fd, &err), 0);
    assert_int_equal(scroll_begin(&s), 24);
    check_window(&s);
    scroll_fini(&s);
    assert_int_equal(scroll_init_file(&s, fd, 16, &err), 0); /* begins empty again */
    assert_int_equal(scroll_end(&s), 0);
    scroll_fini(&s);
}

static void test_file_as_a_person_reads_it(void **state)
{
    static const uint8_t head[] = {
        'F', 'E', 'R', 'R', 'Y', 'S', 'C', 'R', /* magic */
        4,   0,   0,   0,   0,   0,   0,   0,   /* size of the ring */
        6,   0,   0,   0,   0,   0,   0,   0,   /* end */
    };
    CLEAN(clean_fd) int fd = temp();
    uint8_t raw[SCROLL_HEAD_BYTES + 4];
    struct scroll s;
    struct err err;
    assert_int_equal(scroll_init_file(&s, fd, 4, &err), 0);
    scroll_append(&s, "abcdef", 6);
    scroll_fini(&s);
    assert_int_equal(pread(fd, raw, sizeof(raw), 0), sizeof(raw));
    assert_memory_equal(raw, head, sizeof(head));
    assert_memory_equal(raw + SCROLL_HEAD_BYTES, "efcd", 4);
}

static int open_with(uint64_t magic, uint64_t size, uint64_t end, off_t bytes, struct err *err)
{
    CLEAN(clean_fd) int fd = temp();
    uint64_t head[] = {magic, size, end};
    struct scroll s;
    size_t n = (size_t)bytes < sizeof(head) ? (size_t)bytes : sizeof(head);
    assert_int_equal(pwrite(fd, head, n, 0), n);
    assert_int_equal(ftruncate(fd, bytes), 0);
    int rc = scroll_open_file(&s, fd, err);
    if (rc == 0) {
        uint8_t data[64];
        uint64_t at = 0, missed;
        assert_true(scroll_read(&s, &at, data, sizeof(data), &missed) <= size);
    }
    scroll_fini(&s);
    return rc;
}

static void test_files_that_are_none(void **state)
{
    static const uint64_t sizes[] = {
        0,          15,         17,         1ull << 31,
        UINT32_MAX, 1ull << 63, UINT64_MAX, UINT64_MAX - SCROLL_HEAD_BYTES + 1};
    struct err err;
    off_t whole = SCROLL_HEAD_BYTES + 16;
    assert_int_equal(open_with(SCROLL_MAGIC, 16, 5, whole, &err), 0);
    assert_int_equal(open_with(SCROLL_MAGIC, 16, UINT64_MAX, whole, &err), 0);
    assert_int_equal(open_with(SCROLL_MAGIC, 16, 5, 0, &err), -ENODATA);
    for (off_t bytes = 1; bytes < whole; bytes += bytes < 32 ? 1 : 97)
        assert_int_equal(open_with(SCROLL_MAGIC, 16, 5, bytes, &err), -EBADMSG);
    assert_int_equal(open_with(SCROLL_MAGIC, 16, 5, whole + 1, &err), -EBADMSG);
    for (unsigned bit = 0; bit < 64; bit++) {
        assert_int_equal(open_with(SCROLL_MAGIC ^ 1ull << bit, 16, 5, whole, &err), -EBADMSG);
        assert_int_equal(open_with(SCROLL_MAGIC, 16 ^ 1ull << bit, 5, whole, &err), -EBADMSG);
    }
    for (unsigned i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
        assert_int_equal(open_with(SCROLL_MAGIC, sizes[i], 5, whole, &err), -EBADMSG);
    assert_string_equal(err.text, "the scrollback's file makes no sense");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_keeps_the_last_bytes),
        cmocka_unit_test(test_slow_reader_is_told_what_it_missed),
        cmocka_unit_test(test_offset_behind_the_end_comes_back),
        cmocka_unit_test(test_file_outlives_its_writer),
        cmocka_unit_test(test_file_as_a_person_reads_it),
        cmocka_unit_test(test_files_that_are_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
