/* The CMOS clock: time, modes, alarms, periodic and update interrupts, NVRAM. */
#include "tests/unit/machine/rig.h"

#include <time.h>

#include "base/buf.h"

#define GSI LAYOUT_RTC_GSI
#define A_RUNS 0x20
#define B_24H 0x02
#define B_BINARY 0x04
#define UF 0x10
#define AF 0x20
#define PF 0x40
#define SET 0x80

static uint8_t get(struct rig *r, uint8_t reg)
{
    outb(r, 0x70, reg);
    return inb(r, 0x71);
}

static void put(struct rig *r, uint8_t reg, uint8_t value)
{
    outb(r, 0x70, reg);
    outb(r, 0x71, value);
}

static void expect_time(struct rig *r, const uint8_t want[8])
{
    static const uint8_t regs[] = {0x32, 9, 8, 7, 4, 2, 0, 6};
    for (unsigned i = 0; i < 8; i++)
        assert_int_equal(get(r, regs[i]), want[i]);
}

/* 2021-02-03 14:05:06 UTC, a Wednesday. */
static int setup(void **state)
{
    rig_wall_now = 1612361106ull * SECOND + 250000000;
    return rig_setup(state);
}

static void test_time(void **state)
{
    struct rig *r = *state;
    assert_int_equal(get(r, 0x0a), 0x26);
    assert_int_equal(get(r, 0x0b), 0x02);
    assert_int_equal(get(r, 0x0d), 0x80);
    expect_time(r, (const uint8_t[]){0x20, 0x21, 0x02, 0x03, 0x14, 0x05, 0x06, 0x04});
    put(r, 0x0b, B_24H | B_BINARY);
    expect_time(r, (const uint8_t[]){20, 21, 2, 3, 14, 5, 6, 4});
    put(r, 0x0b, B_BINARY);
    assert_int_equal(get(r, 4), 0x82);
    put(r, 0x0b, 0);
    assert_int_equal(get(r, 4), 0x82);
    rig_advance(r, 10 * 3600 * SECOND); /* 00:05:06 */
    assert_int_equal(get(r, 4), 0x12);
    assert_int_equal(get(r, 7), 0x04);
    rig_advance(r, 12 * 3600 * SECOND);
    assert_int_equal(get(r, 4), 0x92);
    assert_null(r->timers.armed);
}

/* Against the C library, over four centuries. */
static void test_calendar(void **state)
{
    struct rig *r = *state;
    put(r, 0x0b, B_24H | B_BINARY);
    for (unsigned i = 0; i < 3000; i++) {
        time_t t = (time_t)(i * 4203131ull + i * i % 86400);
        struct tm tm;
        rig_wall_now = (uint64_t)t * SECOND;
        gmtime_r(&t, &tm);
        expect_time(r, (const uint8_t[]){
                           (uint8_t)((tm.tm_year + 1900) / 100), (uint8_t)(tm.tm_year % 100),
                           (uint8_t)(tm.tm_mon + 1), (uint8_t)tm.tm_mday, (uint8_t)tm.tm_hour,
                           (uint8_t)tm.tm_min, (uint8_t)tm.tm_sec, (uint8_t)(tm.tm_wday + 1)});
    }
}

static void set_clock(struct rig *r)
{
    put(r, 0x0b, SET | B_24H);
    put(r, 0x0a, 0x76);
    put(r, 0x32, 0x19);
    put(r, 9, 0x99);
    put(r, 8, 0x12);
    put(r, 7, 0x31);
    put(r, 4, 0x23);
    put(r, 2, 0x59);
    put(r, 0, 0x58);
}

