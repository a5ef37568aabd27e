/*
 * The programs as a user runs them, with real guests: a session, the death of each process, many
 * starts and stops that leave nothing behind.
 */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>

#include <cmocka.h>

#include "tests/kvm/host.h"
#include "tests/kvm/rig.h"

static long count_now(struct host *h, const char *name)
{
    static char out[65536];
    long value = -1;
    host_run(h, out, sizeof(out), "console %s --log", name);
    for (const char *at = out; (at = strstr(at, "count=")); at += 6)
        value = strtol(at + 6, NULL, 10);
    return value;
}

static void wait_for_count(struct host *h, const char *name, long least)
{
    char text[40];
    snprintf(text, sizeof(text), "count=%ld ", least);
    host_expect(h, text, 20000, "console %s --log", name);
}

static void a_session(void **state)
{
    struct host h;
    host_start(&h);
    host_must(&h, "start web --kernel %%G/hello.elf --memory 64M --cpus 2");
    host_expect(&h, "running", 1000, "list");
    wait_for_count(&h, "web", 3);
    host_must(&h, "pause web");
    host_expect(&h, "paused", 1000, "list");
    long before = count_now(&h, "web");
    host_must(&h, "stats web");
    host_must(&h, "show web");
    assert_int_equal(count_now(&h, "web"), before);
    host_must(&h, "resume web");
    wait_for_count(&h, "web", before + 2);
    host_must(&h, "stop web --timeout 20s");
    host_expect(&h, "stopped", 1000, "list");
    host_expect(&h, "power button, bye", 1000, "console web --log");
    host_must(&h, "start web"); /* again, from its definition */
    wait_for_count(&h, "web", 2);
    host_must(&h, "reset web");
    host_expect(&h, "hello from ferry guest", 10000, "console web --log");
    host_must(&h, "kill web");
    host_must(&h, "rm web");
    host_stop(&h);
}

static void guests_outlive_ferryd(void **state)
{
    struct host h;
    host_start(&h);
    host_must(&h, "start a --kernel %%G/hello.elf --memory 64M");
    host_must(&h, "start b --kernel %%G/hello.elf --memory 64M --cmdline quit=12");
    wait_for_count(&h, "a", 2);
    long pid = host_number(&h, "a", "pid"), before = count_now(&h, "a");
    assert_true(pid > 0);
    host_kill_ferryd(&h);
    host_start_ferryd(&h);
    host_expect_state(&h, "a", "running", 1000);
    assert_int_equal(host_number(&h, "a", "pid"), pid);
    wait_for_count(&h, "a", before + 3);
    host_expect(&h, "found running", 1000, "events");
    host_must(&h, "pause a");
    host_must(&h, "resume a");
    /* b ends by itself, with a ferryd that is not its parent. */
    host_expect_state(&h, "b", "stopped", 20000);
    /* And one that ends while nobody is there tells it by its record. */
    host_must(&h, "start b");
    wait_for_count(&h, "b", 1);
    pid_t b = host_pid(&h, "b");
    host_kill_ferryd(&h);
    for (int i = 0; i < 10000 && kill(b, 0) == 0 && host_usage(b).fds > 0; i++)
        nanosleep(&(struct timespec){.tv_nsec = 2000000}, NULL);
    host_start_ferryd(&h);
    host_expect_state(&h, "b", "stopped", 1000);
    host_expect(&h, "count=12", 1000, "console b --log");
    host_stop(&h);
}

static void a_killed_worker_is_a_crash(void **state)
{
    struct host h;
    host_start(&h);
    host_must(&h, "start a --kernel %%G/hello.elf --memory 64M");
    host_must(&h, "start b --kernel %%G/hello.elf --memory 64M");
    wait_for_count(&h, "a", 2);
    assert_int_equal(kill(host_pid(&h, "a"), SIGKILL), 0);
    host_expect(&h, "crashed", 5000, "list");
    host_expect(&h, "SIGKILL", 1000, "show a");
    host_expect(&h, "count=2", 1000, "console a --log"); /* its last words are kept */
    host_expect_state(&h, "b", "running", 1000);
    host_must(&h, "start a");
    wait_for_count(&h, "a", 1);
    host_stop(&h);
}

static void faults_are_told(void **state)
{
    struct host h;
    host_start(&h);
    host_must(&h, "start t --kernel %%G/hello.elf --memory 64M --cmdline triple");
    host_expect(&h, "failed", 10000, "list");
    host_expect(&h, "triple fault", 1000, "show t");
    host_expect(&h, "rip", 1000, "show t");
    host_must(&h, "start u --kernel %%G/hello.elf --memory 64M --cmdline ud");
    host_expect(&h, "internal error", 10000, "show u");
    host_must(&h, "start r --kernel %%G/hello.elf --memory 64M --cmdline reboot=2");
    host_expect(&h, "i8042", 20000, "events");
    host_expect_state(&h, "r", "running", 1000);
    host_must(&h, "reset t");
    host_stop(&h);
}

static void a_second_ferryd_is_refused(void **state)
{
    struct host h;
    char command[4600];
    host_start(&h);
    snprintf(command, sizeof(command), "timeout 20 %s/bin/ferryd --root %s/root --run %s/run2 2>&1",
             h.build, h.dir, h.dir);
    FILE *f = popen(command, "r");
    char line[1000] = "";
    assert_non_null(fgets(line, sizeof(line), f));
    assert_int_equal(WEXITSTATUS(pclose(f)), 1);
    host_must(&h, "list");
    host_stop(&h);
}

/* The first cycles fill caches; from then on nothing may grow. */
static void many_cycles_leave_nothing(void **state)
{
    struct host h;
    struct host_usage before = {0};
    host_start(&h);
    for (int i = 0; i < 50; i++) {
        if (i == 10)
            before = host_usage(h.ferryd);
        host_must(&h, "start c --kernel %%G/hello.elf --memory 32M --cmdline period=10");
        wait_for_count(&h, "c", 1);
        host_must(&h, i % 2 ? "kill c" : "stop c");
        host_must(&h, "rm c");
    }
    struct host_usage after = host_usage(h.ferryd);
    assert_int_equal(after.fds, before.fds);
    assert_int_equal(after.threads, before.threads);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__) /* they keep freed memory */
    assert_true(after.anon_kib <= before.anon_kib + 256);
#endif
    host_stop(&h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_session),
        cmocka_unit_test(guests_outlive_ferryd),
        cmocka_unit_test(a_killed_worker_is_a_crash),
        cmocka_unit_test(faults_are_told),
        cmocka_unit_test(a_second_ferryd_is_refused),
        cmocka_unit_test(many_cycles_leave_nothing),
    };
    rig_need_kvm();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
