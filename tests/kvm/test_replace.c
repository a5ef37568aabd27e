/*
 * A VM goes back in time in place, or does not: what the old one, its watchers and its files see of
 * it, also when somebody dies in the middle. And restores that die in the middle.
 */
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/kvm/host.h"
#include "tests/kvm/remake.h"
#include "tests/kvm/rig.h"

#define RAW_FULL FERRY__SNAPSHOT_MEMORY__SNAPSHOT_MEMORY_RAW_FULL

static void need_more(Ferry__SnapshotManifest *m)
{
    static Ferry__SnapshotCpu cpu;
    static char features[16384];
    cpu = *m->cpu;
    snprintf(features, sizeof(features), "%s warp9 tardis", cpu.features);
    cpu.features = features;
    m->cpu = &cpu;
}

static void no_state(struct buf *state)
{
    state->len = 40;
}

/* What the guest counted to first and last since its worker began. */
static void counts(struct host *h, const char *name, long *first, long *last)
{
    static char out[65536];
    *first = *last = -1;
    host_run(h, out, sizeof(out), "console %s --log", name);
    for (const char *at = out; (at = strstr(at, "count=")); at++) {
        *last = atol(at + 6);
        *first = *first < 0 ? *last : *first;
    }
}

static void expect_same_uuid(struct host *h, const char *name, const char *uuid)
{
    char out[65536];
    host_run(h, out, sizeof(out), "show %s", name);
    assert_non_null(strstr(out, uuid));
}

static void uuid_of(struct host *h, const char *name, char uuid[37])
{
    char out[65536];
    host_run(h, out, sizeof(out), "show %s", name);
    const char *at = strstr(out, "uuid");
    assert_non_null(at);
    at += strspn(at + 4, " ") + 4;
    memcpy(uuid, at, 36);
    uuid[36] = '\0';
}

/* Attached to the console for as long as the VM lives, whoever runs it. */
static pid_t attach(struct host *h, const char *name, const char *file)
{
    char program[4200], run[100], path[200];
    snprintf(program, sizeof(program), "%s/bin/vmctl", h->build);
    snprintf(run, sizeof(run), "%s/run", h->dir);
    snprintf(path, sizeof(path), "%s/%s", h->dir, file);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        dup2(open("/dev/null", O_RDONLY), 0);
        dup2(open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600), 1);
        execl(program, "vmctl", "--run", run, "console", name, NULL);
        _exit(127);
    }
    return pid;
}

static void read_file(struct host *h, const char *file, char *to, size_t size)
{
    char path[200];
    snprintf(path, sizeof(path), "%s/%s", h->dir, file);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? 0 : read(fd, to, size - 1);
    to[n > 0 ? n : 0] = '\0';
    if (fd >= 0)
        close(fd);
}

/* Back in time under the same name: state, definition, log and watchers stay those of one VM. */
static void back_in_time_in_place(void **state)
{
    char uuid[37], later[40], out[65536];
    long first, saved, last;
    struct host h;
    host_start(&h);
    host_must(&h, "start a --kernel %%G/hello.elf --memory 32M");
    host_expect_healthy(&h, "a");
    uuid_of(&h, "a", uuid);
    host_must(&h, "pause a");
    counts(&h, "a", &first, &saved);
    host_must(&h, "snapshot create a s");
    host_must(&h, "resume a");
    snprintf(later, sizeof(later), "count=%ld ", saved + 15);
    host_expect(&h, later, 20000, "console a --log");
    pid_t attached = attach(&h, "a", "seen");
    long old_pid = host_number(&h, "a", "pid");
    unsigned vms = host_count_entries(&h, "root/vms"), runs = host_count_entries(&h, "run/vms");
    host_must(&h, "restore s --name a --replace");
    assert_true(host_number(&h, "a", "pid") != old_pid);
    assert_int_equal(kill((pid_t)old_pid, 0), -1);
    expect_same_uuid(&h, "a", uuid);
    host_expect(&h, "origin      s", 1000, "show a");
    host_expect_healthy(&h, "a");
    counts(&h, "a", &first, &last);
    assert_in_range(first, saved, saved + 2); /* it was at 15 more already */
    assert_int_equal(host_count_entries(&h, "root/vms"), vms);
    assert_int_equal(host_count_entries(&h, "run/vms"), runs);
    host_expect(&h, "\"kind\":\"restored\"", 1000, "events a --json");
    host_must(&h, "restore s --replace --paused"); /* the snapshot's own VM */
    host_expect_state(&h, "a", "paused", 1000);
    host_must(&h, "resume a");
    snprintf(later, sizeof(later), "count=%ld ", saved + 3);
    host_expect(&h, later, 20000, "console a --log");
    host_kill_ferryd(&h);
    host_start_ferryd(&h);
    host_expect_healthy(&h, "a");
    host_must(&h, "snapshot create a t");
    host_must(&h, "kill a");
    host_must(&h, "restore t --name a --replace"); /* of one that is off */
    host_expect_healthy(&h, "a");
    host_must(&h, "kill a");
    host_must(&h, "start a");
    host_expect_healthy(&h, "a");
    kill(attached, SIGTERM);
    waitpid(attached, NULL, 0);
    read_file(&h, "seen", out, sizeof(out));
    unsigned times = 0; /* each time that it went back it was seen to count to this again */
    for (const char *at = out; (at = strstr(at, later)); at++)
        times++;
    assert_in_range(times, 2, 5);
    host_stop(&h);
}