/* As Linux does it: hold, stop the divider, write, let go; half a second to the next update. */
static void test_set(void **state)
{
    struct rig *r = *state;
    set_clock(r);
    rig_advance(r, 100 * SECOND);
    assert_int_equal(get(r, 0), 0x58);
    assert_int_equal(get(r, 0x0a), 0x76);
    put(r, 0x0b, B_24H);
    assert_int_equal(get(r, 0), 0x58);
    put(r, 0x0a, 0x26);
    expect_time(r, (const uint8_t[]){0x19, 0x99, 0x12, 0x31, 0x23, 0x59, 0x58, 0x06});
    rig_advance(r, SECOND / 2 - 1);
    assert_int_equal(get(r, 0), 0x58);
    assert_int_equal(get(r, 0x0a), 0xa6); /* UIP just before */
    rig_advance(r, 1);
    assert_int_equal(get(r, 0x0a), 0x26);
    assert_int_equal(get(r, 0), 0x59);
    rig_advance(r, SECOND);
    expect_time(r, (const uint8_t[]){0x20, 0x00, 0x01, 0x01, 0x00, 0x00, 0x00, 0x07});
    assert_null(r->timers.armed);
}

static void test_set_running(void **state)
{
    struct rig *r = *state;
    put(r, 4, 0x01);
    put(r, 0x0b, SET | B_24H);
    put(r, 2, 0x59);
    put(r, 0, 0x59);
    put(r, 0x0b, B_24H);
    expect_time(r, (const uint8_t[]){0x20, 0x21, 0x02, 0x03, 0x01, 0x59, 0x59, 0x04});
    rig_advance(r, SECOND * 3 / 4); /* the fraction of the second was kept */
    expect_time(r, (const uint8_t[]){0x20, 0x21, 0x02, 0x03, 0x02, 0x00, 0x00, 0x04});
}

/* What no clock shows carries over, or at least does no harm. */
static void test_impossible_times(void **state)
{
    struct rig *r = *state;
    put(r, 8, 0x06);
    put(r, 7, 0x31);
    assert_int_equal(get(r, 8), 0x07);
    assert_int_equal(get(r, 7), 0x01);
    for (unsigned mode = 0; mode < 8; mode += 2) {
        for (unsigned v = 0; v < 256; v++) {
            static const uint8_t regs[] = {0, 2, 4, 6, 7, 8, 9, 0x32, 1, 3, 5};
            put(r, 0x0b, (uint8_t)(SET | mode));
            for (unsigned i = 0; i < sizeof(regs); i++)
                put(r, regs[i], (uint8_t)v);
            put(r, 0x0b, (uint8_t)(mode | 0x70));
            for (unsigned i = 0; i < sizeof(regs); i++)
                get(r, regs[i]);
            assert_in_range(get(r, 7), 1, 0x31);
        }
    }
}

static void test_update_interrupt(void **state)
{
    struct rig *r = *state;
    put(r, 0x0b, B_24H | UF);
    rig_advance(r, SECOND * 3 / 4 - 1);
    assert_false(r->level[GSI]);
    rig_advance(r, 1);
    assert_true(r->level[GSI]);
    assert_null(r->timers.armed); /* nothing more before C is read */
    rig_advance(r, 5 * SECOND);
    assert_int_equal(get(r, 0x0c), 0x80 | UF | PF);
    assert_false(r->level[GSI]);
    assert_int_equal(get(r, 0x0c), 0);
    for (unsigned i = 0; i < 4; i++) {
        rig_advance(r, SECOND);
        assert_int_equal(get(r, 0x0c) & (0x80 | UF), 0x80 | UF);
    }
    assert_int_equal(r->edges[GSI], 5);
    put(r, 0x0b, B_24H | SET | UF); /* SET takes UIE away */
    assert_int_equal(get(r, 0x0b), B_24H | SET);
}

static void test_periodic(void **state)
{
    static const unsigned hz[16] = {0,   256, 128, 8192, 4096, 2048, 1024, 512,
                                    256, 128, 64,  32,   16,   8,    4,    2};
    struct rig *r = *state;
    put(r, 0x0b, B_24H | PF);
    for (unsigned rate = 0; rate < 16; rate++) {
        put(r, 0x0a, (uint8_t)(A_RUNS | rate));
        get(r, 0x0c);
        r->edges[GSI] = 0;
        uint64_t end = rig_clock_now + SECOND;
        while (r->timers.armed && r->timers.armed->deadline_ns <= end) {
            rig_advance(r, r->timers.armed->deadline_ns - rig_clock_now);
            assert_int_equal(get(r, 0x0c) & (0x80 | PF), rate ? 0x80 | PF : 0);
        }
        rig_advance(r, end - rig_clock_now);
        assert_int_equal(r->edges[GSI], hz[rate]);
    }
    put(r, 0x0a, 0x76); /* a stopped divider ticks no more */
    get(r, 0x0c);
    assert_null(r->timers.armed);
}

