/*
 * What a guest is restored from: chains, packed images that are filled while it runs, snapshots of
 * other hosts, and what happens when something of it is not there. The guests check themselves.
 */
#include <dirent.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/fs.h"
#include "tests/kvm/host.h"
#include "tests/kvm/remake.h"
#include "tests/kvm/rig.h"

#define RAW_FULL FERRY__SNAPSHOT_MEMORY__SNAPSHOT_MEMORY_RAW_FULL
#define RAW_DIFF FERRY__SNAPSHOT_MEMORY__SNAPSHOT_MEMORY_RAW_DIFF
#define PACKED_FULL FERRY__SNAPSHOT_MEMORY__SNAPSHOT_MEMORY_PACKED_FULL
#define PACKED_DIFF FERRY__SNAPSHOT_MEMORY__SNAPSHOT_MEMORY_PACKED_DIFF

#define START_DIRTY "start a --kernel %%G/dirty.elf --memory 96M --cmdline fillmem=48M~rate=max"

static void expect_log(struct host *h, const char *name, const char *words)
{
    host_expect(h, words, 10000, "show %s", name);
}

static void run_and_drop(struct host *h, const char *snapshot)
{
    host_must(h, "restore %s --name x", snapshot);
    host_expect_healthy(h, "x");
    host_must(h, "kill x");
    host_must(h, "rm x");
}

/* Diffs on diffs, raw and packed in any order, each the whole guest. */
static void chains_start_directly(void **state)
{
    static const struct remake made[] = {
        {.from = "s1", .name = "r1", .parent = "s0", .memory = RAW_DIFF},
        {.from = "s2", .name = "r2", .parent = "r1", .memory = RAW_DIFF},
        {.from = "s2", .name = "p2", .parent = "r1", .memory = PACKED_DIFF},
        {.from = "s0", .name = "p0", .memory = PACKED_FULL},
        {.from = "s1", .name = "pr1", .parent = "p0", .memory = RAW_DIFF},
        {.from = "s2", .name = "pp2", .parent = "pr1", .memory = PACKED_DIFF},
    };
    struct host h;
    host_start(&h);
    host_must(&h, START_DIRTY);
    for (int i = 0; i < 3; i++) {
        host_expect_healthy(&h, "a");
        host_must(&h, "snapshot create a s%d", i);
    }
    for (size_t i = 0; i < sizeof(made) / sizeof(made[0]); i++) {
        remake(&h, &made[i]);
        assert_int_equal(remake_compare(&h, made[i].from, made[i].name), 0);
        host_must(&h, "snapshot verify %s", made[i].name);
        run_and_drop(&h, made[i].name);
    }
    host_stop(&h);
}

/* As long as a chain may be. */
static void a_chain_of_64(void **state)
{
    char below[16] = "s0", name[16];
    struct host h;
    host_start(&h);
    host_must(&h, "start a --kernel %%G/hello.elf --memory 32M");
    for (int i = 0; i < 2; i++) {
        host_expect_healthy(&h, "a");
        host_must(&h, "snapshot create a s%d", i);
    }
    for (int i = 1; i < 64; i++) {
        snprintf(name, sizeof(name), "c%d", i);
        struct remake how = {.from = i % 2 ? "s1" : "s0",
                             .name = name,
                             .parent = below,
                             .memory = i % 3 ? RAW_DIFF : PACKED_DIFF};
        remake(&h, &how);
        memcpy(below, name, sizeof(below));
    }
    run_and_drop(&h, "c63");
    host_stop(&h);
}

/* What was not filled yet belongs to the guest like the rest. */
static void saved_while_it_is_filled(void **state)
{
    struct host h;
    host_start(&h);
    host_must(&h, START_DIRTY);
    host_expect_healthy(&h, "a");
    host_must(&h, "snapshot create a s");
    remake(&h, &(struct remake){.from = "s", .name = "p", .memory = PACKED_FULL});
    host_must(&h, "restore p --name b --paused");
    host_must(&h, "snapshot create b t");
    assert_in_range(remake_compare(&h, "p", "t"), 0, 1); /* the generation that it finds */
    expect_log(&h, "b", "all memory is there");
    host_must(&h, "restore p --name c");
    host_must(&h, "snapshot create c u");
    host_must(&h, "restore p --name d");
    host_must(&h, "reset d");
    host_expect(&h, "errors=0", 20000, "console d --log");
    host_must(&h, "restore p --name e");
    host_must(&h, "pause e");
    host_must(&h, "resume e");
    host_expect_healthy(&h, "e");
    host_must(&h, "restore p --name f");
    host_must(&h, "kill f");
    run_and_drop(&h, "t");
    run_and_drop(&h, "u");
    host_must(&h, "resume b");
    host_expect_healthy(&h, "b");
    host_expect_healthy(&h, "c");
    host_stop(&h);
}

