/*
 * A whole fleet of guests moves at once, each held up on the wire at another message; then one kind
 * of thing goes wrong for all of them. Whatever it is: each guest ends up at one host and runs on
 * there, or crashed where it was with its worker; and nobody has anything left of those that went.
 */
#include <dirent.h>
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

#include "base/now.h"
#include "tests/kvm/health.h"
#include "tests/kvm/host.h"
#include "tests/kvm/proxy.h"
#include "tests/kvm/rig.h"

#define FLEET_MAX 16u
#define PATIENCE_NS 30000000000ull
#define LONG_MS 30000u

/* Where a guest may end up. */
#define HERE 1u
#define THERE 2u
#define CRASHED_HERE 4u
#define CRASHED_THERE 8u

struct trip {
    unsigned kind, may; /* the message it is met at */
    struct proxy *wire;
    char name[16];
    pid_t vmctl, workers[2];
    unsigned verdicts, end;
    struct host_usage usage;
};

struct fleet {
    struct host h[2];
    struct trip trips[FLEET_MAX];
    unsigned count;
    struct host_usage ferryd; /* the first host's, with all guests */
};

/* there and back ------------------------------------------------------------------------------ */

static struct proxy *make_wire(const struct host *to, struct proxy wire)
{
    static struct proxy wires[10 * FLEET_MAX]; /* their threads outlive the test */
    static unsigned used;
    assert_true(used < sizeof(wires) / sizeof(wires[0]));
    struct proxy *p = &wires[used++];
    *p = wire;
    p->to = strdup(to->address);
    assert_non_null(p->to);
    proxy_start(p);
    return p;
}

/* Whole lines with a verdict; none of them may be bad. */
static unsigned verdicts_of(struct host *h, const char *name)
{
    unsigned n = 0;
    char *all = console_of(h, name);
    const char *bad = strstr(all, "FAIL");
    for (const char *at = all; !bad && (at = strstr(at, "errors=")) && strchr(at, '\n'); at += 7) {
        n++;
        bad = strncmp(at, "errors=0", 8) != 0 ? at : NULL;
    }
    if (bad)
        fail_msg("%s found an error: %.300s", name, bad);
    free(all);
    return n;
}

static void expect_alive(struct host *h, struct trip *t)
{
    uint64_t until = now_ns() + PATIENCE_NS;
    unsigned before = t->verdicts;
    while ((t->verdicts = verdicts_of(h, t->name)) <= before) {
        if (now_ns() > until)
            fail_msg("%s says no more", t->name);
        nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
    }
}

static void start_trip(struct fleet *f, struct trip *t)
{
    host_must(&f->h[0],
              "start %s --kernel %%G/dirty.elf --memory 24M --cmdline "
              "rate=100~pages=500~sweep=100~sleep=20",
              t->name);
    expect_alive(&f->h[0], t);
    t->workers[0] = host_pid(&f->h[0], t->name);
    t->usage = host_usage(t->workers[0]);
}

/* `trips` ends with one whose `may` is 0. */
static void start(struct fleet *f, const struct trip *trips, struct proxy wire)
{
    memset(f, 0, sizeof(*f));
    host_start_listening(&f->h[0]);
    host_start_listening(&f->h[1]);
    for (; trips[f->count].may; f->count++) {
        struct trip *t = &f->trips[f->count];
        assert_true(f->count < FLEET_MAX);
        *t = trips[f->count];
        snprintf(t->name, sizeof(t->name), "at-%u", t->kind);
        wire.kind = t->kind;
        t->wire = make_wire(&f->h[1], wire);
        start_trip(f, t);
    }
    f->ferryd = host_usage(f->h[0].ferryd);
}

static void depart(struct fleet *f)
{
    char args[128];
    for (unsigned i = 0; i < f->count; i++) {
        struct trip *t = &f->trips[i];
        snprintf(args, sizeof(args), "migrate %s %s", t->name, t->wire->address);
        t->vmctl = host_begin(&f->h[0], args);
    }
    for (unsigned i = 0; i < f->count; i++)
        proxy_wait(f->trips[i].wire);
}