/* An hour unread, or an hour's pause: one interrupt. */
static void test_no_flood(void **state)
{
    struct rig *r = *state;
    put(r, 0x0a, A_RUNS | 3);
    put(r, 0x0b, B_24H | PF);
    rig_advance(r, 3600 * SECOND);
    assert_int_equal(r->edges[GSI], 1);
    assert_int_equal(get(r, 0x0c) & 0xc0, 0xc0);
    devices_quiesce(&r->devices);
    assert_null(r->timers.armed);
    rig_wall_now += 3600 * SECOND;
    devices_resume(&r->devices);
    assert_int_equal(r->edges[GSI], 2);
    assert_int_equal(get(r, 0x0c) & 0xc0, 0xc0);
    assert_int_equal(get(r, 0x0c), 0);
}

static void alarm_at(struct rig *r, uint8_t hour, uint8_t minute, uint8_t second)
{
    put(r, 5, hour);
    put(r, 3, minute);
    put(r, 1, second);
    get(r, 0x0c);
}

/* Seconds until the alarm interrupt comes, up to a limit. */
static unsigned seconds_to_alarm(struct rig *r, unsigned limit)
{
    get(r, 0x0c);
    for (unsigned s = 0; s <= limit; s++) {
        if (r->level[GSI]) {
            assert_int_equal(get(r, 0x0c) & (0x80 | AF), 0x80 | AF);
            return s;
        }
        rig_advance(r, SECOND);
    }
    return UINT32_MAX;
}

static void test_alarm(void **state)
{
    struct rig *r = *state;
    put(r, 0x0b, B_24H | AF);
    alarm_at(r, 0x14, 0x06, 0x00);
    assert_int_equal(seconds_to_alarm(r, 100), 54);
    assert_int_equal(seconds_to_alarm(r, 100000), 86400); /* again tomorrow */
    alarm_at(r, 0xff, 0xc0, 0x30);
    assert_int_equal(seconds_to_alarm(r, 100), 30);
    assert_int_equal(seconds_to_alarm(r, 100), 60);
    alarm_at(r, 0xff, 0x00, 0x00);
    assert_int_equal(seconds_to_alarm(r, 10000), 52 * 60 + 30);
    assert_int_equal(seconds_to_alarm(r, 10000), 3600);
    alarm_at(r, 0xff, 0xff, 0xff);
    assert_int_equal(seconds_to_alarm(r, 10), 1);
    assert_int_equal(seconds_to_alarm(r, 10), 1);
    alarm_at(r, 0x16, 0xff, 0xff); /* 16:00:03 already: each second of the hour */
    rig_advance(r, 2 * SECOND);
    assert_int_equal(seconds_to_alarm(r, 10), 1);
    alarm_at(r, 0x25, 0xff, 0xff); /* no such hour */
    assert_null(r->timers.armed);
    alarm_at(r, 0xff, 0xff, 0x60);
    assert_null(r->timers.armed);
    put(r, 0x0b, AF); /* 12 hours */
    alarm_at(r, 0x85, 0x00, 0x00);
    unsigned s = seconds_to_alarm(r, 86400);
    assert_int_equal(get(r, 4), 0x85);
    assert_in_range(s, 3000, 3600);
}

