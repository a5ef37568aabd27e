/*
 * Real guests that move between two daemons while they run. They check themselves: what was lost,
 * torn or doubled on the way they say on their serial port, which moves along.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/kvm/health.h"
#include "tests/kvm/host.h"
#include "tests/kvm/rig.h"

#define OUT_MAX 65536
#define LONG_MS 60000u /* for what comes at once unless the machine is loaded */

struct guest {
    const char *name, *cmdline;
    unsigned cpus;
};

static unsigned moves(void)
{
    return getenv("FERRY_LONG") ? 100 : 4;
}

static void start_two(struct host h[2])
{
    host_start_listening(&h[0]);
    host_start_listening(&h[1]);
}

static void stop_two(struct host h[2])
{
    host_stop(&h[0]);
    host_stop(&h[1]);
}

/* What it said before it moved is the beginning of what it has said since. */
static void expect_prefix(struct host *h, const char *name, const char *before)
{
    char *after = console_of(h, name);
    if (strncmp(after, before, strlen(before)) != 0)
        fail_msg("the console of %s lost something on the way", name);
    free(after);
}

/* A guest that writes as fast as it can is stopped rather than slowed down: how fast a loaded host
 * sends is not what is to be seen here. */
static void move(struct host *from, struct host *to, const char *name)
{
    char *before = console_of(from, name);
    unsigned verdicts = count_verdicts(from, name);
    host_must(from, "migrate %s %s --on-stall force", name, to->address);
    assert_int_equal(host_run(from, NULL, 0, "show %s", name), 1);
    host_expect_state(to, name, "running", 1000);
    expect_more(to, name, verdicts);
    if (strlen(before) + 1 < CONSOLE_MAX / 2) /* a longer one drops its beginning by design */
        expect_prefix(to, name, before);
    free(before);
}

static void ping_pong(void **state)
{
    const struct guest *g = *state;
    struct host h[2];
    start_two(h);
    host_must(&h[0], "start web --kernel %%G/%s.elf --memory 48M --cpus %u --cmdline %s", g->name,
              g->cpus, g->cmdline);
    expect_healthy(&h[0], "web");
    for (unsigned i = 0; i < moves(); i++)
        move(&h[i % 2], &h[(i + 1) % 2], "web");
    stop_two(h);
}

static void paused_stays_paused(void **state)
{
    struct host h[2];
    start_two(h);
    host_must(&h[0], "start web --kernel %%G/hello.elf --memory 32M");
    expect_healthy(&h[0], "web");
    host_must(&h[0], "pause web");
    unsigned verdicts = count_verdicts(&h[0], "web");
    host_must(&h[0], "migrate web %s", h[1].address);
    host_expect_state(&h[1], "web", "paused", 1000);
    assert_in_range(count_verdicts(&h[1], "web"), verdicts, verdicts + 1);
    host_must(&h[1], "resume web");
    expect_more(&h[1], "web", verdicts);
    host_must(&h[1], "reset web"); /* it boots there, too */
    host_expect(&h[1], "hello from ferry guest", LONG_MS, "console web --log");
    stop_two(h);
}

static void what_goes_along(void **state)
{
    static char out[OUT_MAX];
    struct host h[2];
    start_two(h);
    host_must(&h[0], "start web --kernel %%G/echo.elf --memory 32M");
    host_expect(&h[0], "ready", LONG_MS, "console web --log");
    host_must(&h[0], "reset web");
    host_expect(&h[0], "\"resets\":1", LONG_MS, "show web --json");
    long boot = host_number(&h[0], "web", "memory_bytes");
    host_must(&h[0], "migrate web %s --json", h[1].address);
    host_expect(&h[1], "\"resets\":1", LONG_MS, "show web --json");
    assert_int_equal(host_number(&h[1], "web", "memory_bytes"), boot);
    /* The source has nothing left of it but a record. */
    host_run(&h[0], out, sizeof(out), "list --names");
    assert_string_equal(out, "");
    host_must(&h[0], "migration show web --json");
    host_expect(&h[0], "\"migration\":\"moved\"", LONG_MS, "migration show web --json");
    stop_two(h);
}

/* Packed in every case, and the guest finds nothing wrong with what came out. */
static void packed_ones_arrive(void **state)
{
    struct host h[2];
    start_two(h);
    host_must(&h[0], "start web --kernel %%G/dirty.elf --memory 48M --cmdline rate=1000");
    expect_healthy(&h[0], "web");
    for (unsigned i = 0; i < 2; i++) {
        unsigned verdicts = count_verdicts(&h[i], "web");
        host_must(&h[i], "migrate web %s --compress zstd", h[!i].address);
        host_expect(&h[i], "packed_pages", 1000, "migration show web");
        expect_more(&h[!i], "web", verdicts);
    }
    host_must(&h[0], "migrate web %s --compress off", h[1].address);
    host_expect(&h[0], "\"packed_pages\":0", 1000, "migration show web --json");
    expect_healthy(&h[1], "web");
    stop_two(h);
}