static void flip_bit(const struct host *h, const char *snapshot, const char *file, long offset)
{
    char path[300];
    uint8_t byte;
    snprintf(path, sizeof(path), "%s/root/snapshots/%s/%s", h->dir, snapshot, file);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    assert_true(fd >= 0);
    if (offset < 0)
        offset += (long)lseek(fd, 0, SEEK_END);
    assert_int_equal(pread(fd, &byte, 1, offset), 1);
    byte ^= 0x10;
    assert_int_equal(pwrite(fd, &byte, 1, offset), 1);
    close(fd);
}

/* Damage in a chunk that is filled late: the guest may have started by then. */
static void damage_ends_the_guest(void **state)
{
    char out[65536];
    struct host h;
    host_start(&h);
    host_must(&h, START_DIRTY);
    host_expect_healthy(&h, "a");
    host_must(&h, "snapshot create a s");
    remake(&h, &(struct remake){.from = "s", .name = "p", .memory = PACKED_FULL});
    flip_bit(&h, "p", "memory", -100);
    if (host_run(&h, out, sizeof(out), "restore p --name b") == 0) {
        host_expect_state(&h, "b", "crashed", 10000);
        host_run(&h, out, sizeof(out), "show b");
        host_must(&h, "rm b");
    }
    if (!strstr(out, "cannot be read from its snapshot: snapshot 'p': 'memory' is damaged"))
        fail_msg("it does not say what is damaged: %s", out);
    host_refuses(&h, "'memory'", "restore p --name c --verify");
    host_refuses(&h, "there is no VM", "show c");
    host_expect_healthy(&h, "a");
    host_stop(&h);
}

/* A guest that is larger than the host, but has used little. */
static void larger_than_the_host(void **state)
{
    struct host h;
    host_start(&h);
    host_must(&h, "start a --kernel %%G/dirty.elf --memory 300G --cmdline rate=100");
    host_expect_healthy(&h, "a");
    host_must(&h, "snapshot create a s --stop");
    host_must(&h, "restore s --name b");
    host_expect_healthy(&h, "b");
    host_stop(&h);
}

/* A raw image is mapped: what it lost while guests run on it ends those, and only those. */
static void a_mapped_file_is_cut_short(void **state)
{
    char path[300];
    struct host h;
    host_start(&h);
    host_must(&h, START_DIRTY);
    host_expect_healthy(&h, "a");
    host_must(&h, "snapshot create a s");
    host_must(&h, "restore s --name b");
    host_must(&h, "restore s --name still --paused");
    snprintf(path, sizeof(path), "%s/root/snapshots/s/memory", h.dir);
    assert_int_equal(truncate(path, 20 << 20), 0);
    host_expect(&h, "was cut short", 20000, "show b"); /* crashed or failed: whoever wanted it */
    host_refuses(&h, "which the guest runs on, was cut short", "snapshot create still bad");
    host_refuses(&h, "'memory' has 20971520 bytes, not", "restore s --name c");
    host_expect_healthy(&h, "a");
    host_stop(&h);
}

/* A thread cannot be ended alone: with it goes the worker, and that is told. */
static void death_of_the_filler(void **state)
{
    char path[64], comm[32];
    struct host h;
    host_start(&h);
    host_must(&h, START_DIRTY);
    host_expect_healthy(&h, "a");
    host_must(&h, "snapshot create a s");
    remake(&h, &(struct remake){.from = "s", .name = "p", .memory = PACKED_FULL});
    host_must(&h, "restore p --name b");
    long pid = host_number(&h, "b", "pid");
    snprintf(path, sizeof(path), "/proc/%ld/task", pid);
    DIR *dir = opendir(path);
    assert_non_null(dir);
    pid_t victim = 0;
    for (struct dirent *e; (e = readdir(dir));) {
        snprintf(path, sizeof(path), "/proc/%ld/task/%.10s/comm", pid, e->d_name);
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        ssize_t n = fd < 0 ? 0 : read(fd, comm, sizeof(comm) - 1);
        comm[n > 0 ? n : 0] = '\0';
        if (strcmp(comm, "fill\n") == 0)
            victim = (pid_t)atoi(e->d_name);
        if (fd >= 0)
            close(fd);
    }
    closedir(dir);
    if (victim && syscall(SYS_tgkill, (pid_t)pid, victim, SIGKILL) == 0)
        host_expect_state(&h, "b", "crashed", 10000);
    else
        expect_log(&h, "b", "all memory is there"); /* it was faster */
    host_stop(&h);
}

