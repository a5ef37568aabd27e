/*
 * An MC146818 clock with 128 bytes of CMOS RAM at ports 0x70 and 0x71, GSI 8.
 *
 * The time is never counted: it is the wall clock of the host plus `offset_s`, which changes when
 * the guest sets its clock. `phase_ns` shifts where a second begins; the guest moves it by
 * resetting the divider. "t" below is wall clock plus phase; the guest's second number is t / 1 s +
 * offset_s. While the guest holds the clock (SET, or a stopped divider) the time stands in ram[].
 *
 * Events (periodic, update-ended, alarm) are worked out from t when somebody looks: those between
 * `since_ns` and now set their flags once, however many there were. A timer is armed only for an
 * event that would raise the line, so a guest that wants no interrupt costs nothing, one that does
 * not read register C costs nothing more, and a long pause ends in one interrupt and no flood.
 */
#include "machine/devices/rtc.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>

#include "machine/devices/line.h"
#include "machine/layout.h"
#include "machine/timer.h"

#define SECOND_NS 1000000000ull
#define DAY_S 86400
#define UIP_NS 244000u              /* how long UIP warns before the update */
#define RECHECK_NS (60 * SECOND_NS) /* the wall clock may be stepped under a long wait */
#define CRYSTAL_HZ 32768u
#define RTC_RAM 128
/* Year 0 to 25600 and some: what the registers can say, and far from any overflow. */
#define OFFSET_MAX_S (30000ll * 366 * DAY_S)

enum {
    REG_SECONDS = 0x00,
    REG_SECONDS_ALARM = 0x01,
    REG_MINUTES = 0x02,
    REG_MINUTES_ALARM = 0x03,
    REG_HOURS = 0x04,
    REG_HOURS_ALARM = 0x05,
    REG_WEEKDAY = 0x06,
    REG_DAY = 0x07,
    REG_MONTH = 0x08,
    REG_YEAR = 0x09,
    REG_A = 0x0a,
    REG_B = 0x0b,
    REG_C = 0x0c,
    REG_D = 0x0d,
    REG_CENTURY = 0x32,
};

#define A_UIP 0x80
#define A_DIVIDER 0x70
#define A_DIVIDER_RUNS 0x20
#define A_RATE 0x0f
#define A_START (A_DIVIDER_RUNS | 6) /* 1024 Hz */

#define B_SET 0x80
#define B_PERIODIC 0x40
#define B_ALARM 0x20
#define B_UPDATE 0x10
#define B_SQUARE_WAVE 0x08
#define B_BINARY 0x04
#define B_24H 0x02

/* Flags in C are the bits that enable them in B. */
#define C_IRQ 0x80
#define C_FLAGS (B_PERIODIC | B_ALARM | B_UPDATE)

#define D_VALID 0x80
#define ALARM_ANY 0xc0 /* from here on: don't care */

struct rtc {
    pthread_mutex_t lock;
    struct line irq;
    struct timer_set *timers; /* borrowed */
    struct timer timer;
    uint64_t (*wall_ns)(void);
    bool quiesced;

    uint8_t index;
    uint8_t ram[RTC_RAM]; /* A to D among them, A without UIP; time registers while held */
    int64_t offset_s;
    uint32_t phase_ns;
    uint64_t since_ns; /* t up to which events were looked for */
};

// clang-format off
static const struct field rtc_fields[] = {
    FIELD(1, struct rtc, index),
    FIELD_ARRAY(2, struct rtc, ram),
    FIELD(3, struct rtc, offset_s),
    FIELD(4, struct rtc, phase_ns),
    FIELD(5, struct rtc, since_ns),
    FIELD_END,
};
// clang-format on

struct moment {
    int64_t year;
    unsigned month, day, hour, minute, second; /* month and day from 1 */
    unsigned weekday;                          /* Sunday is 1 */
};

static int64_t floor_div(int64_t a, int64_t b)
{
    return a / b - (a % b < 0);
}

/* Days since 1970-01-01 of a date in the Gregorian calendar, month 1 to 12, any day. */
static int64_t days_of(int64_t year, unsigned month, unsigned day)
{
    year -= month <= 2;
    int64_t era = floor_div(year, 400), year_of_era = year - era * 400;
    int64_t day_of_year = (153 * (month > 2 ? month - 3 : month + 9) + 2) / 5;
    return era * 146097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year +
           (int64_t)day - 1 - 719468;
}

