/*
 * What happens to a VM when two things happen to it at once, or one of them fails half way.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/kvm/host.h"
#include "tests/kvm/rig.h"

static void log_says(const struct host *h, const char *name, const char *text, bool says)
{
    char path[200];
    static char log[1 << 20];
    snprintf(path, sizeof(path), "%s/root/vms/%s/log", h->dir, name);
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    log[fread(log, 1, sizeof(log) - 1, f)] = '\0';
    fclose(f);
    if (!strstr(log, text) == says)
        fail_msg("the log of %s: %.3000s", name, log);
}

static void copy_guest(const struct host *h, const char *guest)
{
    char command[9000];
    snprintf(command, sizeof(command), "cp %s/guests/%s.elf %s/kernel", h->build, guest, h->dir);
    assert_int_equal(system(command), 0);
}

static void empty_kernel(const struct host *h)
{
    char path[200];
    snprintf(path, sizeof(path), "%s/kernel", h->dir);
    assert_int_equal(truncate(path, 0), 0);
}

/* The guest cannot be built again: who asked for the reset is told why, and it is off. */
static void a_reset_that_fails_is_told(void **state)
{
    struct host h;
    char out[4096];
    host_start(&h);
    copy_guest(&h, "hello");
    host_must(&h, "start a --kernel %s/kernel --memory 32M", h.dir);
    empty_kernel(&h);
    assert_int_equal(host_run(&h, out, sizeof(out), "reset a"), 1);
    assert_non_null(strstr(out, "kernel: the file is empty"));
    host_expect(&h, "stopped", 10000, "list");
    host_expect(&h, "cannot be built again", 1000, "show a");
    log_says(&h, "a", "ERROR: AddressSanitizer", false);
    log_says(&h, "a", "misses an answer", false);
    host_stop(&h);
}

/* The same when the guest resets itself. */
static void a_guest_reset_that_fails_is_told(void **state)
{
    struct host h;
    host_start(&h);
    copy_guest(&h, "hello");
    host_must(&h, "start a --kernel %s/kernel --memory 32M --cmdline reboot=5", h.dir);
    empty_kernel(&h);
    host_expect(&h, "stopped", 20000, "list");
    host_expect(&h, "cannot be built again", 1000, "show a");
    host_stop(&h);
}

/* Whenever the pause meets the reset: what says that it is paused stays paused. */
static void a_paused_guest_does_not_reset_itself_to_run(void **state)
{
    struct host h;
    host_start(&h);
    host_must(&h, "start a --kernel %%G/hello.elf --memory 32M --cmdline reset");
    for (int i = 0; i < 40; i++) {
        host_must(&h, "pause a");
        host_expect(&h, "paused", 0, "list");
        host_must(&h, "resume a");
    }
    host_stop(&h);
}

/* The first fault is the one that is told; those of the other CPUs add nothing. */
static void many_faults_are_one(void **state)
{
    struct host h;
    host_start(&h);
    host_must(&h, "start a --kernel %%G/smp.elf --memory 64M --cpus 16 --cmdline triple");
    for (int i = 0; i < 10; i++) {
        host_expect(&h, "failed", 30000, "list");
        host_must(&h, "reset a");
    }
    host_expect(&h, "failed", 30000, "list");
    log_says(&h, "a", "no way from", false);
    host_stop(&h);
}

static unsigned count_in_log(const struct host *h, const char *name, const char *text)
{
    char path[200], line[2048];
    unsigned n = 0;
    snprintf(path, sizeof(path), "%s/root/vms/%s/log", h->dir, name);
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    while (fgets(line, sizeof(line), f))
        n += strstr(line, text) != NULL;
    fclose(f);
    return n;
}

/* A guest that resets itself for ever: ferryd and the worker answer, and the logs stay readable. */
static void a_reset_loop_fills_nothing(void **state)
{
    struct host h;
    host_start(&h);
    host_must(&h, "start a --kernel %%G/hello.elf --memory 32M --cmdline reset");
    for (int i = 0; i < 300 && host_number(&h, "a", "resets") < 60; i++)
        host_must(&h, "stats a");
    assert_true(host_number(&h, "a", "resets") >= 60);
    assert_true(count_in_log(&h, "a", "the guest reset itself") < 30);
    host_must(&h, "kill a");
    host_stop(&h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_reset_that_fails_is_told),
        cmocka_unit_test(a_guest_reset_that_fails_is_told),
        cmocka_unit_test(a_paused_guest_does_not_reset_itself_to_run),
        cmocka_unit_test(many_faults_are_one),
        cmocka_unit_test(a_reset_loop_fills_nothing),
    };
    rig_need_kvm();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
