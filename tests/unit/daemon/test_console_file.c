/* The console file: golden bytes, reading from before, within and behind what is kept. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "daemon/console_file.h"

static void test_round(void **state)
{
    static const uint8_t expect[] = {5, 0, 0, 0, 0, 0, 0, 0, 'h', 'e', 'l', 'l', 'o'};
    struct err err = {0};
    uint8_t bytes[64];
    uint64_t begin, end, at = 0;
    int fd = memfd_create("console", MFD_CLOEXEC);
    assert_int_equal(console_file_write(fd, 9, "longer than the next", 20, &err), 0);
    assert_int_equal(console_file_write(fd, 5, "hello", 5, &err), 0);
    assert_int_equal(pread(fd, bytes, sizeof(bytes), 0), sizeof(expect));
    assert_memory_equal(bytes, expect, sizeof(expect));
    assert_int_equal(console_file_range(fd, &begin, &end, &err), 0);
    assert_int_equal(begin, 5);
    assert_int_equal(end, 10);
    assert_int_equal(console_file_read(fd, &at, bytes, 3, &err), 3);
    assert_int_equal(at, 5);
    assert_memory_equal(bytes, "hel", 3);
    at = 8;
    assert_int_equal(console_file_read(fd, &at, bytes, sizeof(bytes), &err), 2);
    assert_memory_equal(bytes, "lo", 2);
    at = UINT64_MAX;
    assert_int_equal(console_file_read(fd, &at, bytes, sizeof(bytes), &err), 0);
    close(fd);
}

static void test_short_and_mad(void **state)
{
    struct err err = {0};
    uint8_t bytes[16];
    uint64_t at = 0;
    int fd = memfd_create("console", MFD_CLOEXEC);
    for (int len = 0; len <= 8; len++) {
        assert_int_equal(ftruncate(fd, len), 0);
        assert_int_equal(console_file_read(fd, &at, bytes, sizeof(bytes), &err), 0);
    }
    memset(bytes, 0xff, sizeof(bytes));
    assert_int_equal(pwrite(fd, bytes, sizeof(bytes), 0), sizeof(bytes));
    assert_int_equal(console_file_read(fd, &at, bytes, sizeof(bytes), &err), -EBADMSG);
    assert_int_equal(ftruncate(fd, 0), 0);
    assert_int_equal(ftruncate(fd, CONSOLE_FILE_HEAD + CONSOLE_FILE_MAX + 1), 0);
    assert_int_equal(console_file_read(fd, &at, bytes, sizeof(bytes), &err), -EBADMSG);
    assert_int_equal(console_file_write(fd, 0, bytes, CONSOLE_FILE_MAX + 1, &err), -EFBIG);
    close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round),
        cmocka_unit_test(test_short_and_mad),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
