/*
 * Whose a guest is, when the one who knew is dead: workers and ferryds are killed around the moment
 * at which a guest is given away, and whatever could then start a second copy of it has to refuse.
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

#include "base/now.h"
#include "tests/kvm/health.h"
#include "tests/kvm/pair.h"
#include "tests/kvm/rig.h"

#define LONG_MS 20000u

static const struct proxy ran = {.kind = WIRE_RUNNING, .closes = true};
static const struct proxy never_ran = {.kind = WIRE_HANDOFF, .closes = true};

static void kill_worker(struct host *h)
{
    assert_int_equal(kill(host_pid(h, "web"), SIGKILL), 0);
}

static void restart_ferryd(struct host *h)
{
    host_kill_ferryd(h);
    host_start_ferryd(h);
}

/* It stands still, and has a console all the same. */
static void expect_still(struct pair *p)
{
    unsigned verdicts = count_verdicts(&p->h[0], "web");
    if (p->wire->kind == WIRE_RUNNING)
        expect_more(&p->h[1], "web", count_verdicts(&p->h[1], "web"));
    assert_int_equal(count_verdicts(&p->h[0], "web"), verdicts);
}

/* The guest is in doubt at the first host, and nobody can be asked. */
static void begin_doubt(struct pair *p, struct proxy wire)
{
    char out[4096];
    pair_start(p, wire);
    host_must(&p->h[0], "snapshot create web base");
    assert_int_equal(host_run(&p->h[0], out, sizeof(out), "migrate web %s", p->wire->address), 1);
    if (!strstr(out, "'web' is in doubt"))
        fail_msg("it is not in doubt: %s", out);
    host_expect_state(&p->h[0], "web", "in-doubt", LONG_MS);
    expect_still(p);
}

/* Whatever would let it run here. */
static void expect_refusals(struct host *h)
{
    static const char way_out[] = "vmctl migration resolve web";
    host_refuses(h, way_out, "start web");
    host_refuses(h, way_out, "rm web");
    host_refuses(h, way_out, "restore base --name web --replace");
    host_refuses(h, "'web' is ", "reset web");
    host_expect(h, "in doubt: it was handed off to 127.0.0.1", 1000, "show web");
}

static void dead_in_doubt(void **state)
{
    struct pair p;
    begin_doubt(&p, ran);
    host_refuses(&p.h[0], "migration resolve", "reset web");
    host_refuses(&p.h[0], "migration resolve", "resume web");
    host_refuses(&p.h[0], "is in doubt", "start web");
    host_refuses(&p.h[0], "is in doubt", "rm web");
    kill_worker(&p.h[0]);
    host_expect_state(&p.h[0], "web", "crashed", LONG_MS);
    expect_refusals(&p.h[0]);
    restart_ferryd(&p.h[0]);
    expect_refusals(&p.h[0]);
    host_expect_state(&p.h[1], "web", "running", LONG_MS);
    proxy_release(p.wire); /* the peer can be asked, and says that it has it */
    pair_expect_at(&p, 1);
    pair_stop(&p);
}

/* Nobody was there when it died. */
static void dies_without_ferryd(void **state)
{
    struct pair p;
    begin_doubt(&p, ran);
    pid_t worker = host_pid(&p.h[0], "web");
    host_kill_ferryd(&p.h[0]);
    assert_int_equal(kill(worker, SIGKILL), 0);
    host_start_ferryd(&p.h[0]);
    host_expect_state(&p.h[0], "web", "crashed", LONG_MS);
    expect_refusals(&p.h[0]);
    proxy_release(p.wire);
    pair_expect_at(&p, 1);
    pair_stop(&p);
}

static void killed_in_doubt(void **state)
{
    struct pair p;
    begin_doubt(&p, ran);
    host_must(&p.h[0], "kill web");
    expect_refusals(&p.h[0]);
    host_must(&p.h[0], "migration resolve web --discard");
    pair_expect_at(&p, 1);
    pair_stop(&p);
}

static void start_soon(struct host *h)
{
    uint64_t until = now_ns() + LONG_MS * 1000000ull;
    while (host_run(h, NULL, 0, "start web") != 0) {
        if (now_ns() > until)
            fail_msg("it cannot be started");
        nanosleep(&(struct timespec){.tv_nsec = 50000000}, NULL);
    }
}

/* The memory died with the worker; what is left is a machine that may boot here again. */
static void dead_and_never_ran(void **state)
{
    struct pair p;
    begin_doubt(&p, never_ran);
    kill_worker(&p.h[0]);
    host_expect_state(&p.h[0], "web", "crashed", LONG_MS);
    expect_refusals(&p.h[0]);
    proxy_release(p.wire);
    start_soon(&p.h[0]);
    p.verdicts = 0;
    pair_expect_at(&p, 0);
    pair_stop(&p);
}