/* As on a host where userfaultfd is kept from us. */
static void forbid_userfaultfd(void)
{
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_userfaultfd, 3, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_ioctl, 0, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[1])),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0xaa00, 0, 1), /* USERFAULTFD_IOC_NEW */
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | 1),  /* EPERM */
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {.len = sizeof(filter) / sizeof(filter[0]), .filter = filter};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
        prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) < 0)
        _exit(99);
}

static void without_userfaultfd(void **state)
{
    struct host h;
    host_start(&h);
    host_must(&h, START_DIRTY);
    host_expect_healthy(&h, "a");
    host_must(&h, "snapshot create a s");
    remake(&h, &(struct remake){.from = "s", .name = "p", .memory = PACKED_FULL});
    host_kill_ferryd(&h);
    h.before_ferryd = forbid_userfaultfd;
    host_start_ferryd(&h);
    host_must(&h, "restore p --name b");
    expect_log(&h, "b", "all memory is filled before the guest goes on");
    expect_log(&h, "b", "all memory is there");
    host_expect_healthy(&h, "b");
    flip_bit(&h, "p", "memory", -100);
    host_refuses(&h, "'memory' is damaged", "restore p --name c");
    host_refuses(&h, "there is no VM", "show c");
    host_stop(&h);
}

static void copy_file(const char *from, const char *to)
{
    char data[65536];
    int in = open(from, O_RDONLY | O_CLOEXEC), out = open(to, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    assert_true(in >= 0 && out >= 0);
    for (ssize_t n; (n = read(in, data, sizeof(data))) > 0;)
        assert_int_equal(write(out, data, (size_t)n), n);
    close(in);
    close(out);
}

/* A guest needs its kernel only to begin anew. */
static void without_its_kernel(void **state)
{
    char guest[4200], kernel[200];
    struct host h;
    host_start(&h);
    snprintf(guest, sizeof(guest), "%s/guests/echo.elf", h.build);
    snprintf(kernel, sizeof(kernel), "%s/kernel", h.dir);
    copy_file(guest, kernel);
    host_must(&h, "start a --kernel %s --memory 32M", kernel);
    host_expect(&h, "echo", 20000, "console a --log");
    host_must(&h, "snapshot create a s --stop");
    assert_int_equal(unlink(kernel), 0);
    host_must(&h, "restore s --name b");
    host_refuses(&h, "was not there when it was restored", "reset b");
    host_expect_state(&h, "b", "running", 1000);
    host_must(&h, "snapshot create b t");
    host_must(&h, "kill b");
    host_refuses(&h, "cannot open the kernel", "start b");
    copy_file(guest, kernel);
    host_must(&h, "restore t --name c"); /* it is back */
    host_must(&h, "reset c");
    host_expect_state(&h, "c", "running", 1000);
    host_stop(&h);
}

static void need_more(Ferry__SnapshotManifest *m)
{
    static Ferry__SnapshotCpu cpu;
    static char features[16384];
    cpu = *m->cpu;
    snprintf(features, sizeof(features), "%s warp9 tardis", cpu.features);
    cpu.features = features;
    m->cpu = &cpu;
}

static void be_foreign(Ferry__SnapshotManifest *m)
{
    static Ferry__SnapshotCpu cpu;
    cpu = *m->cpu;
    cpu.vendor = "CyrixInstead";
    m->cpu = &cpu;
}

static void want_more_cpus(Ferry__SnapshotManifest *m)
{
    static Ferry__MachineConfig config;
    config = *m->config;
    config.cpus = 3;
    m->config = &config;
}

static void no_state(struct buf *state)
{
    state->len = 40;
}

/* Each leaves ferryd, its VMs and its snapshots as they were. */
static void refusals_leave_nothing(void **state)
{
    static const struct {
        const char *command, *words;
    } cases[] = {
        {"restore more --name b", "needs what this CPU lacks: warp9, tardis"},
        {"restore more --name b --count 3", "needs what this CPU lacks: warp9, tardis"},
        {"restore foreign --name b", "needs what this CPU lacks: vendor CyrixInstead"},
        {"restore cpus --name b", "'b': "},
        {"restore cut --name b", "'b': "},
        {"restore cut --name b --count 3", "state is truncated"},
        {"restore s --name a", "'a' exists"},
        {"restore s", "'a' exists"},
        {"restore nothing --name b", "nothing"},
        {"restore orphan --name b", "nowhere"},
        {"restore short --name b", "'memory'"},
        {"restore flipped --name b", "'state' is damaged"},
        {"restore raw --name b --verify", "'memory'"},
    };
    char path[300];
    struct host h;
    host_start(&h);
    host_must(&h, "start a --kernel %%G/hello.elf --memory 32M");
    host_expect_healthy(&h, "a");
    host_must(&h, "snapshot create a s");
    remake(&h, &(struct remake){"s", "more", NULL, RAW_FULL, need_more, NULL});
    remake(&h, &(struct remake){"s", "foreign", NULL, RAW_FULL, be_foreign, NULL});
    remake(&h, &(struct remake){"s", "cpus", NULL, RAW_FULL, want_more_cpus, NULL});
    remake(&h, &(struct remake){"s", "cut", NULL, RAW_FULL, NULL, no_state});
    remake(&h, &(struct remake){"s", "short", NULL, RAW_FULL, NULL, NULL});
    remake(&h, &(struct remake){"s", "flipped", NULL, RAW_FULL, NULL, NULL});
    remake(&h, &(struct remake){"s", "raw", NULL, RAW_FULL, NULL, NULL});
    remake(&h, &(struct remake){"s", "nowhere", NULL, RAW_FULL, NULL, NULL});
    remake(&h, &(struct remake){"s", "orphan", "nowhere", RAW_DIFF, NULL, NULL});
    snprintf(path, sizeof(path), "%s/root/snapshots/short/memory", h.dir);
    assert_int_equal(truncate(path, 4096), 0);
    flip_bit(&h, "flipped", "state", 100);
    flip_bit(&h, "raw", "memory", 0x100000 + 77);
    snprintf(path, sizeof(path), "%s/root/snapshots/nowhere/manifest", h.dir);
    assert_int_equal(unlink(path), 0);
    host_run(&h, NULL, 0, "restore cut --name warm-up");
    unsigned vms = host_count_entries(&h, "root/vms"), runs = host_count_entries(&h, "run/vms");
    unsigned snapshots = host_count_entries(&h, "root/snapshots");
    struct host_usage before = host_usage(h.ferryd);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        host_refuses(&h, cases[i].words, cases[i].command);
        assert_int_equal(host_count_entries(&h, "root/vms"), vms);
        assert_int_equal(host_count_entries(&h, "run/vms"), runs);
        assert_int_equal(host_count_entries(&h, "root/snapshots"), snapshots);
    }
    assert_int_equal(host_usage(h.ferryd).fds, before.fds);
    host_must(&h, "restore raw --name unseen"); /* raw memory is mapped as it is */
    host_expect_healthy(&h, "a");
    host_stop(&h);
}

