/*
 * Chains of snapshots: each holds what changed since the one before. A page that a diff lacks is an
 * old one after a restore, and the guest, which checks all it has when it is switched off, says so.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "snapshot/catalogue.h"
#include "snapshot/reader.h"
#include "tests/kvm/host.h"
#include "tests/kvm/rig.h"

#define LINKS 5

/* 16 MiB that never change and are swept, 2 MiB that are written all the time. */
#define DIRTY                                                                                      \
    "--kernel %G/dirty.elf --memory 48M --cmdline rate=20000~pages=512~fillmem=16M~sweep=20000"

static void sleep_ms(unsigned ms)
{
    nanosleep(&(struct timespec){.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000l}, NULL);
}

static unsigned lines_of(struct host *h, const char *name)
{
    static char out[2u << 20];
    unsigned lines = 0;
    host_run(h, out, sizeof(out), "console %s --log", name);
    for (const char *at = out; (at = strstr(at, "errors=")); at++)
        lines++;
    return lines;
}

/* Lets the guest write for a while, which its own lines tell. */
static void let_it_write(struct host *h, const char *name)
{
    unsigned before = lines_of(h, name);
    while (lines_of(h, name) < before + 2)
        sleep_ms(20);
}

/* NULL: it is a complete one. */
static void expect_parent(struct host *h, const char *snapshot, const char *parent)
{
    char out[65536], want[100];
    host_run(h, out, sizeof(out), "snapshot show %s --json", snapshot);
    snprintf(want, sizeof(want), "\"parent\":%s%s%s", parent ? "\"" : "", parent ? parent : "null",
             parent ? "\"" : "");
    if (!strstr(out, want))
        fail_msg("%s: not %s: %s", snapshot, want, out);
}

static long disk_bytes(struct host *h, const char *snapshot)
{
    char out[65536];
    host_run(h, out, sizeof(out), "snapshot show %s --json", snapshot);
    const char *at = strstr(out, "\"disk_bytes\":");
    assert_non_null(at);
    return strtol(at + strlen("\"disk_bytes\":"), NULL, 10);
}

/* Fails with a sentence that has `why` in it, and leaves no snapshot. */
static void refuse(struct host *h, const char *args, const char *why)
{
    char out[65536];
    assert_int_not_equal(host_run(h, out, sizeof(out), "%s", args), 0);
    if (!strstr(out, why))
        fail_msg("'%s' does not say '%s' but: %s", args, why, out);
}

static void judge(struct host *h, const char *snapshot)
{
    host_must(h, "snapshot verify %s", snapshot);
    host_must(h, "restore %s --name judge --clock freeze", snapshot); /* of some time ago */
    host_expect(h, "errors=0", 20000, "console judge --log");
    host_must_end_well(h, "judge");
}

static void make_links(struct host *h, const char *vm, unsigned count)
{
    char name[16], parent[16] = "base";
    for (unsigned i = 1; i <= count; i++) {
        let_it_write(h, vm);
        snprintf(name, sizeof(name), "d%u", i);
        host_must(h, "snapshot create %s %s --parent %s", vm, name, parent);
        expect_parent(h, name, parent);
        memcpy(parent, name, sizeof(parent));
    }
}

/* What the worker needs beside the guest's RAM, at most, while `vmctl ARGS` runs. */
static unsigned long own_kib_during(struct host *h, const char *args)
{
    pid_t worker = (pid_t)host_number(h, "a", "pid"), pid = host_begin(h, args);
    unsigned long most = 0;
    int status;
    for (pid_t ended = 0; ended == 0; ended = waitpid(pid, &status, WNOHANG)) {
        unsigned long now = host_usage(worker).anon_kib;
        most = now > most ? now : most;
        sleep_ms(1);
    }
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    return most;
}

/* RAM that is 64 times as large costs the worker a few bitmaps more: no form holds memory back. (A
 * sanitizer keeps what was freed for a while, so the bound is a generous one.) */
#define MORE_KIB (48u << 10)

static void memory_is_bounded(void **state)
{
    static const char *const sizes[] = {"64M", "4G"};
    static const char *const rows[] = {
        "snapshot create a raw --track",
        "snapshot create a diff --parent raw",
        "snapshot create a packed-diff --parent diff --pack",
        "snapshot create a packed --pack",
    };
    unsigned long most[2][4];
#ifdef __SANITIZE_THREAD__
    print_message("the thread sanitizer keeps shadows of the guest's memory\n");
    skip();
#endif
    for (unsigned size = 0; size < 2; size++) {
        struct host h;
        host_start(&h);
        host_must(&h,
                  "start a --kernel %%G/dirty.elf --memory %s --cmdline "
                  "rate=20000~pages=2048~fillmem=%s~sweep=0",
                  sizes[size], size ? "200M" : "16M");
        host_expect(&h, "errors=0", 60000, "console a --log");
        for (unsigned i = 0; i < 4; i++)
            most[size][i] = own_kib_during(&h, rows[i]);
        host_stop(&h);
    }
    for (unsigned i = 0; i < 4; i++)
        if (most[1][i] > most[0][i] + MORE_KIB)
            fail_msg("'vmctl %s' takes %lu KiB of the worker with 4 GiB of RAM, %lu with 64 MiB",
                     rows[i], most[1][i], most[0][i]);
}