static struct moment moment_of(int64_t seconds)
{
    int64_t days = floor_div(seconds, DAY_S);
    unsigned rest = (unsigned)(seconds - days * DAY_S);
    int64_t shifted = days + 719468, era = floor_div(shifted, 146097);
    unsigned doe = (unsigned)(shifted - era * 146097);
    unsigned yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
    unsigned doy = doe - (365 * yoe + yoe / 4 - yoe / 100), mp = (5 * doy + 2) / 153;
    unsigned month = mp < 10 ? mp + 3 : mp - 9;
    return (struct moment){
        .year = era * 400 + yoe + (month <= 2),
        .month = month,
        .day = doy - (153 * mp + 2) / 5 + 1,
        .hour = rest / 3600,
        .minute = rest / 60 % 60,
        .second = rest % 60,
        .weekday = (unsigned)(days + 4 - floor_div(days + 4, 7) * 7) + 1,
    };
}

static uint8_t encode(const struct rtc *r, unsigned value)
{
    return (uint8_t)(r->ram[REG_B] & B_BINARY ? value : value / 10 << 4 | value % 10);
}

static unsigned decode(const struct rtc *r, uint8_t raw)
{
    return r->ram[REG_B] & B_BINARY ? raw : (raw >> 4) * 10u + (raw & 15u);
}

static uint8_t encode_hour(const struct rtc *r, unsigned hour)
{
    if (r->ram[REG_B] & B_24H)
        return encode(r, hour);
    return encode(r, hour % 12 ? hour % 12 : 12) | (hour >= 12 ? 0x80 : 0);
}

static unsigned decode_hour(const struct rtc *r, uint8_t raw)
{
    if (r->ram[REG_B] & B_24H)
        return decode(r, raw);
    return decode(r, raw & 0x7f) % 12 + (raw & 0x80 ? 12 : 0);
}

static bool divider_runs(const struct rtc *r)
{
    return (r->ram[REG_A] & A_DIVIDER) == A_DIVIDER_RUNS;
}

static bool held(const struct rtc *r)
{
    return (r->ram[REG_B] & B_SET) || !divider_runs(r);
}

static uint64_t t_now(const struct rtc *r)
{
    return r->wall_ns() + r->phase_ns;
}

static int64_t guest_seconds(const struct rtc *r, uint64_t t)
{
    return (int64_t)(t / SECOND_NS) + r->offset_s;
}

/* Puts the running time into the registers. */
static void time_to_ram(struct rtc *r)
{
    struct moment m = moment_of(guest_seconds(r, t_now(r)));
    unsigned year = (unsigned)(m.year - floor_div(m.year, 10000) * 10000);
    r->ram[REG_SECONDS] = encode(r, m.second);
    r->ram[REG_MINUTES] = encode(r, m.minute);
    r->ram[REG_HOURS] = encode_hour(r, m.hour);
    r->ram[REG_WEEKDAY] = encode(r, m.weekday);
    r->ram[REG_DAY] = encode(r, m.day);
    r->ram[REG_MONTH] = encode(r, m.month);
    r->ram[REG_YEAR] = encode(r, year % 100);
    r->ram[REG_CENTURY] = encode(r, year / 100);
}

/* Runs on from what the registers say. Impossible dates carry over, as 31 June to 1 July. */
static void time_from_ram(struct rtc *r)
{
    int64_t year = decode(r, r->ram[REG_CENTURY]) * 100 + decode(r, r->ram[REG_YEAR]);
    int64_t months = year * 12 + decode(r, r->ram[REG_MONTH]) - 1;
    int64_t years = floor_div(months, 12);
    int64_t days = days_of(years, (unsigned)(months - years * 12) + 1, decode(r, r->ram[REG_DAY]));
    int64_t seconds = days * DAY_S + decode_hour(r, r->ram[REG_HOURS]) * 3600 +
                      decode(r, r->ram[REG_MINUTES]) * 60 + decode(r, r->ram[REG_SECONDS]);
    r->offset_s = seconds - (int64_t)(t_now(r) / SECOND_NS);
}

/* An alarm register: -1 for any value, -2 for one that no time has. */
static int alarm_value(const struct rtc *r, uint8_t raw, int limit)
{
    if (raw >= ALARM_ANY)
        return -1;
    for (int v = 0; v < limit; v++)
        if ((limit == 24 ? encode_hour(r, (unsigned)v) : encode(r, (unsigned)v)) == raw)
            return v;
    return -2;
}

/* First alarm of a day at or after `from` seconds into it; -1 when there is none. */
static int alarm_in_day(int hour, int minute, int second, int from)
{
    for (int h = from / 3600; h < 24; h++) {
        if (hour != -1 && hour != h)
            continue;
        for (int m = h == from / 3600 ? from / 60 % 60 : 0; m < 60; m++) {
            int base = h * 3600 + m * 60, low = from > base ? from - base : 0;
            if (minute != -1 && minute != m)
                continue;
            if (second == -1 || second >= low)
                return base + (second == -1 ? low : second);
        }
    }
    return -1;
}