/* Each alarm against a walk through the day, second by second. */
static void test_alarm_against_walk(void **state)
{
    struct rig *r = *state;
    uint64_t seed = 7;
    put(r, 0x0b, B_24H | B_BINARY | AF);
    for (unsigned round = 0; round < 60; round++) {
        unsigned h = rig_random(&seed) % 3 ? 0xff : rig_random(&seed) % 24;
        unsigned m = rig_random(&seed) % 2 ? 0xff : rig_random(&seed) % 60;
        unsigned s = rig_random(&seed) % 2 ? 0xff : rig_random(&seed) % 60;
        rig_advance(r, rig_random(&seed) % 86400 * SECOND);
        alarm_at(r, (uint8_t)h, (uint8_t)m, (uint8_t)s);
        unsigned now = get(r, 4) * 3600u + get(r, 2) * 60u + get(r, 0), want = 0;
        bool hit = false;
        while (!hit) {
            unsigned t = (now + ++want) % 86400;
            hit = (h == 0xff || h == t / 3600) && (m == 0xff || m == t / 60 % 60) &&
                  (s == 0xff || s == t % 60);
        }
        assert_int_equal(seconds_to_alarm(r, 86400), want);
    }
}

/* An alarm whose moment passed in a pause comes at its end; none that was not due. */
static void test_alarm_in_pause(void **state)
{
    struct rig *r = *state;
    put(r, 0x0b, B_24H | AF);
    alarm_at(r, 0x15, 0x00, 0x00);
    devices_quiesce(&r->devices);
    rig_wall_now += 600 * SECOND;
    devices_resume(&r->devices);
    assert_false(r->level[GSI]);
    devices_quiesce(&r->devices);
    rig_wall_now += 86400 * SECOND * 30;
    devices_resume(&r->devices);
    assert_true(r->level[GSI]);
    assert_int_equal(get(r, 0x0c) & (0x80 | AF), 0x80 | AF);
}

/* The host's clock is set: back, nothing happens twice or never; ahead, the alarm is not slept
 * through. */
static void test_wall_steps(void **state)
{
    struct rig *r = *state;
    put(r, 0x0b, B_24H | UF);
    rig_wall_now -= 7200 * SECOND;
    assert_int_equal(get(r, 0x0c), 0);
    rig_advance(r, SECOND);
    assert_true(r->level[GSI]);
    put(r, 0x0b, B_24H | AF);
    alarm_at(r, 0x13, 0x00, 0x00);
    rig_wall_now += 3600 * SECOND;
    rig_advance(r, 61 * SECOND);
    assert_true(r->level[GSI]);
}

/* The phase of ticks and the time are the guest's: another host goes on with both. */
static void test_moves(void **state)
{
    struct rig *r = *state;
    struct err err = {0};
    struct buf out;
    buf_init(&out, 65536);
    set_clock(r);
    put(r, 0x0b, B_24H);
    put(r, 0x0a, 0x26);
    devices_quiesce(&r->devices);
    assert_int_equal(devices_save(&r->devices, &out, &err), 0);
    uint64_t wall = rig_wall_now;
    struct rig *other = rig_new();
    rig_clock_now = 77 * SECOND;
    rig_wall_now = wall + SECOND / 2;
    devices_quiesce(&other->devices);
    struct span in_ = {.at = out.data, .left = out.len};
    assert_int_equal(devices_load(&other->devices, in_, NULL, &err), 0);
    devices_resume(&other->devices);
    assert_int_equal(get(other, 0), 0x59);
    rig_wall_now--;
    assert_int_equal(get(other, 0), 0x58);
    rig_free(other);
    rig_wall_now = wall;
    buf_fini(&out);
}

static void test_nvram(void **state)
{
    struct rig *r = *state;
    unsigned sum = 0;
    assert_int_equal(get(r, 0x15) | get(r, 0x16) << 8, 640);
    assert_int_equal(get(r, 0x17) | get(r, 0x18) << 8, 63 * 1024);
    assert_int_equal(get(r, 0x30) | get(r, 0x31) << 8, 63 * 1024);
    assert_int_equal(get(r, 0x34) | get(r, 0x35) << 8, 48 * 16);
    for (uint8_t i = 0x10; i < 0x2e; i++)
        sum += get(r, i);
    assert_int_equal(get(r, 0x2e) << 8 | get(r, 0x2f), sum);
    for (unsigned i = 0x0e; i < 0x80; i++) {
        if (i == 0x32)
            continue;
        put(r, (uint8_t)(i | 0x80), (uint8_t)~i);
        assert_int_equal(get(r, (uint8_t)i), (uint8_t)~i);
    }
    put(r, 0x0c, 0xff);
    put(r, 0x0d, 0xff);
    assert_int_equal(get(r, 0x0d), 0x80);
    assert_int_equal(inb(r, 0x70), 0xff);
    out(r, 0x70, 0x3344, 2); /* index and data in one */
    assert_int_equal(get(r, 0x44), 0x33);
    assert_int_equal(in(r, 0x70, 2), 0x33ff);
}

