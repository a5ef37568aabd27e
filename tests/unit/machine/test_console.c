/*
 * The console: the guest never waits, the people lose nothing that they were told was taken, and
 * everybody who is owed a word gets it.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <sched.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "machine/console.h"

struct told {
    unsigned output, room;
    atomic_uint input;
};

static void on_output(void *ctx)
{
    ((struct told *)ctx)->output++;
}

static void on_room(void *ctx)
{
    ((struct told *)ctx)->room++;
}

static void on_input(void *dev)
{
    atomic_fetch_add(&((struct told *)dev)->input, 1);
}

static const struct console_ops ops = {.output = on_output, .input_room = on_room};
static struct console console;
static struct told told;

static int setup(void **state)
{
    struct err err;
    memset((void *)&told, 0, sizeof(told));
    return console_init(&console, &ops, &told, &err);
}

static int teardown(void **state)
{
    console_fini(&console);
    return 0;
}

static void say(const char *text)
{
    console_write(&console, (const uint8_t *)text, strlen(text));
}

static void test_output_is_kept_and_announced(void **state)
{
    char text[32] = {0};
    uint64_t at = 0, missed;
    say("hello ");
    say("world");
    assert_int_equal(told.output, 2);
    assert_int_equal(console_end(&console), 11);
    assert_int_equal(console_read(&console, &at, text, sizeof(text), &missed), 11);
    assert_string_equal(text, "hello world");
    assert_int_equal(at, 11);
    assert_int_equal(console_read(&console, &at, text, sizeof(text), &missed), 0);
}

static void test_a_guest_that_nobody_reads_goes_on(void **state)
{
    static uint8_t block[1000];
    uint8_t byte;
    uint64_t at = 0, missed;
    for (unsigned i = 0; i < 2000; i++) {
        memset(block, (int)(i & 0xff), sizeof(block));
        console_write(&console, block, sizeof(block));
    }
    assert_int_equal(console_end(&console), 2000000);
    assert_int_equal(console_begin(&console), 2000000 - CONSOLE_SCROLL_BYTES);
    assert_int_equal(console_read(&console, &at, &byte, 1, &missed), 1);
    assert_int_equal(missed, 2000000 - CONSOLE_SCROLL_BYTES);
    assert_int_equal(byte, (at - 1) / 1000 & 0xff);
}

static void test_input_arrives_in_order_through_every_wrap(void **state)
{
    uint8_t in = 0, out = 0;
    console_set_device(&console, on_input, &told);
    for (unsigned step = 0; step < 5000; step++) {
        uint8_t data[7], got[7];
        size_t len = step % 7 + 1;
        for (size_t i = 0; i < len; i++)
            data[i] = in++;
        assert_int_equal(console_feed(&console, data, len), len);
        assert_int_equal(console_pull(&console, got, sizeof(got)), len);
        for (size_t i = 0; i < len; i++)
            assert_int_equal(got[i], out++);
    }
    assert_int_equal(told.input, 5000);
    assert_int_equal(told.room, 0); /* never full: nothing is owed */
}

static void test_full_queue_takes_what_fits_and_calls_back_once(void **state)
{
    static uint8_t data[CONSOLE_INPUT_BYTES + 100];
    uint8_t got[64];
    for (unsigned i = 0; i < sizeof(data); i++)
        data[i] = (uint8_t)(i * 3);
    console_set_device(&console, on_input, &told);
    assert_int_equal(console_feed(&console, data, CONSOLE_INPUT_BYTES - 10),
                     CONSOLE_INPUT_BYTES - 10);
    assert_int_equal(console_feed(&console, data, 30), 10);
    assert_int_equal(console_feed(&console, data, 1), 0);
    assert_int_equal(told.input, 2); /* nothing taken, nothing told */
    assert_int_equal(told.room, 0);
    assert_int_equal(console_pull(&console, got, 0), 0);
    assert_int_equal(told.room, 0);
    assert_int_equal(console_pull(&console, got, sizeof(got)), sizeof(got));
    assert_memory_equal(got, data, sizeof(got));
    assert_int_equal(told.room, 1);
    assert_int_equal(console_pull(&console, got, sizeof(got)), sizeof(got));
    assert_int_equal(told.room, 1); /* until it is refused again */
    assert_int_equal(console_feed(&console, data, sizeof(data)), 2 * sizeof(got));
    assert_int_equal(console_pull(&console, got, 1), 1);
    assert_int_equal(told.room, 2);
}

static void test_input_before_the_device_waits_for_it(void **state)
{
    uint8_t got[4];
    assert_int_equal(console_feed(&console, (const uint8_t *)"early", 5), 5);
    assert_int_equal(told.input, 0);
    assert_int_equal(console_pull(&console, got, 4), 4);
    assert_memory_equal(got, "earl", 4);
}

static void test_in_a_file(void **state)
{
    CLEAN(clean_fd) int fd = memfd_create("console", MFD_CLOEXEC);
    struct console c;
    struct scroll left;
    struct err err;
    char text[16] = {0};
    uint64_t at = 0, missed;
    assert_int_equal(console_init_file(&c, fd, &ops, &told, &err), 0);
    console_write(&c, (const uint8_t *)"last words", 10);
    console_fini(&c);
    assert_int_equal(scroll_open_file(&left, fd, &err), 0);
    assert_int_equal(scroll_read(&left, &at, text, sizeof(text), &missed), 10);
    assert_string_equal(text, "last words");
    scroll_fini(&left);
    assert_true(console_init_file(&c, -1, &ops, &told, &err) < 0);
    console_fini(&c);
}

#define MANY 100000u

/* The people's thread: sends all numbers, and waits for room by being told of it. */
static void *feed_all(void *ctx)
{
    for (uint32_t sent = 0; sent < MANY * 4;) {
        uint8_t data[256];
        size_t len = MANY * 4 - sent < sizeof(data) ? MANY * 4 - sent : sizeof(data);
        for (size_t i = 0; i < len; i++)
            data[i] = (uint8_t)((sent + i) / 4 >> (sent + i) % 4 * 8);
        size_t n = console_feed(&console, data, len);
        sent += (uint32_t)n;
        if (n == 0)
            sched_yield();
    }
    return NULL;
}

static void test_two_threads_lose_nothing(void **state)
{
    pthread_t feeder;
    uint8_t raw[4];
    unsigned have = 0;
    console_set_device(&console, on_input, &told);
    assert_int_equal(pthread_create(&feeder, NULL, feed_all, NULL), 0);
    for (uint32_t next = 0; next < MANY;) {
        size_t n = console_pull(&console, raw + have, 4 - have);
        have += (unsigned)n;
        if (n == 0)
            sched_yield();
        if (have < 4)
            continue;
        assert_int_equal(raw[0] | raw[1] << 8 | raw[2] << 16 | (uint32_t)raw[3] << 24, next);
        next++;
        have = 0;
    }
    pthread_join(feeder, NULL);
    assert_int_equal(console_pull(&console, raw, 4), 0);
}

#define EACH(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        EACH(test_output_is_kept_and_announced),
        EACH(test_a_guest_that_nobody_reads_goes_on),
        EACH(test_input_arrives_in_order_through_every_wrap),
        EACH(test_full_queue_takes_what_fits_and_calls_back_once),
        EACH(test_input_before_the_device_waits_for_it),
        EACH(test_in_a_file),
        EACH(test_two_threads_lose_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
