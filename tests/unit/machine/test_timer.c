/* Timers on a clock of the test's, then on the real I/O thread. */
#include <poll.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/now.h"
#include "machine/io.h"
#include "machine/timer.h"

static uint64_t clock_now;

static uint64_t test_clock(void)
{
    return clock_now;
}

struct note {
    struct timer timer;
    char *log;
    char letter;
    uint64_t again_ns;
};

static void note_fire(void *owner)
{
    struct note *n = owner;
    size_t len = strlen(n->log);
    n->log[len] = n->letter;
    n->log[len + 1] = '\0';
    if (n->again_ns)
        timer_arm(&n->timer, n->again_ns);
}

static struct note note_make(char *log, char letter)
{
    return (struct note){.log = log, .letter = letter};
}

static void test_order(void **state)
{
    struct err err = {0};
    struct timer_set set;
    char log[32] = "";
    struct note a = note_make(log, 'a'), b = note_make(log, 'b'), c = note_make(log, 'c');
    clock_now = 1000;
    assert_int_equal(timer_set_init(&set, test_clock, &err), 0);
    timer_init(&a.timer, &set, note_fire, &a);
    timer_init(&b.timer, &set, note_fire, &b);
    timer_init(&c.timer, &set, note_fire, &c);
    timer_arm(&a.timer, 3000);
    timer_arm(&b.timer, 2000);
    timer_arm(&c.timer, 2000);
    timer_set_run(&set);
    assert_string_equal(log, "");
    clock_now = 2500;
    timer_set_run(&set);
    assert_string_equal(log, "bc");
    timer_arm(&a.timer, 9000); /* instead of 3000 */
    timer_arm(&b.timer, 4000);
    timer_cancel(&b.timer);
    clock_now = 5000;
    timer_set_run(&set);
    assert_string_equal(log, "bc");
    clock_now = 9000;
    timer_set_run(&set);
    timer_set_run(&set);
    assert_string_equal(log, "bca");
    timer_fini(&a.timer);
    timer_fini(&b.timer);
    timer_fini(&c.timer);
    timer_set_fini(&set);
}

/* One that arms itself for the past must not hold the thread. */
static void test_greedy(void **state)
{
    struct err err = {0};
    struct timer_set set;
    char log[32] = "";
    struct note a = note_make(log, 'a');
    clock_now = 1000;
    assert_int_equal(timer_set_init(&set, test_clock, &err), 0);
    timer_init(&a.timer, &set, note_fire, &a);
    a.again_ns = 1001;
    timer_arm(&a.timer, 0);
    timer_set_run(&set);
    assert_string_equal(log, "a");
    assert_true(a.timer.armed);
    timer_fini(&a.timer);
    assert_null(set.armed);
    timer_set_fini(&set);
}

/* The descriptor is readable exactly when something is due. */
static void test_descriptor(void **state)
{
    struct err err = {0};
    struct timer_set set;
    char log[32] = "";
    struct note a = note_make(log, 'a');
    assert_int_equal(timer_set_init(&set, now_ns, &err), 0);
    struct pollfd p = {.fd = set.fd, .events = POLLIN};
    timer_init(&a.timer, &set, note_fire, &a);
    timer_arm(&a.timer, 1);
    assert_int_equal(poll(&p, 1, 10000), 1);
    timer_cancel(&a.timer);
    assert_int_equal(poll(&p, 1, 0), 0);
    timer_arm(&a.timer, now_ns() + 1000000);
    assert_int_equal(poll(&p, 1, 10000), 1);
    timer_set_run(&set);
    assert_string_equal(log, "a");
    assert_int_equal(poll(&p, 1, 0), 0);
    timer_fini(&a.timer);
    timer_set_fini(&set);
}

struct ticker {
    struct timer timer;
    atomic_uint ticks;
};

static void ticker_fire(void *owner)
{
    struct ticker *t = owner;
    atomic_fetch_add(&t->ticks, 1);
    timer_arm(&t->timer, now_ns() + 50000);
}

static void wait_for_ticks(struct ticker *t, unsigned more)
{
    unsigned target = atomic_load(&t->ticks) + more;
    uint64_t give_up = now_ns() + 20000000000ull;
    while (atomic_load(&t->ticks) < target && now_ns() < give_up)
        sched_yield();
    assert_true(atomic_load(&t->ticks) >= target);
}

static void test_thread(void **state)
{
    struct err err = {0};
    struct io io;
    struct ticker t = {0};
    assert_int_equal(io_init(&io, &err), 0);
    timer_init(&t.timer, &io.timers, ticker_fire, &t);
    timer_arm(&t.timer, 1);
    assert_int_equal(io_start(&io, &err), 0);
    for (unsigned i = 0; i < 50; i++) {
        wait_for_ticks(&t, 3);
        io_pause(&io);
        unsigned at_pause = atomic_load(&t.ticks);
        for (unsigned k = 0; k < 20; k++)
            sched_yield();
        assert_int_equal(atomic_load(&t.ticks), at_pause);
        io_resume(&io);
        if (i % 2) { /* at once again: still or again at rest */
            io_pause(&io);
            at_pause = atomic_load(&t.ticks);
            sched_yield();
            assert_int_equal(atomic_load(&t.ticks), at_pause);
            io_resume(&io);
        }
    }
    timer_fini(&t.timer); /* with fires under way */
    unsigned at_fini = atomic_load(&t.ticks);
    sched_yield();
    assert_int_equal(atomic_load(&t.ticks), at_fini);
    io_fini(&io);
}

struct slow {
    struct timer timer;
    atomic_bool entered, done;
};

static void slow_fire(void *owner)
{
    struct slow *s = owner;
    atomic_store(&s->entered, true);
    for (unsigned i = 0; i < 10000; i++)
        sched_yield();
    atomic_store(&s->done, true);
}

/* Neither a pause nor the end of a timer overtakes a fire under way. */
static void test_fire_under_way(void **state)
{
    for (unsigned i = 0; i < 4; i++) {
        struct err err = {0};
        struct io io;
        struct slow s = {0};
        assert_int_equal(io_init(&io, &err), 0);
        timer_init(&s.timer, &io.timers, slow_fire, &s);
        assert_int_equal(io_start(&io, &err), 0);
        timer_arm(&s.timer, 1);
        while (!atomic_load(&s.entered))
            sched_yield();
        if (i % 2)
            io_pause(&io);
        else
            timer_fini(&s.timer);
        assert_true(atomic_load(&s.done));
        timer_fini(&s.timer);
        io_fini(&io);
    }
}

static void test_thread_ends(void **state)
{
    struct err err = {0};
    struct io io;
    assert_int_equal(io_init(&io, &err), 0); /* never started */
    io_pause(&io);
    io_resume(&io);
    io_fini(&io);
    assert_int_equal(io_init(&io, &err), 0); /* paused to its end */
    assert_int_equal(io_start(&io, &err), 0);
    io_pause(&io);
    io_fini(&io);
    assert_int_equal(io_init(&io, &err), 0); /* paused before it began */
    io_pause(&io);
    assert_int_equal(io_start(&io, &err), 0);
    io_pause(&io);
    io_fini(&io);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_order),          cmocka_unit_test(test_greedy),
        cmocka_unit_test(test_descriptor),     cmocka_unit_test(test_thread),
        cmocka_unit_test(test_fire_under_way), cmocka_unit_test(test_thread_ends),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