static void dead_is_kept(void **state)
{
    struct pair p;
    begin_doubt(&p, never_ran);
    kill_worker(&p.h[0]);
    host_expect_state(&p.h[0], "web", "crashed", LONG_MS);
    host_must(&p.h[0], "migration resolve web --keep");
    host_refuses(&p.h[0], "'web' is not in doubt", "migration resolve web --discard");
    host_must(&p.h[0], "start web");
    expect_healthy(&p.h[0], "web");
    host_must(&p.h[0], "migrate web %s", p.h[1].address);
    p.verdicts = 0;
    pair_expect_at(&p, 1);
    pair_stop(&p);
}

static void resolved_by_hand(void **state)
{
    const bool *keep = *state;
    struct pair p;
    begin_doubt(&p, *keep ? never_ran : ran);
    restart_ferryd(&p.h[0]); /* it finds a worker in doubt */
    host_expect_state(&p.h[0], "web", "in-doubt", LONG_MS);
    host_must(&p.h[0], "migration resolve web %s", *keep ? "--keep" : "--discard");
    pair_expect_at(&p, !*keep);
    pair_stop(&p);
}

static void expect_log(const struct host *h, const char *words)
{
    char path[100], all[1 << 16];
    uint64_t until = now_ns() + LONG_MS * 1000000ull;
    snprintf(path, sizeof(path), "%s/ferryd.log", h->dir);
    for (bool found = false; !found;) {
        FILE *f = fopen(path, "r");
        assert_non_null(f);
        all[fread(all, 1, sizeof(all) - 1, f)] = '\0';
        fclose(f);
        found = strstr(all, words);
        if (!found && now_ns() > until)
            fail_msg("no '%s' in %s", words, path);
        nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
    }
}

/* It ran at its peer and was removed there: no record tells, and nothing is taken for an answer. */
static void removed_at_its_peer(void **state)
{
    struct pair p;
    begin_doubt(&p, ran);
    host_must(&p.h[1], "kill web");
    host_must(&p.h[1], "rm web");
    proxy_release(p.wire);
    expect_log(&p.h[1], "a guest that was handed off cannot be told of");
    host_expect_state(&p.h[0], "web", "in-doubt", 1000);
    host_must(&p.h[0], "migration resolve web --discard");
    host_expect(&p.h[0], "there is no VM", LONG_MS, "show web");
    pair_stop(&p);
}

/* the one who gets it ------------------------------------------------------------------------- */

/* False when it was given up before: on a loaded host 4 s may be over before all of this is done.
 */
static bool take_and_die(struct pair *p, bool ferryd_too)
{
    pair_start(p, (struct proxy){.kind = WIRE_HANDOFF, .fault = PROXY_HOLD});
    pair_begin(p);
    pid_t worker = host_pid(&p->h[1], "web");
    if (ferryd_too)
        host_kill_ferryd(&p->h[1]);
    else
        assert_int_equal(kill(p->h[1].ferryd, SIGSTOP), 0);
    proxy_release(p->wire);
    bool moved = pair_end(p) == 0;
    if (moved)
        assert_int_equal(kill(worker, SIGKILL), 0);
    if (ferryd_too)
        host_start_ferryd(&p->h[1]);
    else
        assert_int_equal(kill(p->h[1].ferryd, SIGCONT), 0);
    return moved;
}

/* It had the guest, and told nobody yet: the VM stays, as one whose worker died. */
static void dies_with_the_guest(void **state)
{
    const bool *ferryd_too = *state;
    struct pair p;
    for (unsigned tries = 0; !take_and_die(&p, *ferryd_too); tries++) {
        assert_true(tries < 5);
        pair_stop(&p);
    }
    host_expect_state(&p.h[1], "web", "crashed", LONG_MS);
    host_expect(&p.h[0], "there is no VM", LONG_MS, "show web");
    host_must(&p.h[1], "start web");
    expect_healthy(&p.h[1], "web");
    pair_stop(&p);
}

/* What was to come and did not is no VM that one could start. */
static void nothing_is_left_of_half_a_guest(void **state)
{
    struct pair p;
    pair_start(&p, (struct proxy){.kind = WIRE_COMPLETE, .fault = PROXY_HOLD});
    pair_begin(&p);
    pid_t worker = host_pid(&p.h[1], "web");
    host_kill_ferryd(&p.h[1]);
    assert_int_equal(kill(worker, SIGKILL), 0);
    host_start_ferryd(&p.h[1]);
    proxy_release(p.wire);
    assert_int_equal(pair_end(&p), 1);
    pair_expect_at(&p, 0);
    host_must(&p.h[0], "migrate web %s", p.h[1].address);
    pair_expect_at(&p, 1);
    pair_stop(&p);
}

/* one writer ---------------------------------------------------------------------------------- */