/* The guest's second of the first alarm behind `seconds`, or INT64_MAX. */
static int64_t alarm_after(const struct rtc *r, int64_t seconds)
{
    int hour = alarm_value(r, r->ram[REG_HOURS_ALARM], 24);
    int minute = alarm_value(r, r->ram[REG_MINUTES_ALARM], 60);
    int second = alarm_value(r, r->ram[REG_SECONDS_ALARM], 60);
    int64_t day = floor_div(seconds + 1, DAY_S);
    if (hour == -2 || minute == -2 || second == -2)
        return INT64_MAX;
    int at = alarm_in_day(hour, minute, second, (int)(seconds + 1 - day * DAY_S));
    if (at >= 0)
        return day * DAY_S + at;
    return (day + 1) * DAY_S + alarm_in_day(hour, minute, second, 0);
}

/* Crystal cycles between two periodic events; 0 for none. */
static uint64_t period_cycles(const struct rtc *r)
{
    unsigned rate = r->ram[REG_A] & A_RATE;
    if (rate == 0 || !divider_runs(r))
        return 0;
    return rate <= 2 ? 1u << (rate + 6) : 1u << (rate - 1);
}

static uint64_t cycles_at(uint64_t t)
{
    return t / SECOND_NS * CRYSTAL_HZ + t % SECOND_NS * CRYSTAL_HZ / SECOND_NS;
}

static uint64_t t_of_cycle(uint64_t cycle)
{
    return cycle / CRYSTAL_HZ * SECOND_NS +
           (cycle % CRYSTAL_HZ * SECOND_NS + CRYSTAL_HZ - 1) / CRYSTAL_HZ;
}

/* Flags of all that happened since it was last asked. Before any change of what decides them. */
static void catch_up(struct rtc *r)
{
    uint64_t t = t_now(r), since = r->since_ns, period = period_cycles(r);
    r->since_ns = t;
    if (t <= since) /* the wall clock was set back */
        return;
    if (period && cycles_at(t) / period > cycles_at(since) / period)
        r->ram[REG_C] |= B_PERIODIC;
    if (held(r) || t / SECOND_NS == since / SECOND_NS)
        return;
    r->ram[REG_C] |= B_UPDATE;
    if (alarm_after(r, guest_seconds(r, since)) <= guest_seconds(r, t))
        r->ram[REG_C] |= B_ALARM;
}

/* The t of the next event that would raise the line, or UINT64_MAX. */
static uint64_t next_event(const struct rtc *r, uint64_t t)
{
    uint8_t wanted = r->ram[REG_B] & (uint8_t)~r->ram[REG_C];
    uint64_t next = UINT64_MAX, period = period_cycles(r);
    if ((wanted & B_PERIODIC) && period)
        next = t_of_cycle((cycles_at(t) / period + 1) * period);
    if (held(r))
        return next;
    if (wanted & B_UPDATE) {
        uint64_t second = (t / SECOND_NS + 1) * SECOND_NS;
        next = second < next ? second : next;
    }
    if (wanted & B_ALARM) {
        int64_t now = guest_seconds(r, t), at = alarm_after(r, now);
        if (at != INT64_MAX) {
            uint64_t alarm = (t / SECOND_NS + (uint64_t)(at - now)) * SECOND_NS;
            next = alarm < next ? alarm : next;
        }
    }
    return next;
}

/* After any change: IRQF, the line, and the timer for what comes next. */
static void settle(struct rtc *r)
{
    uint8_t *c = &r->ram[REG_C];
    bool irq = *c & r->ram[REG_B] & C_FLAGS;
    *c = (uint8_t)((*c & C_FLAGS) | (irq ? C_IRQ : 0));
    line_set(&r->irq, irq);
    /* A line that is up stays so until C is read: nothing to wait for. */
    uint64_t t = t_now(r), next = irq || r->quiesced ? UINT64_MAX : next_event(r, t);
    if (next == UINT64_MAX) {
        timer_cancel(&r->timer);
        return;
    }
    uint64_t wait = next - t;
    timer_arm(&r->timer, timer_now(r->timers) + (wait < RECHECK_NS ? wait : RECHECK_NS));
}

static bool is_time(unsigned reg)
{
    return reg == REG_SECONDS || reg == REG_MINUTES || reg == REG_HOURS ||
           (reg >= REG_WEEKDAY && reg <= REG_YEAR) || reg == REG_CENTURY;
}

