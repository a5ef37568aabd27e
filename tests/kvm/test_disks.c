/*
 * Disks as a user gives them: by name to vmctl, locked, kept over the death of a worker, part of a
 * guest that is saved and restored, counted in its stats.
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
#include <unistd.h>

#include <cmocka.h>

#include "tests/kvm/host.h"
#include "tests/kvm/rig.h"

#define DISK_BYTES (16l << 20)

static void make_disk(struct host *h, const char *name)
{
    char path[128];
    snprintf(path, sizeof(path), "%s/%s", h->dir, name);
    int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, DISK_BYTES), 0);
    close(fd);
}

static void remove_disk(struct host *h, const char *name)
{
    char path[128];
    snprintf(path, sizeof(path), "%s/%s", h->dir, name);
    unlink(path);
}

static void refuse(struct host *h, const char *says, const char *args)
{
    static char out[65536];
    if (host_run(h, out, sizeof(out), "%s", args) == 0 || !strstr(out, says))
        fail_msg("'%s' says: %s", args, out);
}

static void disks_are_given(void **state)
{
    struct host h;
    char args[512];
    host_start(&h);
    make_disk(&h, "a.img");
    host_must(&h,
              "start fill --kernel %%G/blk.elf --cpus 2 --memory 32M --cmdline fill "
              "--disk %s/a.img,id=apple",
              h.dir);
    host_expect(&h, "stopped", 30000, "list");
    host_expect(&h, "blk: ok", 1000, "console fill --log");
    host_expect(&h, "id=apple", 1000, "console fill --log");
    host_expect(&h, "queues=2", 1000, "console fill --log");
    host_expect(&h, "apple: ", 1000, "show fill");
    /* Two readers, and no writer beside them. */
    const char *reader =
        "start %s --kernel %%G/blk.elf --memory 32M --cmdline ro --disk %s/a.img,ro";
    host_must(&h, reader, "r1", h.dir);
    host_must(&h, reader, "r2", h.dir);
    host_expect(&h, "errors=0", 30000, "console r1 --log");
    host_expect(&h, "errors=0", 30000, "console r2 --log");
    refuse(&h, "it is in use: a disk has one writer, or readers only", "start fill");
    host_expect(&h, "virtio-blk0.reads", 1000, "stats r1");
    host_expect(&h, "virtio-blk0.refused", 1000, "stats r1");
    host_expect(&h, "virtio-rng0.requests", 1000, "stats r1");
    host_must(&h, "kill r1");
    host_must(&h, "kill r2");
    host_must(&h, "start fill"); /* free again */
    host_expect_state(&h, "fill", "stopped", 30000);
    snprintf(args, sizeof(args), "start x --kernel %%G/blk.elf --disk %s/none.img", h.dir);
    refuse(&h, "none.img': cannot open it: No such file", args);
    snprintf(args, sizeof(args),
             "start x --kernel %%G/blk.elf --disk %s/a.img --disk %s/a.img,id=b", h.dir, h.dir);
    refuse(&h, "it is in use", args);
    snprintf(args, sizeof(args), "start x --kernel %%G/blk.elf --disk %s/a.img,id=%s", h.dir,
             "012345678901234567890");
    refuse(&h, "is longer than 20 characters", args);
    snprintf(args, sizeof(args), "start x --kernel %%G/blk.elf --disk %s", "/dev/null");
    refuse(&h, "a disk is a plain file or a block device", args);
    remove_disk(&h, "a.img");
    host_stop(&h);
}

/* What was flushed is there when the worker is killed, and its lock is gone with it. */
static void a_killed_worker_leaves_its_disk(void **state)
{
    struct host h;
    host_start(&h);
    make_disk(&h, "a.img");
    host_must(&h,
              "start a --kernel %%G/blk.elf --memory 32M --disk %s/a.img "
              "--cmdline fill-stay",
              h.dir);
    host_expect(&h, "filled blocks=1024 errors=0", 30000, "console a --log");
    long pid = host_number(&h, "a", "pid");
    assert_true(pid > 1);
    assert_int_equal(kill((pid_t)pid, SIGKILL), 0);
    host_expect(&h, "crashed", 5000, "list");
    host_must(&h, "rm a");
    host_must(&h, "start a --kernel %%G/blk.elf --memory 32M --cmdline check --disk %s/a.img",
              h.dir);
    host_expect(&h, "blk: ok", 30000, "console a --log");
    remove_disk(&h, "a.img");
    host_stop(&h);
}