struct guest {
    const char *start;
    unsigned small_kib; /* what a diff takes at most; 0: it is not looked at */
};

static void every_link_is_right(void **state)
{
    const struct guest *g = *state;
    struct host h;
    char name[16];
    host_start(&h);
    host_must(&h, "start a %s", g->start);
    host_expect(&h, "errors=0", 20000, "console a --log");
    host_must(&h, "snapshot create a base --track");
    host_expect(&h, "\"tracked_since\":{\"name\":\"base\"", 1000, "show a --json");
    make_links(&h, "a", LINKS);
    for (unsigned i = 0; i <= LINKS; i++) {
        snprintf(name, sizeof(name), i ? "d%u" : "base", i);
        judge(&h, name);
        if (i && g->small_kib)
            assert_true(disk_bytes(&h, name) < (long)g->small_kib * 1024);
    }
    host_must_end_well(&h, "a");
    host_stop(&h);
}

/* The way back is refused, in words, and nothing of it changes what the chain knows. */
static void wrong_parents(void **state)
{
    struct host h;
    host_start(&h);
    host_must(&h, "start a %s", DIRTY);
    host_expect(&h, "errors=0", 20000, "console a --log");
    refuse(&h, "snapshot create a d1 --parent base", "there is no snapshot 'base'");
    host_must(&h, "snapshot create a alone");
    host_expect(&h, "\"tracked_since\":null", 1000, "show a --json");
    refuse(&h, "snapshot create a d1 --parent alone", "not tracked");
    host_must(&h, "snapshot create a base --track");
    host_must(&h, "snapshot create a d1 --parent base");
    refuse(&h, "snapshot create a d2 --parent base", "tracked since 'd1'");
    refuse(&h, "snapshot create a d2 --parent d1 --track --last", "--track");
    refuse(&h, "snapshot rm base", "needed by d1");
    host_must(&h, "snapshot create a beside"); /* the chain is not concerned */
    let_it_write(&h, "a");
    host_must(&h, "snapshot create a d2 --parent d1");
    judge(&h, "d2");

    /* Its uuid decides, not its name. */
    host_must(&h, "snapshot rm beside");
    host_must(&h, "snapshot create a end --parent d2");
    host_kill_ferryd(&h);
    char from[200], to[200];
    snprintf(from, sizeof(from), "%s/root/snapshots/end", h.dir);
    snprintf(to, sizeof(to), "%s/kept", h.dir);
    assert_int_equal(rename(from, to), 0);
    host_start_ferryd(&h);
    refuse(&h, "snapshot create a d4 --parent end", "there is no snapshot 'end'");
    host_must(&h, "snapshot create a end");
    refuse(&h, "snapshot create a d4 --parent end", "another one of that name");
    host_must(&h, "snapshot create a d4 --parent end --full");
    expect_parent(&h, "d4", NULL);
    host_must(&h, "snapshot create a d5 --parent d4");
    expect_parent(&h, "d5", "d4");
    judge(&h, "d5");

    /* The tip goes, and with it the tracking. */
    host_must(&h, "snapshot rm d5");
    host_expect(&h, "\"tracked_since\":null", 5000, "show a --json");
    refuse(&h, "snapshot create a d6 --parent d4", "not tracked any more");
    host_must(&h, "snapshot create a d6 --parent d4 --full");
    host_must(&h, "snapshot create a d7 --parent d6 --last");
    refuse(&h, "snapshot create a d8 --parent d7", "since the last one, 'd7'");
    host_must(&h, "snapshot create a d8 --track");
    host_must(&h, "snapshot untrack a");
    refuse(&h, "snapshot untrack a", "not tracked");
    refuse(&h, "snapshot create a d9 --parent d8", "not tracked any more");
    host_must(&h, "snapshot create a d9 --track");
    host_must(&h, "reset a");
    host_expect(&h, "\"tracked_since\":null", 1000, "show a --json");
    refuse(&h, "snapshot create a d10 --parent d9", "it was reset");
    host_expect(&h, "no snapshot", 1000, "events a");
    host_expect(&h, "snapshot gone", 1000, "events a");
    host_stop(&h);
}