static void release(struct fleet *f)
{
    for (unsigned i = 0; i < f->count; i++)
        proxy_release(f->trips[i].wire);
}

static void await_vmctls(struct fleet *f)
{
    int status;
    for (unsigned i = 0; i < f->count; i++)
        assert_int_equal(waitpid(f->trips[i].vmctl, &status, 0), f->trips[i].vmctl);
}

/* where it is --------------------------------------------------------------------------------- */

/* "" when it is not there; "in doubt", too, for one that crashed so. */
static void get_state(struct host *h, const char *name, char state[32])
{
    static char out[65536];
    state[0] = '\0';
    if (host_run(h, out, sizeof(out), "show %s --json", name) != 0)
        return;
    const char *at = strstr(out, "\"state\":\"");
    if (at)
        sscanf(at, "\"state\":\"%31[^\"]", state);
    if (strstr(out, "; in doubt: "))
        snprintf(state, 32, "in doubt");
}

/* 0 as long as it is not decided. */
static unsigned look(struct fleet *f, const struct trip *t)
{
    char here[32], there[32];
    get_state(&f->h[0], t->name, here);
    get_state(&f->h[1], t->name, there);
    if (here[0] && there[0])
        return 0;
    const char *state = here[0] ? here : there;
    if (strcmp(state, "running") == 0)
        return here[0] ? HERE : THERE;
    if (strcmp(state, "crashed") == 0)
        return here[0] ? CRASHED_HERE : CRASHED_THERE;
    if (!state[0])
        fail_msg("%s is nowhere", t->name);
    return 0;
}

static void settle(struct fleet *f, struct trip *t)
{
    static char out[65536];
    uint64_t until = now_ns() + PATIENCE_NS;
    while (!((t->end = look(f, t)) & t->may)) {
        if (now_ns() > until) {
            host_run(&f->h[0], out, sizeof(out), "show %s", t->name);
            print_message("at the first host: %s\n", out);
            host_run(&f->h[1], out, sizeof(out), "show %s", t->name);
            print_message("at the second host: %s\n", out);
            fail_msg("%s ends as 0x%x, and may only as 0x%x", t->name, t->end, t->may);
        }
        nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
    }
}

/* A migration that came to nothing leaves nothing in the worker. */
static void expect_usage(pid_t pid, const struct host_usage *before, const char *whose)
{
    uint64_t until = now_ns() + PATIENCE_NS;
    for (;;) {
        struct host_usage now = host_usage(pid);
        if (now.fds <= before->fds && now.threads <= before->threads)
            return;
        if (now_ns() > until)
            fail_msg("%s has %u descriptors and %u threads, and had %u and %u", whose, now.fds,
                     now.threads, before->fds, before->threads);
        nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
    }
}

/* It goes on as if nothing had been: also to the other host. */
static void go_on(struct fleet *f, struct trip *t)
{
    struct host *at = &f->h[(t->end & (THERE | CRASHED_THERE)) != 0];
    if (t->end & (CRASHED_HERE | CRASHED_THERE)) {
        host_must(at, "start %s", t->name);
        t->verdicts = 0;
    }
    expect_alive(at, t);
    if (t->end == HERE)
        expect_usage(t->workers[0], &t->usage, t->name);
    if (t->end & (HERE | CRASHED_HERE)) {
        host_must(at, "migrate %s %s", t->name, f->h[1].address);
        expect_alive(&f->h[1], t);
    }
    host_must(&f->h[1], "kill %s", t->name);
}

static void arrive(struct fleet *f)
{
    await_vmctls(f);
    for (unsigned i = 0; i < f->count; i++)
        settle(f, &f->trips[i]);
    for (unsigned i = 0; i < f->count; i++)
        go_on(f, &f->trips[i]);
    expect_usage(f->h[0].ferryd, &f->ferryd, "ferryd");
    host_stop(&f->h[0]);
    host_stop(&f->h[1]);
}

/* what goes wrong ----------------------------------------------------------------------------- */

