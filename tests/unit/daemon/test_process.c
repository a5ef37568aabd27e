/* Processes are recognised by more than their number, and how they ended is told; locks name their
 * holder. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fs.h"
#include "daemon/lock.h"
#include "daemon/process.h"
#include "tests/temp.h"

static pid_t child_that(int signal_number, int status)
{
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid)
        return pid;
    if (signal_number) {
        signal(signal_number, SIG_DFL);
        kill(getpid(), signal_number);
    }
    _exit(status);
}

static void expect_epitaph(pid_t pid, const char *expect)
{
    struct process p;
    struct err err;
    char text[256];
    assert_int_equal(process_open(&p, pid, NULL, &err), 0);
    struct pollfd ends = {.fd = p.pidfd, .events = POLLIN};
    assert_int_equal(poll(&ends, 1, 20000), 1);
    process_epitaph(&p, text, sizeof(text));
    assert_string_equal(text, expect);
    process_epitaph(&p, text, sizeof(text)); /* it is reaped: nobody's child any more */
    assert_non_null(strstr(text, "earlier ferryd"));
    process_close(&p);
    assert_int_equal(waitpid(pid, NULL, 0), -1);
}

static void test_epitaphs(void **state)
{
    expect_epitaph(child_that(0, 0), "worker exited with status 0");
    expect_epitaph(child_that(0, 7), "worker exited with status 7");
    expect_epitaph(child_that(SIGKILL, 0), "worker killed by signal 9 (SIGKILL)");
    expect_epitaph(child_that(SIGBUS, 0),
                   "worker killed by signal 7 (SIGBUS): memory that it has mapped cannot be read: "
                   "its snapshot was cut short, or the disk under it fails");
    expect_epitaph(child_that(SIGTERM, 0), "worker killed by signal 15 (SIGTERM)");
}

static void test_another_of_that_number(void **state)
{
    struct process p;
    struct err err;
    struct process_usage usage;
    assert_int_equal(process_open(&p, getpid(), NULL, &err), 0);
    uint64_t start = p.start;
    assert_true(start > 0);
    assert_int_equal(process_usage(&p, &usage), 0);
    assert_true(usage.rss_bytes > 0);
    process_close(&p);
    assert_int_equal(process_open(&p, getpid(), &start, &err), 0);
    process_close(&p);
    start++;
    assert_int_equal(process_open(&p, getpid(), &start, &err), -ESRCH);
    assert_int_equal(p.pidfd, -1);
    process_kill(&p); /* nobody */
    assert_int_equal(process_open(&p, 0, NULL, &err), -ESRCH);
    assert_int_equal(process_open(&p, -1, NULL, &err), -ESRCH);
    assert_true(process_open(&p, 0x7fffffff, NULL, &err) < 0);
}

static void test_lock(void **state)
{
    char dir[100], expect[200];
    struct err err = {0};
    assert_true(temp_dir(dir, sizeof(dir)));
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int lock = lock_take(fd, dir, &err);
    assert_true(lock >= 0);
    assert_int_equal(lock_take(fd, dir, &err), -EBUSY);
    snprintf(expect, sizeof(expect), "'%s' is in use by the ferryd with pid %d", dir,
             (int)getpid());
    assert_string_equal(err.text, expect);
    close(lock);
    lock = lock_take(fd, dir, &err);
    assert_true(lock >= 0);
    close(lock);
    close(fd);
    assert_int_equal(fs_remove_tree(AT_FDCWD, dir, &err), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_epitaphs),
        cmocka_unit_test(test_another_of_that_number),
        cmocka_unit_test(test_lock),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
