/*
 * Snapshots of real guests through the programs: taken live, checked, restored, cloned. The guests
 * check themselves: what was lost or torn on the way they say.
 */
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/kvm/health.h"
#include "tests/kvm/host.h"
#include "tests/kvm/rig.h"

struct guest {
    const char *name, *cmdline;
    unsigned cpus;
};

static void live_restore_clone(void **state)
{
    const struct guest *g = *state;
    struct host h;
    host_start(&h);
    host_must(&h, "start a --kernel %%G/%s.elf --memory 48M --cpus %u --cmdline %s", g->name,
              g->cpus, g->cmdline);
    expect_healthy(&h, "a");
    for (int i = 0; i < 3; i++) {
        host_must(&h, "snapshot create a s%d", i);
        host_must(&h, "snapshot verify s%d", i);
        host_must(&h, "restore s%d --name b%d --count 2 --clock %s", i, i,
                  i % 2 ? "freeze" : "advance");
        for (int clone = 1; clone <= 2; clone++) {
            char name[32];
            snprintf(name, sizeof(name), "b%d-%d", i, clone);
            expect_healthy(&h, name);
            host_must(&h, "kill %s", name);
        }
        expect_healthy(&h, "a");
    }
    host_expect_state(&h, "a", "running", 1000);
    host_stop(&h);
}

static void paused_stopped_reset(void **state)
{
    struct host h;
    host_start(&h);
    host_must(&h, "start a --kernel %%G/hello.elf --memory 32M --cpus 2");
    expect_healthy(&h, "a");
    host_must(&h, "pause a");
    host_must(&h, "snapshot create a p");
    host_expect_state(&h, "a", "paused", 1000); /* it was, and it is */
    host_must(&h, "resume a");
    host_must(&h, "restore p --name b --paused");
    host_expect_state(&h, "b", "paused", 1000);
    host_must(&h, "snapshot create b never-ran");
    host_must(&h, "restore never-ran --name c");
    expect_healthy(&h, "c");
    host_must(&h, "start d --kernel %%G/hello.elf --memory 32M --paused");
    host_must(&h, "snapshot create d at-entry");
    host_must(&h, "restore at-entry --name e");
    expect_healthy(&h, "e");
    host_must(&h, "resume b");
    expect_healthy(&h, "b");
    host_must(&h, "reset b");
    host_expect(&h, "hello from ferry guest", 20000, "console b --log");
    host_must(&h, "snapshot create a last --stop");
    host_expect_state(&h, "a", "stopped", 0); /* already */
    host_must(&h, "rm a");
    host_must(&h, "restore last"); /* under its own name again */
    expect_healthy(&h, "a");
    host_stop(&h);
}

static void refusals_change_nothing(void **state)
{
    struct host h;
    char out[65536];
    host_start(&h);
    host_must(&h, "start a --kernel %%G/hello.elf --memory 32M");
    expect_healthy(&h, "a");
    host_must(&h, "snapshot create a s");
    assert_int_equal(host_run(&h, out, sizeof(out), "snapshot create a s"), 1);
    assert_int_equal(host_run(&h, out, sizeof(out), "snapshot create nobody t"), 1);
    assert_int_equal(host_run(&h, out, sizeof(out), "snapshot create a ../t"), 2);
    assert_int_equal(host_run(&h, out, sizeof(out), "restore s"), 1); /* 'a' exists */
    assert_int_equal(host_run(&h, out, sizeof(out), "restore t --name b"), 1);
    assert_int_equal(host_run(&h, out, sizeof(out), "snapshot rm t"), 1);
    host_must(&h, "snapshot rm s");
    host_run(&h, out, sizeof(out), "snapshot list --json");
    assert_null(strstr(out, "\"s\""));
    char stray[200];
    snprintf(stray, sizeof(stray), "%s/root/snapshots/odd", h.dir);
    assert_int_equal(mkdir(stray, 0700), 0);
    host_expect(&h, "odd: ", 1000, "snapshot list");
    expect_healthy(&h, "a");
    host_stop(&h);
}

static void flip_bit(const struct host *h, const char *file, long offset)
{
    char path[200];
    uint8_t byte;
    snprintf(path, sizeof(path), "%s/root/snapshots/s/%s", h->dir, file);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(pread(fd, &byte, 1, offset), 1);
    byte ^= 0x10;
    assert_int_equal(pwrite(fd, &byte, 1, offset), 1);
    close(fd);
}