/* On a loaded host one may be gone already: its peer was held up for too long. */
static void signal_workers(struct fleet *f, unsigned whose, int sig)
{
    for (unsigned i = 0; i < f->count; i++)
        if (f->trips[i].workers[whose] > 1)
            kill(f->trips[i].workers[whose], sig);
}

static bool stands(pid_t pid, const char *task)
{
    char path[64], state = 'T';
    snprintf(path, sizeof(path), "/proc/%d/task/%.16s/stat", pid, task);
    FILE *f = fopen(path, "r");
    if (f) {
        if (fscanf(f, "%*d (%*[^)]) %c", &state) != 1)
            state = 'T'; /* it has just ended */
        fclose(f);
    }
    return state == 'T' || state == 'Z' || state == 'X';
}

static bool all_stand(pid_t pid)
{
    char path[32];
    bool all = true;
    snprintf(path, sizeof(path), "/proc/%d/task", pid);
    DIR *tasks = opendir(path);
    for (struct dirent *e; tasks && (e = readdir(tasks));)
        all = all && (e->d_name[0] == '.' || stands(pid, e->d_name));
    if (tasks)
        closedir(tasks);
    return all;
}

/* A thread goes on until it hears of the stop from the one that took the signal. */
static void freeze_workers(struct fleet *f, unsigned whose)
{
    signal_workers(f, whose, SIGSTOP);
    for (unsigned i = 0; i < f->count; i++)
        while (f->trips[i].workers[whose] > 1 && !all_stand(f->trips[i].workers[whose]))
            nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
}

static void learn_targets(struct fleet *f)
{
    for (unsigned i = 0; i < f->count; i++)
        f->trips[i].workers[1] = (pid_t)host_number(&f->h[1], f->trips[i].name, "pid");
}

static void source_killed(void **state)
{
    static const struct trip trips[] = {{PROXY_HELLO, CRASHED_HERE},
                                        {PROXY_ANSWER, CRASHED_HERE},
                                        {WIRE_START, CRASHED_HERE},
                                        {WIRE_ROUND_END, CRASHED_HERE},
                                        {WIRE_COMPLETE, CRASHED_HERE},
                                        {WIRE_READY, CRASHED_HERE},
                                        {WIRE_HANDOFF, THERE | CRASHED_HERE},
                                        {WIRE_RUNNING, THERE},
                                        {0, 0}};
    struct fleet f;
    start(&f, trips, (struct proxy){.fault = PROXY_HOLD});
    depart(&f);
    signal_workers(&f, 0, SIGKILL);
    release(&f);
    arrive(&f);
}

static void target_killed(void **state)
{
    static const struct trip trips[] = {{PROXY_ANSWER, HERE},
                                        {WIRE_START, HERE},
                                        {WIRE_ROUND_END, HERE},
                                        {WIRE_COMPLETE, HERE},
                                        {WIRE_READY, HERE},
                                        {WIRE_HANDOFF, HERE},
                                        {WIRE_RUNNING, CRASHED_THERE},
                                        {0, 0}};
    struct fleet f;
    start(&f, trips, (struct proxy){.fault = PROXY_HOLD});
    depart(&f);
    learn_targets(&f);
    signal_workers(&f, 1, SIGKILL);
    release(&f);
    arrive(&f);
}

/* Its peer gives it up while it stands, and what it does when it goes on is too late. */
static void source_frozen(void **state)
{
    static const struct trip trips[] = {{WIRE_START, HERE},
                                        {WIRE_ROUND_END, HERE},
                                        {WIRE_COMPLETE, HERE},
                                        {WIRE_READY, HERE},
                                        {WIRE_HANDOFF, HERE | THERE},
                                        {WIRE_RUNNING, THERE},
                                        {0, 0}};
    struct fleet f;
    start(&f, trips, (struct proxy){.fault = PROXY_HOLD});
    depart(&f);
    freeze_workers(&f, 0);
    release(&f);
    for (unsigned i = 0; i < f.count; i++)
        if (f.trips[i].may == HERE)
            host_expect(&f.h[1], "there is no VM", LONG_MS, "show %s", f.trips[i].name);
    signal_workers(&f, 0, SIGCONT);
    arrive(&f);
}