/* A guest goes on from a snapshot with its disk as it was, and not with one written since. */
static void a_restore_wants_its_disk(void **state)
{
    struct host h;
    char command[300];
    host_start(&h);
    make_disk(&h, "a.img");
    host_must(&h, "start a --kernel %%G/blk.elf --memory 32M --disk %s/a.img", h.dir);
    host_expect(&h, "errors=0", 30000, "console a --log");
    host_must(&h, "snapshot create a snap --stop");
    host_must(&h, "rm a");
    snprintf(command, sizeof(command), "cp -p %s/a.img %s/copy.img", h.dir, h.dir);
    assert_int_equal(system(command), 0);
    host_must(&h, "restore snap");
    host_expect(&h, "errors=0", 30000, "console a --log");
    refuse(&h, "it is in use", "restore snap --name b"); /* a clone needs its own */
    host_expect(&h, "errors=0", 1000, "console a --log");
    host_must(&h, "kill a");
    host_must(&h, "rm a");
    refuse(&h, "was written after this guest was saved", "restore snap");
    snprintf(command, sizeof(command), "cp -p %s/copy.img %s/a.img", h.dir, h.dir);
    assert_int_equal(system(command), 0);
    host_must(&h, "restore snap");
    host_expect(&h, "errors=0", 30000, "console a --log");
    host_must(&h, "kill a");
    remove_disk(&h, "a.img");
    remove_disk(&h, "copy.img");
    host_stop(&h);
}

static void copy_disk(struct host *h, const char *name)
{
    char command[300];
    snprintf(command, sizeof(command), "cp %s/a.img %s/%s", h->dir, h->dir, name);
    assert_int_equal(system(command), 0);
}

static void kill_and_rm(struct host *h, const char *name)
{
    host_must(h, "kill %s", name);
    host_must(h, "rm %s", name);
}

/* Clones have disks of their own; who says so goes on with a disk that was written. */
static void a_restore_takes_other_disks(void **state)
{
    struct host h;
    char args[300];
    host_start(&h);
    make_disk(&h, "a.img");
    host_must(&h, "start a --kernel %%G/blk.elf --memory 32M --disk %s/a.img,id=root", h.dir);
    host_expect(&h, "errors=0", 30000, "console a --log");
    host_must(&h, "snapshot create a snap --stop");
    copy_disk(&h, "c-1.img");
    copy_disk(&h, "c-2.img");
    host_must(&h, "restore snap --name c --count 2 --disk %s/c-{}.img", h.dir);
    host_expect(&h, "errors=0", 30000, "console c-1 --log");
    host_expect(&h, "errors=0", 30000, "console c-2 --log");
    host_expect(&h, "c-2.img", 1000, "show c-2");
    kill_and_rm(&h, "c-1");
    snprintf(args, sizeof(args), "restore snap --name d --disk %s/c-1.img,id=other", h.dir);
    refuse(&h, "the saved machine has no disk 'other'", args);
    snprintf(args, sizeof(args), "restore snap --name d --disk %s/c-1.img --disk /x", h.dir);
    refuse(&h, "more disks are given than the saved machine has, which is 1", args);
    snprintf(args, sizeof(args), "restore snap --name d --disk %s/c-1.img,ro", h.dir);
    refuse(&h, "knows its disk 'root' as writable, and it is read-only", args);
    copy_disk(&h, "c-1.img"); /* the guest knows what it wrote where */
    host_must(&h, "restore snap --name d --disk %s/c-1.img,id=root", h.dir);
    host_must_end_well(&h, "d");
    host_must(&h, "start a"); /* the guest's own disk is written */
    host_expect(&h, "errors=0", 30000, "console a --log");
    kill_and_rm(&h, "a");
    refuse(&h, "was written after this guest was saved", "restore snap");
    host_must(&h, "restore snap --force");
    host_must(&h, "kill a");
    host_must(&h, "kill c-2");
    remove_disk(&h, "a.img");
    remove_disk(&h, "c-1.img");
    remove_disk(&h, "c-2.img");
    host_stop(&h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(disks_are_given),
        cmocka_unit_test(a_killed_worker_leaves_its_disk),
        cmocka_unit_test(a_restore_wants_its_disk),
        cmocka_unit_test(a_restore_takes_other_disks),
    };
    rig_need_kvm();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