static void damage_is_found(void **state)
{
    static const struct {
        const char *file;
        long offset;
    } places[] = {{"memory", 0x100000 + 77}, {"state", 300}, {"manifest", 40}};
    struct host h;
    char out[65536];
    host_start(&h);
    host_must(&h, "start a --kernel %%G/hello.elf --memory 32M");
    expect_healthy(&h, "a");
    host_must(&h, "snapshot create a s");
    for (size_t i = 0; i < 3; i++) {
        flip_bit(&h, places[i].file, places[i].offset);
        assert_int_equal(host_run(&h, out, sizeof(out), "snapshot verify s"), 1);
        assert_non_null(strstr(out, places[i].file));
        flip_bit(&h, places[i].file, places[i].offset);
        host_must(&h, "snapshot verify s");
    }
    flip_bit(&h, "state", 300);
    assert_int_equal(host_run(&h, out, sizeof(out), "restore s --name b"), 1);
    host_run(&h, out, sizeof(out), "list --names");
    assert_null(strstr(out, "b"));
    host_stop(&h);
}

/* A worker that dies in the middle leaves the catalogue as it was, or with a whole snapshot. */
static void death_in_the_middle(void **state)
{
    struct host h;
    char out[65536];
    host_start(&h);
    for (int i = 0; i < 8; i++) {
        host_must(&h, "start a --kernel %%G/dirty.elf --memory 160M --cmdline fillmem=100M");
        expect_healthy(&h, "a");
        pid_t pid = host_pid(&h, "a");
        pid_t child = fork();
        if (child == 0) {
            /* a moment of its own for each round */
            nanosleep(&(struct timespec){.tv_nsec = i * 15000000l}, NULL);
            kill(pid, SIGKILL);
            _exit(0);
        }
        int status = host_run(&h, out, sizeof(out), "snapshot create a s");
        waitpid(child, NULL, 0);
        assert_null(strstr(out, "connection")); /* ferryd's to the worker is nobody's business */
        assert_null(strstr(out, "cannot receive"));
        host_expect_state(&h, "a", "crashed", 5000);
        assert_int_equal(host_run(&h, NULL, 0, "snapshot verify s"), status ? 1 : 0);
        if (status == 0)
            host_must(&h, "snapshot rm s");
        host_must(&h, "rm a");
    }
    host_stop(&h);
}

/* What was restored is a VM like any other: the next ferryd finds it. */
static void restored_outlives_ferryd(void **state)
{
    struct host h;
    host_start(&h);
    host_must(&h, "start a --kernel %%G/smp.elf --memory 48M --cpus 2");
    expect_healthy(&h, "a");
    host_must(&h, "snapshot create a s");
    host_must(&h, "restore s --name b");
    host_kill_ferryd(&h);
    host_start_ferryd(&h);
    expect_healthy(&h, "b");
    host_must(&h, "snapshot create b t"); /* of one that is itself restored */
    host_must(&h, "restore t --name c");
    expect_healthy(&h, "c");
    host_stop(&h);
}

/* RAM is given to KVM in pieces; a page in each of them that is lost, doubled or moved is seen. */
static void larger_than_a_piece(void **state)
{
    struct host h;
    host_start(&h);
    host_must(&h, "start a --kernel %%G/dirty.elf --memory 600M --cmdline rate=1000~fillmem=all");
    host_expect(&h, "errors=0", 60000, "console a --log");
    host_must(&h, "snapshot create a s");
    host_must(&h, "restore s --name b");
    host_must_end_well(&h, "b");
    host_must_end_well(&h, "a");
    host_stop(&h);
}

int main(void)
{
    static struct guest guests[] = {
        {"dirty", "rate=max", 1}, {"smp", "period=50", 4},  {"fpu", "period=50", 2},
        {"msr", "period=50", 2},  {"timer", "early=99", 2},
    };
    const struct CMUnitTest tests[] = {
        {"dirty: live, restored, cloned", live_restore_clone, NULL, NULL, &guests[0]},
        {"smp: live, restored, cloned", live_restore_clone, NULL, NULL, &guests[1]},
        {"fpu: live, restored, cloned", live_restore_clone, NULL, NULL, &guests[2]},
        {"msr: live, restored, cloned", live_restore_clone, NULL, NULL, &guests[3]},
        {"timer: live, restored, cloned", live_restore_clone, NULL, NULL, &guests[4]},
        cmocka_unit_test(paused_stopped_reset),
        cmocka_unit_test(refusals_change_nothing),
        cmocka_unit_test(damage_is_found),
        cmocka_unit_test(death_in_the_middle),
        cmocka_unit_test(restored_outlives_ferryd),
        cmocka_unit_test(larger_than_a_piece),
    };
    rig_need_kvm();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