/* The guest runs on while its peer stands, unless it may be the peer's by then. */
static void target_frozen(void **state)
{
    static const struct trip trips[] = {{WIRE_START, HERE},
                                        {WIRE_ROUND_END, HERE},
                                        {WIRE_COMPLETE, HERE},
                                        {WIRE_READY, HERE | THERE},
                                        {WIRE_HANDOFF, HERE | THERE},
                                        {WIRE_RUNNING, THERE},
                                        {0, 0}};
    struct fleet f;
    start(&f, trips, (struct proxy){.fault = PROXY_HOLD});
    depart(&f);
    learn_targets(&f);
    freeze_workers(&f, 1);
    release(&f);
    await_vmctls(&f);
    for (unsigned i = 0; i < f.count; i++)
        if (f.trips[i].may == HERE)
            expect_alive(&f.h[0], &f.trips[i]);
    signal_workers(&f, 1, SIGCONT);
    for (unsigned i = 0; i < f.count; i++)
        f.trips[i].vmctl = host_begin(&f.h[0], "version"); /* the first ones are gone */
    arrive(&f);
}

static void restart(struct fleet *f, unsigned whose)
{
    host_kill_ferryd(&f->h[whose]);
    host_start_ferryd(&f->h[whose]);
}

/* A migration ends with the ferryd that asked for it, as long as it can be ended. */
static void source_ferryd_killed(void **state)
{
    static const struct trip trips[] = {
        {PROXY_HELLO, HERE},          {PROXY_ANSWER, HERE},  {WIRE_START, HERE},
        {WIRE_ROUND_END, HERE},       {WIRE_COMPLETE, HERE}, {WIRE_READY, HERE},
        {WIRE_HANDOFF, HERE | THERE}, {WIRE_RUNNING, THERE}, {0, 0}};
    struct fleet f;
    start(&f, trips, (struct proxy){.fault = PROXY_HOLD});
    depart(&f);
    restart(&f, 0);
    release(&f);
    arrive(&f);
}

/* Nobody needs it once the workers have each other; it finds a guest that is on its way. */
static void target_ferryd_killed(void **state)
{
    static const struct trip trips[] = {{PROXY_HELLO, HERE},
                                        {PROXY_ANSWER, HERE | THERE},
                                        {WIRE_START, HERE | THERE},
                                        {WIRE_ROUND_END, HERE | THERE},
                                        {WIRE_COMPLETE, HERE | THERE},
                                        {WIRE_READY, HERE | THERE},
                                        {WIRE_HANDOFF, HERE | THERE},
                                        {WIRE_RUNNING, THERE},
                                        {0, 0}};
    struct fleet f;
    start(&f, trips, (struct proxy){.fault = PROXY_HOLD});
    depart(&f);
    restart(&f, 1);
    release(&f);
    arrive(&f);
}

/* A page that arrived damaged may come once more, and then is whole; what ferryds say to each other
 * has no checksum, and one bit of it may mean little. */
static void a_bit_is_turned(void **state)
{
    static const struct trip trips[] = {{PROXY_HELLO, HERE | THERE},
                                        {PROXY_ANSWER, HERE | THERE},
                                        {WIRE_START, HERE},
                                        {WIRE_EXPECT, HERE},
                                        {WIRE_CARGO, HERE},
                                        {WIRE_PAGES, HERE | THERE},
                                        {WIRE_ACK, HERE},
                                        {WIRE_ROUND_END, HERE},
                                        {WIRE_STATE, HERE},
                                        {WIRE_COMPLETE, HERE},
                                        {WIRE_READY, HERE},
                                        {WIRE_HANDOFF, HERE},
                                        {WIRE_RUNNING, THERE},
                                        {0, 0}};
    struct fleet f;
    start(&f, trips, (struct proxy){.fault = PROXY_CORRUPT});
    depart(&f);
    arrive(&f);
}