/* Until the new one is ready nothing happens to the old one. */
static void a_failed_replace_changes_nothing(void **state)
{
    char out[65536], uuid[37];
    struct host h;
    host_start(&h);
    host_must(&h, "start a --kernel %%G/hello.elf --memory 32M");
    host_expect_healthy(&h, "a");
    uuid_of(&h, "a", uuid);
    host_must(&h, "snapshot create a s");
    remake(&h, &(struct remake){"s", "cut", NULL, RAW_FULL, NULL, no_state});
    remake(&h, &(struct remake){"s", "more", NULL, RAW_FULL, need_more, NULL});
    long pid = host_number(&h, "a", "pid");
    unsigned vms = host_count_entries(&h, "root/vms"), runs = host_count_entries(&h, "run/vms");
    host_refuses(&h, "'a' stays as it was", "restore cut --name a --replace");
    host_refuses(&h, "warp9", "restore more --name a --replace");
    host_refuses(&h, "only one VM", "restore s --name a --replace --count 2");
    assert_int_equal(host_number(&h, "a", "pid"), pid);
    expect_same_uuid(&h, "a", uuid);
    assert_int_equal(host_count_entries(&h, "root/vms"), vms);
    assert_int_equal(host_count_entries(&h, "run/vms"), runs);
    host_run(&h, out, sizeof(out), "show a --json");
    assert_non_null(strstr(out, "\"restored_from\":null"));
    host_expect_healthy(&h, "a");
    host_must(&h, "kill a");
    host_refuses(&h, "'a' stays as it was", "restore cut --name a --replace");
    host_expect_state(&h, "a", "stopped", 1000);
    host_must(&h, "restore s --name new --replace"); /* there is none: it is made */
    host_expect_healthy(&h, "new");
    host_stop(&h);
}

/* ferryd is killed at some moment of it: the VM is the old one, or the restored one. */
static void death_in_the_middle_of_a_replace(void **state)
{
    struct host h;
    host_start(&h);
    host_must(&h, "start a --kernel %%G/hello.elf --memory 32M");
    host_expect_healthy(&h, "a");
    host_must(&h, "snapshot create a s");
    unsigned vms = host_count_entries(&h, "root/vms"), runs = host_count_entries(&h, "run/vms");
    for (int i = 0; i < 10; i++) {
        pid_t child = fork();
        if (child == 0) {
            host_run(&h, NULL, 0, "restore s --name a --replace");
            _exit(0);
        }
        poll(NULL, 0, 15 + 12 * i); /* another moment each time */
        host_kill_ferryd(&h);
        waitpid(child, NULL, 0);
        host_start_ferryd(&h);
        assert_int_equal(host_count_entries(&h, "root/vms"), vms);
        assert_int_equal(host_count_entries(&h, "run/vms"), runs);
        host_run(&h, NULL, 0, "resume a");
        host_expect_state(&h, "a", "running", 1000);
        host_must(&h, "pause a");
        host_must(&h, "resume a");
        host_expect_healthy(&h, "a");
    }
    host_stop(&h);
}

/* Killed in the middle of a restore, a worker leaves nothing, and ferryd leaves it to its restart.
 */
static void death_in_the_middle_of_a_restore(void **state)
{
    struct host h;
    host_start(&h);
    host_must(&h, "start a --kernel %%G/hello.elf --memory 32M");
    host_expect_healthy(&h, "a");
    host_must(&h, "snapshot create a s");
    for (int i = 0; i < 6; i++) {
        pid_t child = fork();
        if (child == 0) {
            host_run(&h, NULL, 0, "restore s --name b --count 4");
            _exit(0);
        }
        poll(NULL, 0, 15 + 15 * i);
        host_kill_ferryd(&h);
        waitpid(child, NULL, 0);
        host_start_ferryd(&h);
        for (int n = 1; n <= 4; n++) { /* each is whole, or not there, or never came to run */
            host_run(&h, NULL, 0, "kill b-%d", n);
            host_run(&h, NULL, 0, "rm b-%d", n);
        }
        assert_int_equal(host_count_entries(&h, "root/vms"), 3);
        host_expect_healthy(&h, "a");
    }
    host_stop(&h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(back_in_time_in_place),
        cmocka_unit_test(a_failed_replace_changes_nothing),
        cmocka_unit_test(death_in_the_middle_of_a_replace),
        cmocka_unit_test(death_in_the_middle_of_a_restore),
    };
    rig_need_kvm();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