static int wait_for(pid_t pid)
{
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* Those that are given up, at whatever moment, leave no trace in what follows. */
static void given_up_in_between(void **state)
{
    struct host h;
    char tip[16] = "base", name[16], args[100];
    unsigned given_up = 0;
    host_start(&h);
    host_must(&h, "start a %s", DIRTY);
    host_expect(&h, "errors=0", 20000, "console a --log");
    host_must(&h, "snapshot create a base --track");
    for (unsigned i = 0; i < 8; i++) {
        snprintf(name, sizeof(name), "x%u", i);
        snprintf(args, sizeof(args), "snapshot create a %s --parent %s%s", name, tip,
                 i % 3 == 2 ? " --pack" : "");
        pid_t pid = host_begin(&h, args);
        sleep_ms(i * 4);
        kill(pid, i % 2 ? SIGKILL : SIGINT);
        wait_for(pid);
        /* It may have been too late: then this is the tip. */
        host_expect(&h, "tracked_since", 1000, "show a --json");
        if (i % 4 == 3) {
            host_kill_ferryd(&h);
            host_start_ferryd(&h);
        }
        let_it_write(&h, "a");
        char out[65536], want[64];
        host_run(&h, out, sizeof(out), "show a --json");
        snprintf(want, sizeof(want), "\"tracked_since\":{\"name\":\"%s\"", name);
        if (strstr(out, want))
            memcpy(tip, name, sizeof(tip));
        else
            given_up++;
    }
    assert_true(given_up > 0);
    host_must(&h, "snapshot create a last --parent %s", tip);
    judge(&h, "last");
    host_must_end_well(&h, "a");
    host_stop(&h);
}

/* A live snapshot that has nothing to do with the chain runs at the same time as its diffs. */
static void two_consumers(void **state)
{
    struct host h;
    char parent[16] = "base", name[16], args[100];
    host_start(&h);
    host_must(&h, "start a %s", DIRTY);
    host_expect(&h, "errors=0", 20000, "console a --log");
    host_must(&h, "snapshot create a base --track");
    for (unsigned i = 0; i < LINKS; i++) {
        snprintf(args, sizeof(args), "snapshot create a full%u", i);
        pid_t pid = host_begin(&h, args);
        snprintf(name, sizeof(name), "d%u", i);
        host_must(&h, "snapshot create a %s --parent %s", name, parent);
        memcpy(parent, name, sizeof(parent));
        assert_int_equal(wait_for(pid), 0);
        let_it_write(&h, "a");
    }
    for (unsigned i = 0; i < LINKS; i++) {
        snprintf(name, sizeof(name), i % 2 ? "d%u" : "full%u", i);
        judge(&h, name);
    }
    judge(&h, parent);
    host_must_end_well(&h, "a");
    host_stop(&h);
}

/* A restored guest has its parent by its mapping, at once and without tracking. */
static void on_the_origin(void **state)
{
    struct host h;
    host_start(&h);
    host_must(&h, "start a %s", DIRTY);
    host_expect(&h, "errors=0", 20000, "console a --log");
    host_must(&h, "snapshot create a base");
    host_must(&h, "restore base --name b");
    host_expect(&h, "\"restored_from\":{\"name\":\"base\"", 1000, "show b --json");
    let_it_write(&h, "b");
    host_must(&h, "snapshot create b d1 --parent base --last");
    assert_true(disk_bytes(&h, "d1") < 5 << 20);
    judge(&h, "d1");
    let_it_write(&h, "b");
    host_must(&h, "snapshot create b d2 --parent base"); /* once more, and a chain from here */
    let_it_write(&h, "b");
    host_must(&h, "snapshot create b d3 --parent d2");
    let_it_write(&h, "b");
    host_must(&h, "snapshot create b d4 --parent base"); /* back to the origin, beside the tip */
    judge(&h, "d2");
    judge(&h, "d3");
    judge(&h, "d4");
    host_must_end_well(&h, "b");

    /* A clone of a chain maps several files. */
    host_must(&h, "restore d3 --name c");
    let_it_write(&h, "c");
    host_must(&h, "snapshot create c full");
    host_must(&h, "snapshot create c e1 --parent d3");
    let_it_write(&h, "c");
    host_must(&h, "snapshot create c e2 --parent e1");
    assert_true(disk_bytes(&h, "full") < 24 << 20); /* what nobody touched takes no room */
    assert_true(disk_bytes(&h, "e2") < 5 << 20);
    judge(&h, "full");
    judge(&h, "e1");
    judge(&h, "e2");
    host_must(&h, "reset c");
    refuse(&h, "snapshot create c e3 --parent d3", "it was reset");
    host_kill_ferryd(&h);
    host_start_ferryd(&h);
    host_must(&h, "kill c");
    host_must_end_well(&h, "a");
    host_stop(&h);
}

/* All of RAM as a reader has it, mapped; the caller unmaps. */
static uint8_t *read_ram(const struct host *h, const char *snapshot, uint64_t *bytes)
{
    struct reader r;
    struct err err = {0};
    char path[200];
    snprintf(path, sizeof(path), "%s/root/snapshots", h->dir);
    const struct catalogue c = {.fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC),
                                .io = &fileio_system};
    if (reader_open(&r, &c, snapshot, &err) < 0)
        fail_msg("%s", err.text);
    *bytes = r.ram_bytes;
    uint8_t *ram = mmap(NULL, *bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(ram != MAP_FAILED);
    if (reader_read(&r, 0, ram, *bytes, &err) < 0)
        fail_msg("%s", err.text);
    reader_close(&r);
    close(c.fd);
    return ram;
}

/* One moment of a guest in six forms: all of them are the same bytes. */
static void all_forms_are_equal(void **state)
{
    static const char *const forms[] = {"raw",         "diff",      "packed",
                                        "packed-diff", "raw-again", "tail"};
    struct host h;
    host_start(&h);
    host_must(&h, "start a %s", DIRTY);
    host_expect(&h, "errors=0", 20000, "console a --log");
    host_must(&h, "snapshot create a base --track --pack");
    let_it_write(&h, "a");
    host_must(&h, "snapshot create a d1 --parent base --pack");
    let_it_write(&h, "a");
    host_must(&h, "pause a");
    host_must(&h, "snapshot create a raw");
    host_must(&h, "snapshot create a packed --pack");
    host_must(&h, "snapshot create a packed-diff --parent d1 --pack");
    host_must(&h, "snapshot create a diff --parent packed-diff");
    host_must(&h, "snapshot create a raw-again --parent nothing --full");
    host_must(&h, "snapshot create a tail --parent raw-again --pack --last");
    host_expect_state(&h, "a", "paused", 1000);
    uint64_t bytes, other_bytes;
    uint8_t *raw = read_ram(&h, "raw", &bytes);
    for (size_t i = 1; i < sizeof(forms) / sizeof(*forms); i++) {
        host_must(&h, "snapshot verify %s", forms[i]);
        uint8_t *other = read_ram(&h, forms[i], &other_bytes);
        assert_int_equal(other_bytes, bytes);
        if (memcmp(raw, other, bytes) != 0)
            fail_msg("'%s' has other memory than 'raw'", forms[i]);
        munmap(other, other_bytes);
    }
    munmap(raw, bytes);
    host_must(&h, "resume a");
    host_must_end_well(&h, "a");
    host_stop(&h);
}

/* With a chain open: paused guests, and the last one ends the guest. */
static void paused_and_stopped(void **state)
{
    struct host h;
    host_start(&h);
    host_must(&h, "start a %s", DIRTY);
    host_expect(&h, "errors=0", 20000, "console a --log");
    host_must(&h, "pause a");
    host_must(&h, "snapshot create a base --track");
    host_must(&h, "snapshot create a d1 --parent base");
    assert_true(disk_bytes(&h, "d1") < 1 << 20); /* nothing happened */
    host_must(&h, "resume a");
    let_it_write(&h, "a");
    host_must(&h, "snapshot create a d2 --parent d1 --stop");
    host_expect(&h, "stopped at its snapshot", 5000, "show a");
    judge(&h, "d2");
    host_must(&h, "start a");
    host_expect(&h, "errors=0", 20000, "console a --log");
    refuse(&h, "snapshot create a d3 --parent d2", "not tracked");
    host_stop(&h);
}

int main(void)
{
    static struct guest guests[] = {
        {DIRTY, 5 << 10},
        {"--kernel %G/dirty.elf --memory 48M --cmdline rate=max~pages=2048~fillmem=8M", 0},
        {"--kernel %G/smp.elf --memory 48M --cpus 4 --cmdline period=50", 5 << 10},
    };
    const struct CMUnitTest tests[] = {
        {"dirty: every link is right", every_link_is_right, NULL, NULL, &guests[0]},
        {"dirty, as fast as it can: every link is right", every_link_is_right, NULL, NULL,
         &guests[1]},
        {"smp: every link is right", every_link_is_right, NULL, NULL, &guests[2]},
        cmocka_unit_test(wrong_parents),
        cmocka_unit_test(given_up_in_between),
        cmocka_unit_test(two_consumers),
        cmocka_unit_test(on_the_origin),
        cmocka_unit_test(all_forms_are_equal),
        cmocka_unit_test(paused_and_stopped),
        cmocka_unit_test(memory_is_bounded),
    };
    rig_need_kvm();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