static uint8_t read_reg(struct rtc *r, unsigned reg)
{
    uint8_t value;
    if (is_time(reg) && !held(r))
        time_to_ram(r);
    switch (reg) {
    case REG_A:
        value = r->ram[REG_A];
        if (!held(r) && t_now(r) % SECOND_NS >= SECOND_NS - UIP_NS)
            value |= A_UIP;
        return value;
    case REG_C:
        catch_up(r);
        settle(r);
        value = r->ram[REG_C];
        r->ram[REG_C] = 0;
        settle(r);
        return value;
    default:
        return r->ram[reg];
    }
}

/* A or B: they start and stop the clock, and choose how its registers are read. */
static void write_control(struct rtc *r, unsigned reg, uint8_t value)
{
    bool was_held = held(r), ran = divider_runs(r);
    if (!was_held)
        time_to_ram(r);
    r->ram[reg] = value;
    if (!ran && divider_runs(r)) { /* the first update comes half a second later */
        r->phase_ns = (uint32_t)((3 * SECOND_NS / 2 - r->wall_ns() % SECOND_NS) % SECOND_NS);
        r->since_ns = t_now(r);
        if (!(r->ram[REG_B] & B_SET))
            time_from_ram(r);
    } else if (was_held && !held(r)) {
        time_from_ram(r);
    }
}

static void write_reg(struct rtc *r, unsigned reg, uint8_t value)
{
    catch_up(r);
    if (reg == REG_A) {
        write_control(r, REG_A, value & (uint8_t)~A_UIP);
    } else if (reg == REG_B) {
        write_control(r, REG_B, value & B_SET ? value & (uint8_t)~B_UPDATE : value);
    } else if (is_time(reg) && !held(r)) {
        time_to_ram(r);
        r->ram[reg] = value;
        time_from_ram(r);
    } else if (reg != REG_C && reg != REG_D) {
        r->ram[reg] = value;
    }
    settle(r);
}

static void rtc_read(void *owner, uint64_t offset, uint8_t *data, unsigned len)
{
    struct rtc *r = owner;
    pthread_mutex_lock(&r->lock);
    for (unsigned i = 0; i < len; i++)
        data[i] = offset + i == 1 ? read_reg(r, r->index) : 0xff; /* the index is write-only */
    pthread_mutex_unlock(&r->lock);
}

static void rtc_write(void *owner, uint64_t offset, const uint8_t *data, unsigned len)
{
    struct rtc *r = owner;
    pthread_mutex_lock(&r->lock);
    for (unsigned i = 0; i < len; i++) {
        if (offset + i == 0)
            r->index = data[i] & 0x7f; /* bit 7 masks an NMI that nobody sends */
        else
            write_reg(r, r->index, data[i]);
    }
    pthread_mutex_unlock(&r->lock);
}

static const struct bus_ops rtc_ops = {.read = rtc_read, .write = rtc_write};

static void rtc_fire(void *owner)
{
    struct rtc *r = owner;
    pthread_mutex_lock(&r->lock);
    if (!r->quiesced) {
        catch_up(r);
        settle(r);
    }
    pthread_mutex_unlock(&r->lock);
}

static void put16(struct rtc *r, unsigned reg, uint64_t value)
{
    if (value > 0xffff)
        value = 0xffff;
    r->ram[reg] = (uint8_t)value;
    r->ram[reg + 1] = (uint8_t)(value >> 8);
}

/* As the BIOS of a PC leaves it: sizes of memory, a co-processor, the checksum. */
static void fill_nvram(struct rtc *r, const struct mem *mem)
{
    uint64_t low = mem->regions[0].size, high = mem->size - low;
    uint64_t above_1m = (low - (1 << 20)) >> 10, above_16m = (low - (16 << 20)) >> 16;
    unsigned sum = 0;
    r->ram[0x14] = 0x02;
    put16(r, 0x15, 640);
    put16(r, 0x17, above_1m);
    put16(r, 0x30, above_1m);
    put16(r, 0x34, above_16m);
    r->ram[0x5b] = (uint8_t)(high >> 16);
    r->ram[0x5c] = (uint8_t)(high >> 24);
    r->ram[0x5d] = (uint8_t)(high >> 32);
    for (unsigned i = 0x10; i < 0x2e; i++)
        sum += r->ram[i];
    r->ram[0x2e] = (uint8_t)(sum >> 8);
    r->ram[0x2f] = (uint8_t)sum;
}

