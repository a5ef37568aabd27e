/*
 * A running Linux guest is saved, restored and cloned: its programs go on without an error, its
 * clocks are where the clock policy puts them, its kernel knows that it is a copy and complains of
 * nothing, and what came out of a snapshot can be saved, rebooted and switched off like any other.
 *
 * One boot; everything else begins with its snapshot.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "tests/kvm/rig.h"
#include "tests/linux/linux.h"

#define CPUS 2u
#define SLACK_MS 500 /* rounding, and what clocks drift meanwhile */

/* Linux takes it for a soft lockup when a CPU did not come to itself for 20 s, and looks every 4 s:
 * a guest that was away for longer, watched for longer, shows that it was told. */
#define AWAY_MS 26000
#define WATCHED_MS 10000

static struct linux_kernel kernel;

/* What is known of a moment or a distance in time. */
struct range {
    int64_t from_ms, to_ms;
};

static int64_t wall_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return t.tv_sec * 1000ll + t.tv_nsec / 1000000;
}

/* Runs vmctl; returns when that was. */
static struct range timed(struct host *h, const char *args)
{
    struct range r = {.from_ms = wall_ms()};
    host_must(h, "%s", args);
    r.to_ms = wall_ms();
    return r;
}

struct lags {
    struct range realtime, monotonic; /* the host's wall clock minus the guest's clock */
};

static struct range lag_of(const char *answer, const char *clock, int64_t before, int64_t after)
{
    const char *at = strstr(answer, clock);
    assert_non_null(at);
    int64_t value = strtoll(at + strlen(clock), NULL, 10);
    return (struct range){before - value, after - value};
}

static struct lags lags_of(struct host *h, const char *name)
{
    char answer[300];
    int64_t before = wall_ms();
    assert_int_equal(linux_ask(h, name, answer, sizeof(answer), "clocks"), 0);
    int64_t after = wall_ms();
    return (struct lags){lag_of(answer, " realtime_ms=", before, after),
                         lag_of(answer, " monotonic_ms=", before, after)};
}

/* Lag `now` is lag `then` and `more`. */
static void check_lag(const char *name, const char *clock, struct range then, struct range more,
                      struct range now)
{
    if (now.to_ms < then.from_ms + more.from_ms - SLACK_MS ||
        now.from_ms > then.to_ms + more.to_ms + SLACK_MS)
        fail_msg("%s: its %s clock is %ld..%ld ms behind the host's; before it was saved %ld..%ld, "
                 "and %ld..%ld ms more are due",
                 name, clock, now.from_ms, now.to_ms, then.from_ms, then.to_ms, more.from_ms,
                 more.to_ms);
}

static void check_clocks(struct host *h, const char *name, struct lags then, struct range more)
{
    struct lags now = lags_of(h, name);
    check_lag(name, "wall", then.realtime, more, now.realtime);
    check_lag(name, "monotonic", then.monotonic, more, now.monotonic);
}

static void watch(struct host *h, const char *name, int64_t until_ms)
{
    do
        linux_expect_healthy(h, name, CPUS);
    while (wall_ms() < until_ms);
    linux_expect_no_complaint(h, name, false);
}

static void check_copy(struct host *h, const char *name)
{
    linux_expect_healthy(h, name, CPUS);
    if (linux_ask(h, name, NULL, 0, "log crng reseeded due to virtual machine fork") != 0)
        fail_msg("the kernel of %s does not know that it is a copy", name);
    linux_expect_no_complaint(h, name, false);
}

/* The time away is not counted. */
static void frozen_clones(struct host *h, struct lags then, struct range saved)
{
    struct range restored = timed(h, "restore s --name f --count 2 --clock freeze");
    struct range away = {restored.from_ms - saved.to_ms, restored.to_ms - saved.from_ms};
    check_clocks(h, "f-1", then, away);
    check_clocks(h, "f-2", then, away);
    check_copy(h, "f-1");
    check_copy(h, "f-2");
}

/* Programs can be started, files be written, and it can be saved again. */
static void clone_is_a_system(struct host *h)
{
    char answer[16000]; /* the judges talk meanwhile */
    if (linux_ask(h, "f-1", answer, sizeof(answer), "run judge file /run/f 20") != 0)
        fail_msg("%s", answer);
    assert_non_null(strstr(answer, "records=20 errors=0"));
    host_must(h, "snapshot create f-1 t");
    host_must(h, "snapshot verify t");
    host_must(h, "restore t --name g");
    check_copy(h, "g");
}

static void ends(struct host *h)
{
    host_type(h, "g", "t0 poweroff\n", "reboot: Power down", 120000);
    host_expect(h, "stopped", 60000, "show g");
    host_must(h, "stop f-2 --timeout 120s");
    linux_expect(h, "f-2", "init: power button", 1);
    host_type(h, "f-1", "t0 reboot\n", "reboot: Restarting system", 120000);
    linux_expect(h, "f-1", "init: ready", 1);
    linux_expect_healthy(h, "f-1", CPUS);
    host_must(h, "kill f-1");
}

/* All of its clocks are where they would be had it never been away. */
static void advanced(struct host *h, struct lags then, struct range saved)
{
    watch(h, "a", saved.to_ms + AWAY_MS);
    timed(h, "restore s --name r --clock advance");
    check_clocks(h, "r", then, (struct range){0, 0});
    check_copy(h, "r");
    watch(h, "r", wall_ms() + WATCHED_MS);
}

static void saved_restored_cloned(void **state)
{
    struct host h;
    host_start(&h);
    linux_start(&h, &kernel, &(struct linux_options){"a", "vmlinux", NULL, CPUS});
    linux_expect(&h, "a", "init: ready", 1);
    linux_expect_healthy(&h, "a", CPUS);
    linux_expect_no_complaint(&h, "a", true);
    struct lags then = lags_of(&h, "a");
    struct range saved = timed(&h, "snapshot create a s");
    linux_expect_healthy(&h, "a", CPUS);
    check_clocks(&h, "a", then, (struct range){0, 0});
    frozen_clones(&h, then, saved);
    clone_is_a_system(&h);
    ends(&h);
    advanced(&h, then, saved);
    host_stop(&h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(saved_restored_cloned)};
    rig_need_kvm();
    linux_need(&kernel);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