static void refusals_change_nothing(void **state)
{
    static char out[OUT_MAX];
    struct host h[2];
    start_two(h);
    host_must(&h[0], "start web --kernel %%G/hello.elf --memory 32M");
    host_must(&h[1], "start web --kernel %%G/hello.elf --memory 32M");
    expect_healthy(&h[0], "web");
    assert_int_equal(host_run(&h[0], out, sizeof(out), "migrate web %s --check", h[1].address), 1);
    assert_non_null(strstr(out, "a VM 'web' is here already"));
    assert_int_equal(host_run(&h[0], out, sizeof(out), "migrate web %s", h[1].address), 1);
    assert_non_null(strstr(out, "a VM 'web' is here already"));
    assert_int_equal(host_run(&h[0], out, sizeof(out), "migrate web 127.0.0.1:1"), 1);
    assert_int_equal(host_run(&h[0], out, sizeof(out), "migrate web %s", h[0].address), 1);
    assert_int_equal(host_run(&h[0], out, sizeof(out), "migration resolve web --keep"), 1);
    host_must(&h[1], "kill web");
    host_must(&h[1], "rm web");
    host_must(&h[0], "migrate web %s --check", h[1].address);
    expect_more(&h[0], "web", count_verdicts(&h[0], "web"));
    move(&h[0], &h[1], "web");
    stop_two(h);
}

/* Cancelled, the guest runs on, and can go for good later. */
static void cancelled_runs_on(void **state)
{
    static char out[OUT_MAX];
    struct host h[2];
    start_two(h);
    host_must(&h[0], "start web --kernel %%G/dirty.elf --memory 64M --cmdline rate=1000");
    expect_healthy(&h[0], "web");
    host_must(&h[0], "migrate web %s --bandwidth 64K --detach", h[1].address);
    host_expect(&h[0], "\"rate_bytes_per_s\"", LONG_MS, "migration show web --json");
    assert_int_equal(host_run(&h[0], out, sizeof(out), "migrate web %s", h[1].address), 1);
    host_must(&h[0], "migration cancel web");
    host_expect(&h[0], "cancelled", LONG_MS, "migration show web");
    host_expect(&h[1], "there is no VM", LONG_MS, "show web");
    expect_more(&h[0], "web", count_verdicts(&h[0], "web"));
    move(&h[0], &h[1], "web");
    stop_two(h);
}

/* Without encryption nobody else's address is listened on by accident. */
static void other_hosts_only_when_told(void **state)
{
    static char out[OUT_MAX];
    struct host h;
    int status, pipefd[2];
    host_start(&h);
    assert_int_equal(pipe(pipefd), 0);
    pid_t pid = fork();
    if (pid == 0) {
        char program[4200], root[100], run[100];
        snprintf(program, sizeof(program), "%s/bin/ferryd", h.build);
        snprintf(root, sizeof(root), "%s/root2", h.dir);
        snprintf(run, sizeof(run), "%s/run2", h.dir);
        dup2(pipefd[1], 2);
        execl(program, "ferryd", "--root", root, "--run", run, "--listen", "0.0.0.0:0", NULL);
        _exit(127);
    }
    close(pipefd[1]);
    ssize_t n, len = 0;
    while ((n = read(pipefd[0], out + len, sizeof(out) - 1 - (size_t)len)) > 0)
        len += n;
    close(pipefd[0]);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 1);
    assert_non_null(strstr(out, "--insecure"));
    host_stop(&h);
}

int main(void)
{
    static struct guest guests[] = {
        {"dirty", "rate=max", 1}, {"dirty", "rate=1000~period=20", 1},
        {"smp", "period=50", 2},  {"fpu", "period=50", 2},
        {"msr", "period=50", 2},  {"timer", "early=0", 2},
    };
    const struct CMUnitTest tests[] = {
        {"dirty at full speed", ping_pong, NULL, NULL, &guests[0]},
        {"dirty at a rate", ping_pong, NULL, NULL, &guests[1]},
        {"smp", ping_pong, NULL, NULL, &guests[2]},
        {"fpu", ping_pong, NULL, NULL, &guests[3]},
        {"msr", ping_pong, NULL, NULL, &guests[4]},
        {"timer", ping_pong, NULL, NULL, &guests[5]},
        cmocka_unit_test(paused_stays_paused),
        cmocka_unit_test(what_goes_along),
        cmocka_unit_test(packed_ones_arrive),
        cmocka_unit_test(refusals_change_nothing),
        cmocka_unit_test(cancelled_runs_on),
        cmocka_unit_test(other_hosts_only_when_told),
    };
    rig_need_kvm();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