static int rtc_init(void *dev, const struct device_env *env, struct err *err)
{
    struct rtc *r = dev;
    int rc = bus_add(env->pio, LAYOUT_RTC_PORT, 2, &rtc_ops, r, err);
    if (rc < 0)
        return rc;
    pthread_mutex_init(&r->lock, NULL);
    line_init(&r->irq, &env->irq, LAYOUT_RTC_GSI);
    r->timers = env->timers;
    timer_init(&r->timer, env->timers, rtc_fire, r);
    r->wall_ns = env->wall_ns;
    r->quiesced = true;
    r->ram[REG_A] = A_START;
    r->ram[REG_B] = B_24H;
    r->ram[REG_D] = D_VALID;
    fill_nvram(r, env->mem);
    time_to_ram(r);
    r->since_ns = t_now(r);
    return 0;
}

static void rtc_fini(void *dev)
{
    struct rtc *r = dev;
    timer_fini(&r->timer);
    pthread_mutex_destroy(&r->lock);
}

static void rtc_quiesce(void *dev)
{
    struct rtc *r = dev;
    pthread_mutex_lock(&r->lock);
    r->quiesced = true;
    catch_up(r);
    settle(r);
    pthread_mutex_unlock(&r->lock);
}

static void rtc_resume(void *dev)
{
    struct rtc *r = dev;
    pthread_mutex_lock(&r->lock);
    r->quiesced = false;
    catch_up(r);
    line_restate(&r->irq, r->ram[REG_C] & r->ram[REG_B] & C_FLAGS);
    settle(r);
    pthread_mutex_unlock(&r->lock);
}

/* A reset takes the interrupts away; clock and NVRAM live by a battery. */
static void rtc_reset(void *dev)
{
    struct rtc *r = dev;
    pthread_mutex_lock(&r->lock);
    r->ram[REG_B] &= (uint8_t) ~(C_FLAGS | B_SQUARE_WAVE);
    r->ram[REG_C] = 0;
    pthread_mutex_unlock(&r->lock);
}

/* It goes on from the moment up to which it was looked at, by a wall clock that lags from now on.
 */
static void rtc_freeze(void *dev)
{
    struct rtc *r = dev;
    pthread_mutex_lock(&r->lock);
    uint64_t wall = r->wall_ns();
    __int128 passed = (__int128)wall + r->phase_ns - r->since_ns;
    __int128 ahead = (__int128)r->offset_s * (int64_t)SECOND_NS + r->phase_ns - passed;
    __int128 offset = ahead / (int64_t)SECOND_NS - (ahead % (int64_t)SECOND_NS < 0);
    if (offset <= OFFSET_MAX_S && offset >= -OFFSET_MAX_S) {
        r->offset_s = (int64_t)offset;
        r->phase_ns = (uint32_t)(ahead - offset * (int64_t)SECOND_NS);
        r->since_ns = wall + r->phase_ns;
    }
    pthread_mutex_unlock(&r->lock);
}

static int rtc_post_load(void *object, struct err *err)
{
    struct rtc *r = object;
    uint8_t c = r->ram[REG_C];
    if (r->index >= RTC_RAM)
        return err_set(err, EBADMSG, "rtc.index %u is more than %u", r->index, RTC_RAM - 1);
    if (r->ram[REG_A] & A_UIP)
        return err_set(err, EBADMSG, "rtc.ram register A 0x%02x is impossible", r->ram[REG_A]);
    if ((c & ~(C_IRQ | C_FLAGS)) || !(c & C_IRQ) != !(c & r->ram[REG_B] & C_FLAGS))
        return err_set(err, EBADMSG, "rtc.ram register C 0x%02x is impossible", c);
    if (r->ram[REG_D] != D_VALID)
        return err_set(err, EBADMSG, "rtc.ram register D 0x%02x is impossible", r->ram[REG_D]);
    if (r->offset_s > OFFSET_MAX_S || r->offset_s < -OFFSET_MAX_S)
        return err_set(err, EBADMSG, "rtc.offset_s %" PRId64 " is out of range", r->offset_s);
    if (r->phase_ns >= SECOND_NS)
        return err_set(err, EBADMSG, "rtc.phase_ns %u is a second or more", r->phase_ns);
    return 0;
}

static const struct state_desc rtc_state = {
    .name = "rtc",
    .version = 1,
    .min_version = 1,
    .fields = rtc_fields,
    .post_load = rtc_post_load,
};

const struct device_type rtc_type = {
    .name = "rtc",
    .size = sizeof(struct rtc),
    .state = &rtc_state,
    .init = rtc_init,
    .fini = rtc_fini,
    .quiesce = rtc_quiesce,
    .resume = rtc_resume,
    .reset = rtc_reset,
    .freeze = rtc_freeze,
};