static void origin_is_told(void **state)
{
    struct host h;
    host_start(&h);
    host_must(&h, "start a --kernel %%G/hello.elf --memory 32M");
    host_expect_healthy(&h, "a");
    host_must(&h, "snapshot create a s");
    host_must(&h, "restore s --name b");
    host_expect(&h, "origin      s", 1000, "show b");
    host_expect(&h,
                "\"kind\":\"restored\",\"vm\":\"b\",\"state\":null,\"text\":\"from snapshot 's'",
                1000, "events b --json");
    host_kill_ferryd(&h);
    host_start_ferryd(&h);
    host_expect(&h, "\"restored_from\":{\"name\":\"s\"", 1000, "show b --json");
    host_must(&h, "kill b");
    host_must(&h, "start b"); /* anew: from its kernel */
    host_expect(&h, "\"restored_from\":null", 1000, "show b --json");
    host_stop(&h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(chains_start_directly),    cmocka_unit_test(a_chain_of_64),
        cmocka_unit_test(saved_while_it_is_filled), cmocka_unit_test(damage_ends_the_guest),
        cmocka_unit_test(larger_than_the_host),     cmocka_unit_test(a_mapped_file_is_cut_short),
        cmocka_unit_test(death_of_the_filler),      cmocka_unit_test(without_userfaultfd),
        cmocka_unit_test(without_its_kernel),       cmocka_unit_test(refusals_leave_nothing),
        cmocka_unit_test(origin_is_told),
    };
    rig_need_kvm();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