/* A reset takes interrupts away and keeps time and NVRAM. */
static void test_reset(void **state)
{
    struct rig *r = *state;
    put(r, 0x50, 0x77);
    put(r, 4, 0x03);
    put(r, 0x0b, B_24H | UF | PF | AF);
    rig_advance(r, SECOND);
    assert_true(r->level[GSI]);
    devices_quiesce(&r->devices);
    devices_reset(&r->devices);
    devices_resume(&r->devices);
    assert_false(r->level[GSI]);
    assert_null(r->timers.armed);
    assert_int_equal(get(r, 0x0b), B_24H);
    assert_int_equal(get(r, 0x0c), 0);
    assert_int_equal(get(r, 0x50), 0x77);
    assert_int_equal(get(r, 4), 0x03);
}

/* The registers at a moment between two updates, and the nanoseconds to the next one. */
static uint64_t next_update(struct rig *r)
{
    uint8_t second = get(r, 0);
    uint64_t waited = 0;
    for (; get(r, 0) == second; waited += SECOND / 1000)
        rig_advance(r, SECOND / 1000);
    return waited;
}

/* Loaded days later, in the middle of another second: the guest's clock has not moved, and the next
 * second comes as late as it would have. With its clock advanced it is right at once. */
static void test_frozen(void **state)
{
    static const uint64_t passed[] = {0, 1, 250000000, SECOND, 3 * 86400 * SECOND + 700000000};
    struct rig *r = *state;
    put(r, 4, 0x03); /* not the host's hour */
    rig_advance(r, 300000000);
    for (unsigned i = 0; i < sizeof(passed) / sizeof(passed[0]); i++) {
        struct err err = {0};
        struct buf saved;
        struct rig *other;
        uint8_t hour = get(r, 4), minute = get(r, 2), second = get(r, 0), day = get(r, 7);
        uint64_t wall = rig_wall_now, clock = rig_clock_now;
        devices_quiesce(&r->devices);
        buf_init(&saved, 65536);
        assert_int_equal(devices_save(&r->devices, &saved, &err), 0);
        other = rig_new();
        rig_wall_now = wall + passed[i];
        devices_quiesce(&other->devices);
        struct span in = {.at = saved.data, .left = saved.len};
        assert_int_equal(devices_load(&other->devices, in, NULL, &err), 0);
        devices_freeze(&other->devices);
        devices_resume(&other->devices);
        assert_int_equal(get(other, 4), hour);
        assert_int_equal(get(other, 2), minute);
        assert_int_equal(get(other, 0), second);
        assert_int_equal(get(other, 7), day);
        uint64_t theirs = next_update(other);
        rig_wall_now = wall;
        rig_clock_now = clock;
        devices_resume(&r->devices);
        uint64_t ours = next_update(r);
        assert_int_equal(theirs / (SECOND / 100), ours / (SECOND / 100));
        buf_fini(&saved);
        rig_wall_now = wall;
        rig_free(other);
        rig_wall_now = wall + SECOND;
    }
}

int main(void)
{
#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, rig_teardown)
    const struct CMUnitTest tests[] = {
        T(test_time),
        T(test_calendar),
        T(test_set),
        T(test_set_running),
        T(test_impossible_times),
        T(test_update_interrupt),
        T(test_periodic),
        T(test_no_flood),
        T(test_alarm),
        T(test_alarm_against_walk),
        T(test_alarm_in_pause),
        T(test_wall_steps),
        T(test_moves),
        T(test_nvram),
        T(test_reset),
        T(test_frozen),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