static void the_wire_is_cut(void **state)
{
    static const struct trip trips[] = {
        {PROXY_HELLO, HERE}, {PROXY_ANSWER, HERE},   {WIRE_START, HERE},    {WIRE_PAGES, HERE},
        {WIRE_ACK, HERE},    {WIRE_ROUND_END, HERE}, {WIRE_STATE, HERE},    {WIRE_COMPLETE, HERE},
        {WIRE_READY, HERE},  {WIRE_HANDOFF, HERE},   {WIRE_RUNNING, THERE}, {0, 0}};
    struct fleet f;
    start(&f, trips, (struct proxy){.fault = PROXY_CUT});
    depart(&f);
    arrive(&f);
}

static void the_wire_is_cut_behind(void **state)
{
    static const struct trip trips[] = {{PROXY_ANSWER, HERE},  {WIRE_COMPLETE, HERE},
                                        {WIRE_READY, HERE},    {WIRE_HANDOFF, THERE},
                                        {WIRE_RUNNING, THERE}, {0, 0}};
    struct fleet f;
    start(&f, trips, (struct proxy){.fault = PROXY_CUT, .pass_on = true});
    depart(&f);
    arrive(&f);
}

/* a guest that writes too fast ---------------------------------------------------------------- */

#define FAST "--kernel %%G/dirty.elf --memory 24M --cmdline rate=20000~pages=1000"

static void start_fast(struct host h[2])
{
    host_start_listening(&h[0]);
    host_start_listening(&h[1]);
    host_must(&h[0], "start fast " FAST);
    expect_healthy(&h[0], "fast");
}

static void stop_two(struct host h[2])
{
    host_stop(&h[0]);
    host_stop(&h[1]);
}

/* What stop and load cost alone is more than 1 ms, however slow the guest is on a loaded host. */
static void too_fast_is_given_up(void **state)
{
    struct host h[2];
    char args[160];
    start_fast(h);
    snprintf(args, sizeof(args), "migrate fast %s --downtime 1ms --on-stall cancel", h[1].address);
    host_refuses(&h[0], "it does not converge", args);
    expect_more(&h[0], "fast", count_verdicts(&h[0], "fast"));
    host_expect(&h[1], "there is no VM", LONG_MS, "show fast");
    stop_two(h);
}

/* By how many percent the guest was held. */
static int move_slowed(struct host *from, struct host *to)
{
    char out[4096];
    host_must(from,
              "migrate fast %s --compress off --bandwidth 8M --downtime 300ms --on-stall throttle",
              to->address);
    assert_int_equal(host_run(from, out, sizeof(out), "migration show fast --json"), 0);
    const char *at = strstr(out, "\"throttle\":");
    assert_non_null(at);
    return atoi(at + strlen("\"throttle\":"));
}

/* A guest that gets no CPU on a loaded host needs no holding: then it is asked again. */
static void too_fast_is_slowed_down(void **state)
{
    struct host h[2];
    unsigned moves = 0;
    start_fast(h);
    unsigned verdicts = count_verdicts(&h[0], "fast");
    while (move_slowed(&h[moves % 2], &h[(moves + 1) % 2]) == 0)
        assert_true(++moves < 10);
    expect_more(&h[(moves + 1) % 2], "fast", verdicts);
    stop_two(h);
}

static void too_fast_is_forced(void **state)
{
    struct host h[2];
    start_fast(h);
    unsigned verdicts = count_verdicts(&h[0], "fast");
    host_must(&h[0], "migrate fast %s --downtime 1ms --on-stall force", h[1].address);
    expect_more(&h[1], "fast", verdicts);
    stop_two(h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(source_killed),           cmocka_unit_test(target_killed),
        cmocka_unit_test(source_frozen),           cmocka_unit_test(target_frozen),
        cmocka_unit_test(source_ferryd_killed),    cmocka_unit_test(target_ferryd_killed),
        cmocka_unit_test(a_bit_is_turned),         cmocka_unit_test(the_wire_is_cut),
        cmocka_unit_test(the_wire_is_cut_behind),  cmocka_unit_test(too_fast_is_given_up),
        cmocka_unit_test(too_fast_is_slowed_down), cmocka_unit_test(too_fast_is_forced),
    };
    rig_need_kvm();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
