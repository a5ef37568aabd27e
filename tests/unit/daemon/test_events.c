/* The log of events: numbers without a gap, what is kept, every truncation and every flipped bit.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/crc32c.h"
#include "base/fs.h"
#include "base/le.h"
#include "daemon/events.h"
#include "tests/temp.h"

static char dir[100];
static int dirfd_;

static int setup(void **state)
{
    assert_true(temp_dir(dir, sizeof(dir)));
    dirfd_ = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_true(dirfd_ >= 0);
    return 0;
}

static int teardown(void **state)
{
    struct err err;
    close(dirfd_);
    return fs_remove_tree(AT_FDCWD, dir, &err);
}

static void add(struct events *e, const char *vm)
{
    struct err err;
    Ferry__Event event = FERRY__EVENT__INIT;
    event.kind = FERRY__EVENT_KIND__EVENT_STATE;
    event.vm = (char *)vm;
    assert_int_equal(events_add(e, event, &err), 0);
}

static void reopen(struct events *e, bool damaged)
{
    struct err note, err;
    assert_int_equal(events_open(e, dirfd_, &note, &err), 0);
    assert_int_equal(note.code != 0, damaged);
}

static void test_numbers_go_on(void **state)
{
    struct events e;
    reopen(&e, false);
    assert_null(events_from(&e, 0));
    add(&e, "a");
    add(&e, "b");
    events_close(&e);
    reopen(&e, false);
    assert_int_equal(e.last, 2);
    assert_string_equal(events_from(&e, 0)->vm, "a");
    assert_string_equal(events_from(&e, 2)->vm, "b");
    assert_null(events_from(&e, 3));
    assert_null(events_from(&e, UINT64_MAX));
    add(&e, "c");
    assert_int_equal(events_from(&e, 3)->seq, 3);
    events_close(&e);
}

/* The ring keeps the last, and so does the file, which does not grow without end. */
static void test_ring_and_rotation(void **state)
{
    struct events e;
    struct stat st;
    off_t most = 0;
    reopen(&e, false);
    for (unsigned i = 0; i < 6 * EVENTS_KEPT; i++) {
        add(&e, "web");
        assert_int_equal(fstat(e.fd, &st), 0);
        most = st.st_size > most ? st.st_size : most;
    }
    assert_true(most < 5 * (off_t)EVENTS_KEPT * 64);
    uint64_t last = e.last;
    assert_int_equal(events_from(&e, 0)->seq, last - EVENTS_KEPT + 1);
    events_close(&e);
    reopen(&e, false);
    assert_int_equal(e.last, last);
    assert_int_equal(events_from(&e, 0)->seq, last - EVENTS_KEPT + 1);
    events_close(&e);
    assert_int_equal(unlinkat(dirfd_, "events", 0), 0);
}

static size_t make_three(uint8_t *bytes, size_t size)
{
    struct events e;
    unlinkat(dirfd_, "events", 0);
    reopen(&e, false);
    add(&e, "a");
    add(&e, "b");
    add(&e, "c");
    events_close(&e);
    int fd = openat(dirfd_, "events", O_RDONLY | O_CLOEXEC);
    ssize_t n = read(fd, bytes, size);
    assert_true(n > 0 && (size_t)n < size);
    close(fd);
    return (size_t)n;
}

static void write_events(const uint8_t *bytes, size_t len)
{
    struct err err;
    assert_int_equal(fs_replace(dirfd_, "events", bytes, len, 0600, &err), 0);
}

static void test_golden(void **state)
{
    uint8_t bytes[512];
    size_t n = make_three(bytes, sizeof(bytes));
    size_t len = le_get(bytes, 4);
    assert_true(8 + len < n);
    assert_int_equal(le_get(bytes + 4, 4), crc32c(0, bytes + 8, len));
    assert_int_equal(bytes[8], 0x08); /* seq */
    assert_int_equal(bytes[9], 1);
    assert_int_equal(bytes[10], 0x10); /* wall_ns */
}

/* Whole records before the cut are kept; what follows is numbered behind them. */
static void test_every_truncation(void **state)
{
    uint8_t bytes[512];
    size_t n = make_three(bytes, sizeof(bytes));
    size_t one = 8 + le_get(bytes, 4);
    for (size_t cut = 0; cut < n; cut++) {
        struct events e;
        write_events(bytes, cut);
        reopen(&e, cut % one != 0);
        assert_int_equal(e.last, cut / one);
        add(&e, "d");
        events_close(&e);
        reopen(&e, false); /* it was made good */
        assert_int_equal(e.last, cut / one + 1);
        events_close(&e);
    }
}

static void test_every_bit(void **state)
{
    uint8_t bytes[512];
    size_t n = make_three(bytes, sizeof(bytes));
    size_t one = 8 + le_get(bytes, 4);
    for (size_t bit = 0; bit < n * 8; bit++) {
        struct events e;
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
        write_events(bytes, n);
        reopen(&e, true);
        assert_int_equal(e.last, bit / 8 / one);
        events_close(&e);
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
}

static void test_huge_file(void **state)
{
    struct events e;
    struct err note, err;
    int fd = openat(dirfd_, "events", O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    assert_int_equal(ftruncate(fd, 1ll << 40), 0);
    close(fd);
    assert_int_equal(events_open(&e, dirfd_, &note, &err), 0);
    assert_int_not_equal(note.code, 0);
    add(&e, "a");
    assert_int_equal(e.last, 1);
    events_close(&e);
}

/* The disk is full in the middle of a record, also for the file that would replace it; later there
 * is room again: nothing that was told before or after is lost behind the half record. */
static void test_half_a_record_on_a_full_disk(void **state)
{
    struct events e;
    struct stat st;
    struct rlimit before, full;
    struct err err;
    Ferry__Event event = FERRY__EVENT__INIT;
    event.vm = "lost";
    reopen(&e, false);
    add(&e, "a");
    uint64_t first = e.last;
    assert_int_equal(fstat(e.fd, &st), 0);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    signal(SIGXFSZ, SIG_IGN);
    full = (struct rlimit){.rlim_cur = (rlim_t)st.st_size + 5, .rlim_max = before.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &full), 0);
    assert_true(events_add(&e, event, &err) < 0);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    add(&e, "b");
    add(&e, "c");
    events_close(&e);
    reopen(&e, false);
    assert_int_equal(e.last, first + 3);
    events_close(&e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_numbers_go_on),
        cmocka_unit_test(test_ring_and_rotation),
        cmocka_unit_test(test_golden),
        cmocka_unit_test(test_every_truncation),
        cmocka_unit_test(test_every_bit),
        cmocka_unit_test(test_huge_file),
        cmocka_unit_test(test_half_a_record_on_a_full_disk),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
