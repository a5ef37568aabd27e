/*
 * Worker and ferryd are killed at random moments of taking, restoring and importing, and the disk
 * fills up: the catalogue is the one before or the one after, what is in it is whole, a guest whose
 * worker lives goes on and finds nothing wrong, and nothing is left over.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/now.h"
#include "tests/kvm/host.h"
#include "tests/kvm/rig.h"

#define CYCLES 8
#define CYCLES_LONG 150
#define GUEST "--kernel %%G/dirty.elf --memory 48M --cmdline rate=5000~pages=1000~fillmem=24M"

static unsigned cycles(void)
{
    return getenv("FERRY_LONG") ? CYCLES_LONG : CYCLES;
}

/* The guest has said another two lines since, and nothing that it ever said is an error. */
static void expect_healthy(struct host *h, const char *name)
{
    static char all[1 << 17];
    unsigned before = 0, lines = 0;
    uint64_t until = now_ns() + 20000000000ull;
    for (bool first = true; first || (lines < before + 2 && now_ns() < until); first = false) {
        assert_int_equal(host_run(h, all, sizeof(all), "console %s --log", name), 0);
        lines = 0;
        for (const char *at = all; (at = strstr(at, "errors=0")); at++)
            lines++;
        if (first)
            before = lines;
    }
    if (lines < before + 2)
        fail_msg("%s says nothing more: %s", name, all);
    if (strstr(all, "FAIL"))
        fail_msg("%s found an error: %.300s", name, strstr(all, "FAIL"));
}

/* Directories below root/snapshots that are no snapshot (yet). */
static unsigned leftovers(const struct host *h)
{
    char path[100];
    unsigned n = 0;
    snprintf(path, sizeof(path), "%s/root/snapshots", h->dir);
    DIR *dir = opendir(path);
    for (struct dirent *e; dir && (e = readdir(dir));)
        n += strncmp(e->d_name, ".tmp-", 5) == 0;
    if (dir)
        closedir(dir);
    return n;
}

/* A worker that wrote when its ferryd was killed notices it, gives up, and then it is cleaned. */
static void expect_no_leftovers(const struct host *h)
{
    uint64_t until = now_ns() + 20000000000ull;
    while (leftovers(h)) {
        if (now_ns() > until)
            fail_msg("%u leftovers stay in %s/root/snapshots", leftovers(h), h->dir);
        nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
    }
}

/* The worker of a VM, as its log says; 0 when there is none (yet). */
static pid_t find_worker(const struct host *h, const char *name)
{
    char log[120];
    pid_t found = 0;
    snprintf(log, sizeof(log), "%s/root/vms/%s/", h->dir, name);
    DIR *proc = opendir("/proc");
    for (struct dirent *e; proc && !found && (e = readdir(proc));) {
        char path[64], target[256];
        snprintf(path, sizeof(path), "/proc/%.20s/fd/2", e->d_name);
        ssize_t n = readlink(path, target, sizeof(target) - 1);
        if (n > 0 && strncmp(target, log, strlen(log)) == 0)
            found = (pid_t)atoi(e->d_name);
    }
    if (proc)
        closedir(proc);
    return found;
}

static uint64_t since_ms(uint64_t begin)
{
    return (now_ns() - begin) / 1000000;
}

/* A child of ours that kills in a while: ferryd, or the VM's worker once there is one. */
static pid_t kill_later(const struct host *h, const char *vm, uint64_t us)
{
    pid_t child = fork();
    assert_true(child >= 0);
    if (child)
        return child;
    nanosleep(&(struct timespec){.tv_sec = (time_t)(us / 1000000),
                                 .tv_nsec = (long)(us % 1000000) * 1000},
              NULL);
    pid_t pid = h->ferryd;
    for (uint64_t begin = now_ns(); vm && (pid = find_worker(h, vm)) == 0 && since_ms(begin) < 500;)
        ;
    if (pid)
        kill(pid, SIGKILL);
    _exit(0);
}

/* The command says in one sentence what happened, unless all was done before. */
static int run_killed(struct host *h, const char *vm, uint64_t us, const char *command)
{
    static char out[65536];
    pid_t killer = kill_later(h, vm, us);
    int status = host_run(h, out, sizeof(out), "%s", command), ended;
    assert_int_equal(waitpid(killer, NULL, 0), killer);
    if (status && (status != 1 || strncmp(out, "vmctl: ", 7) != 0 || !strchr(out, '\n') ||
                   strchr(out, '\n')[1]))
        fail_msg("'%s' exits with %d: %s", command, status, out);
    if (!vm) {
        assert_int_equal(waitpid(h->ferryd, &ended, 0), h->ferryd);
        host_start_ferryd(h);
    }
    return status;
}

static bool has_snapshot(struct host *h, const char *name)
{
    static char out[65536];
    char word[80];
    snprintf(word, sizeof(word), "\"name\":\"%s\"", name);
    assert_int_equal(host_run(h, out, sizeof(out), "snapshot list --json"), 0);
    if (strstr(out, "broken\":[\""))
        fail_msg("something in the catalogue is broken: %s", out);
    return strstr(out, word) != NULL;
}

/* After every death. A command that was done has its snapshot; another may have it, whole. */
static void check_catalogue(struct host *h, const char *fresh, int status)
{
    host_must(h, "snapshot verify base");
    bool there = has_snapshot(h, fresh);
    if (status == 0)
        assert_true(there);
    if (there) {
        host_must(h, "snapshot verify %s", fresh);
        host_must(h, "snapshot rm %s", fresh);
    }
    expect_no_leftovers(h);
}

