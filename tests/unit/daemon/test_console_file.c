/* The console file: what one process mapped and wrote, another reads, and nonsense is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/scroll.h"
#include "daemon/console_file.h"

#define RING 8192u

static int new_file(void)
{
    int fd = memfd_create("console", MFD_CLOEXEC);
    assert_true(fd >= 0);
    return fd;
}

/* The writer dies without a word of goodbye. */
static void survives_its_writer(void **state)
{
    struct err err = {0};
    uint64_t begin, end, at = 0;
    char bytes[64];
    int fd = new_file();
    pid_t child = fork();
    if (child == 0) {
        struct scroll scroll;
        if (scroll_init_file(&scroll, fd, RING, &err) < 0)
            _exit(1);
        scroll_append(&scroll, "hello", 5);
        kill(getpid(), SIGKILL);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(console_file_range(fd, &begin, &end, &err), 0);
    assert_int_equal(begin, 0);
    assert_int_equal(end, 5);
    assert_int_equal(console_file_read(fd, &at, bytes, 3, &err), 3);
    assert_int_equal(at, 0);
    assert_memory_equal(bytes, "hel", 3);
    at = 3;
    assert_int_equal(console_file_read(fd, &at, bytes, sizeof(bytes), &err), 2);
    assert_memory_equal(bytes, "lo", 2);
    at = UINT64_MAX;
    assert_int_equal(console_file_read(fd, &at, bytes, sizeof(bytes), &err), 0);
    close(fd);
}

static void wraps(void **state)
{
    struct err err = {0};
    struct scroll scroll;
    uint64_t begin, end, at = 0;
    uint8_t bytes[16];
    int fd = new_file();
    assert_int_equal(scroll_init_file(&scroll, fd, RING, &err), 0);
    for (unsigned i = 0; i < 3 * RING + 5; i++)
        scroll_append(&scroll, &(uint8_t){(uint8_t)i}, 1);
    assert_int_equal(console_file_range(fd, &begin, &end, &err), 0);
    assert_int_equal(begin, 2 * RING + 5);
    assert_int_equal(end, 3 * RING + 5);
    assert_int_equal(console_file_read(fd, &at, bytes, 4, &err), 4);
    assert_int_equal(at, begin);
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(bytes[i], (uint8_t)(begin + i));
    scroll_fini(&scroll);
    close(fd);
}

static void refuses_nonsense(void **state)
{
    struct err err = {0};
    struct scroll scroll;
    uint8_t byte;
    uint64_t at = 0, bad[] = {0, RING - 1, RING + 1, 1ull << 31, UINT64_MAX};
    int fd = new_file();
    assert_int_equal(console_file_read(fd, &at, &byte, 1, &err), 0); /* empty: said nothing */
    for (int len = 1; len < 64; len++) {
        assert_int_equal(ftruncate(fd, len), 0);
        assert_int_equal(console_file_read(fd, &at, &byte, 1, &err), -EBADMSG);
    }
    assert_int_equal(scroll_init_file(&scroll, fd, RING, &err), 0);
    for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        scroll.head->size = bad[i];
        assert_int_equal(console_file_read(fd, &at, &byte, 1, &err), -EBADMSG);
    }
    scroll.head->size = RING;
    atomic_store(&scroll.head->end, UINT64_MAX); /* a lie, but no harm: all of the ring is read */
    at = 0;
    assert_int_equal(console_file_read(fd, &at, &byte, 1, &err), 1);
    scroll_fini(&scroll);
    close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(survives_its_writer),
        cmocka_unit_test(wraps),
        cmocka_unit_test(refuses_nonsense),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