/* A ferryd that is started anew does not know that its worker is giving the guest away. */
static void one_migration_at_a_time(void **state)
{
    struct pair p;
    pair_start(&p, (struct proxy){.kind = WIRE_RUNNING, .fault = PROXY_HOLD});
    pair_begin(&p);
    expect_still(&p);
    restart_ferryd(&p.h[0]);
    assert_int_not_equal(pair_end(&p), 0);
    char again[128];
    snprintf(again, sizeof(again), "migrate web %s", p.h[1].address);
    host_refuses(&p.h[0], "'web' cannot be migrated: ", again);
    pair_expect_at(&p, 1); /* in doubt at first, and then it is told */
    pair_stop(&p);
}

static void no_restore_on_the_way(void **state)
{
    struct pair p;
    pair_start(&p, (struct proxy){.kind = WIRE_ROUND_END, .fault = PROXY_HOLD});
    host_must(&p.h[0], "snapshot create web base");
    pair_begin(&p);
    host_refuses(&p.h[0], "is being migrated", "restore base --name web --replace");
    proxy_release(p.wire);
    bool stays = pair_end(&p) != 0; /* when the host is loaded, and 4 s are over */
    pair_expect_at(&p, !stays);
    pair_stop(&p);
}

/* cancelling ---------------------------------------------------------------------------------- */

/* Until the guest is given away it can be had back, also while it stands still. */
static void cancelled_at_the_switch(void **state)
{
    struct pair p;
    pair_start(&p, (struct proxy){.kind = WIRE_READY, .fault = PROXY_HOLD});
    pair_begin(&p);
    host_must(&p.h[0], "migration cancel web");
    assert_int_equal(pair_end(&p), 1);
    proxy_release(p.wire);
    pair_expect_at(&p, 0);
    pair_stop(&p);
}

static void interrupted_at_the_switch(void **state)
{
    struct pair p;
    pair_start(&p, (struct proxy){.kind = WIRE_COMPLETE, .fault = PROXY_HOLD});
    pair_begin(&p);
    assert_int_equal(kill(p.migrate, SIGINT), 0);
    assert_int_not_equal(pair_end(&p), 0);
    proxy_release(p.wire);
    pair_expect_at(&p, 0);
    pair_stop(&p);
}

/* Neither who cancels nor who migrates is told that it stayed. */
static void cancelled_too_late(void **state)
{
    struct pair p;
    int status;
    pair_start(&p, (struct proxy){.kind = WIRE_RUNNING, .fault = PROXY_HOLD});
    pair_begin(&p);
    pid_t cancel = host_begin(&p.h[0], "migration cancel web");
    nanosleep(&(struct timespec){.tv_nsec = 300000000}, NULL); /* it may be heard before or after */
    proxy_release(p.wire);
    assert_int_equal(waitpid(cancel, &status, 0), cancel);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 1);
    pair_end(&p);
    char out[4096];
    host_run(&p.h[0], out, sizeof(out), "migration show web --json");
    if (!strstr(out, "\"migration\":\"moved\"") && !strstr(out, "\"migration\":\"in-doubt\""))
        fail_msg("it is told as %s", out);
    pair_expect_at(&p, 1);
    pair_stop(&p);
}

/* Removed, it leaves no record behind; what is not in doubt cannot be resolved. */
static void removed_without_a_trace(void **state)
{
    struct pair p;
    pair_start(&p, (struct proxy){.kind = WIRE_KINDS});
    host_must(&p.h[0], "migrate web %s", p.wire->address);
    pair_expect_at(&p, 1);
    assert_int_equal(host_count_entries(&p.h[1], "root/owners"), 3);
    host_must(&p.h[1], "kill web");
    host_refuses(&p.h[1], "'web' is not in doubt", "migration resolve web --keep");
    host_must(&p.h[1], "rm web");
    assert_int_equal(host_count_entries(&p.h[1], "root/owners"), 2);
    pair_stop(&p);
}

int main(void)
{
    static bool yes = true, no;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(dead_in_doubt),
        cmocka_unit_test(dies_without_ferryd),
        cmocka_unit_test(killed_in_doubt),
        cmocka_unit_test(dead_and_never_ran),
        cmocka_unit_test(dead_is_kept),
        cmocka_unit_test(removed_at_its_peer),
        {"kept by hand", resolved_by_hand, NULL, NULL, &yes},
        {"discarded by hand", resolved_by_hand, NULL, NULL, &no},
        {"its worker dies with the guest", dies_with_the_guest, NULL, NULL, &no},
        {"worker and ferryd die with the guest", dies_with_the_guest, NULL, NULL, &yes},
        cmocka_unit_test(nothing_is_left_of_half_a_guest),
        cmocka_unit_test(one_migration_at_a_time),
        cmocka_unit_test(no_restore_on_the_way),
        cmocka_unit_test(cancelled_at_the_switch),
        cmocka_unit_test(interrupted_at_the_switch),
        cmocka_unit_test(cancelled_too_late),
        cmocka_unit_test(removed_without_a_trace),
    };
    rig_need_kvm();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