static void begin(struct host *h)
{
    host_start(h);
    host_must(h, "start a " GUEST);
    expect_healthy(h, "a");
    host_must(h, "snapshot create a base");
}

/* How long it takes when nobody is killed: the moments are drawn from that and a bit more. */
static uint64_t time_of(struct host *h, const char *command, const char *undo)
{
    uint64_t begin = now_ns();
    host_must(h, "%s", command);
    uint64_t took = now_ns() - begin;
    host_must(h, "%s", undo);
    return took / 1000 * 5 / 4;
}

static void killed_while_taking(void **state)
{
    struct host h;
    unsigned seed = 31;
    begin(&h);
    uint64_t span = time_of(&h, "snapshot create a s", "snapshot rm s");
    for (unsigned i = 0; i < 2 * cycles(); i++) {
        const char *victim = i % 2 ? "a" : NULL;
        int status = run_killed(&h, victim, (uint64_t)rand_r(&seed) % span, "snapshot create a s");
        if (victim) {
            host_expect_state(&h, "a", "crashed", 5000);
            host_must(&h, "rm a");
            host_must(&h, "start a " GUEST);
        }
        expect_healthy(&h, "a");
        check_catalogue(&h, "s", status);
    }
    host_stop(&h);
}

/* What came of it: nothing, a VM that runs, or one whose worker is dead. */
static void check_restored(struct host *h, const char *name, int status)
{
    static char out[65536];
    if (host_run(h, out, sizeof(out), "show %s --json", name) != 0) {
        assert_int_not_equal(status, 0);
        return;
    }
    if (strstr(out, "\"running\"") && find_worker(h, name)) {
        expect_healthy(h, name);
        host_must(h, "kill %s", name);
    } else if (strstr(out, "\"running\"")) {
        host_expect_state(h, name, "crashed", 5000); /* ferryd is about to hear of it */
    }
    host_must(h, "rm %s", name);
}

static void killed_while_restoring(void **state)
{
    struct host h;
    unsigned seed = 32;
    begin(&h);
    host_must(&h, "restore base --name b");
    uint64_t span = 60000;
    host_must(&h, "kill b");
    host_must(&h, "rm b");
    for (unsigned i = 0; i < 2 * cycles(); i++) {
        const char *victim = i % 2 ? "b" : NULL;
        int status =
            run_killed(&h, victim, (uint64_t)rand_r(&seed) % span, "restore base --name b");
        check_restored(&h, "b", status);
        expect_healthy(&h, "a");
        host_must(&h, "snapshot verify base");
        expect_no_leftovers(&h);
    }
    host_stop(&h);
}

static void killed_while_importing(void **state)
{
    struct host h;
    char import[160];
    unsigned seed = 33;
    begin(&h);
    host_must(&h, "snapshot create a s");
    host_must(&h, "snapshot export s %s/stream", h.dir);
    host_must(&h, "snapshot rm s");
    snprintf(import, sizeof(import), "snapshot import %s/stream", h.dir);
    uint64_t span = time_of(&h, import, "snapshot rm s");
    for (unsigned i = 0; i < cycles(); i++) {
        int status = run_killed(&h, NULL, (uint64_t)rand_r(&seed) % span, import);
        check_catalogue(&h, "s", status);
        expect_healthy(&h, "a");
    }
    host_stop(&h);
}

/* a small disk -------------------------------------------------------------------------------- */

static bool write_text(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    bool done = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);
    if (fd >= 0)
        close(fd);
    return done;
}

/* Mounts of our own: as root, or as who is root in a namespace of its own. */
static bool own_mounts(void)
{
    char map[64];
    snprintf(map, sizeof(map), "%u %u 1", geteuid(), geteuid());
    if (unshare(CLONE_NEWNS) < 0 &&
        (unshare(CLONE_NEWUSER | CLONE_NEWNS) < 0 || !write_text("/proc/self/uid_map", map)))
        return false;
    return mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0;
}

static void full_disk(void **state)
{
    struct host h;
    char path[100], out[65536];
    if (!own_mounts()) {
        print_message("skipped: a small filesystem cannot be mounted here: %s\n", strerror(errno));
        skip();
    }
    host_start(&h);
    host_kill_ferryd(&h);
    snprintf(path, sizeof(path), "%s/root/snapshots", h.dir);
    if (mount("small", path, "tmpfs", 0, "size=20m") < 0)
        fail_msg("cannot mount: %s", strerror(errno));
    host_start_ferryd(&h);
    host_must(&h, "start a " GUEST);
    host_must(&h, "start small --kernel %%G/hello.elf --memory 32M");
    expect_healthy(&h, "a");
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(host_run(&h, out, sizeof(out), "snapshot create a s"), 1);
        assert_non_null(strstr(out, "cannot write 'memory'"));
        assert_non_null(strstr(out, "No space left on device"));
        assert_int_equal(leftovers(&h), 0);
        assert_false(has_snapshot(&h, "s"));
        expect_healthy(&h, "a");
        host_must(&h, "snapshot create small t%u", i); /* there is room again */
        host_must(&h, "snapshot verify t%u", i);
    }
    host_must(&h, "restore t0 --name b");
    expect_healthy(&h, "b");
    assert_int_equal(umount2(path, MNT_DETACH), 0);
    host_stop(&h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(killed_while_taking),
        cmocka_unit_test(killed_while_restoring),
        cmocka_unit_test(killed_while_importing),
        cmocka_unit_test(full_disk),
    };
    rig_need_kvm();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
