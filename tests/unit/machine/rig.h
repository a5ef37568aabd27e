/*
 * A bench for devices: a bus, lines that are counted, a console, requests that are kept, 64 MiB of
 * memory, and two clocks that stand until a test moves them.
 */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/le.h"
#include "machine/bus.h"
#include "machine/console.h"
#include "machine/devices/devices.h"
#include "machine/layout.h"
#include "machine/timer.h"

#define RIG_GSIS 24
#define RIG_RAM (64ull << 20)
#define SECOND 1000000000ull

static uint64_t rig_clock_now, rig_wall_now;

static inline uint64_t rig_clock(void)
{
    return rig_clock_now;
}

static inline uint64_t rig_wall(void)
{
    return rig_wall_now;
}

struct rig {
    struct bus pio, mmio;
    struct timer_set timers;
    struct console console;
    struct mem mem;
    struct devices devices;
    bool level[RIG_GSIS];
    unsigned edges[RIG_GSIS]; /* how often the line rose */
    unsigned asked[2];
    const char *asked_by;
    unsigned input_room;
};

static inline void rig_irq(void *ctx, unsigned gsi, bool level)
{
    struct rig *r = ctx;
    assert_in_range(gsi, 0, RIG_GSIS - 1);
    if (level && !r->level[gsi])
        r->edges[gsi]++;
    r->level[gsi] = level;
}

static inline void rig_ask(void *ctx, enum machine_request what, const char *by)
{
    struct rig *r = ctx;
    r->asked[what]++;
    r->asked_by = by;
}

static inline void rig_output(void *ctx)
{
}

static inline void rig_input_room(void *ctx)
{
    struct rig *r = ctx;
    r->input_room++;
}

static const struct console_ops rig_console_ops = {.output = rig_output,
                                                   .input_room = rig_input_room};

/* Built and running, at a wall time the test chose before (or 2021-01-01 00:00:00). */
static inline struct rig *rig_new(void)
{
    struct err err = {0};
    struct rig *r = calloc(1, sizeof(*r));
    assert_non_null(r);
    rig_clock_now = 5 * SECOND;
    if (rig_wall_now == 0)
        rig_wall_now = 1609459200ull * SECOND;
    assert_int_equal(timer_set_init(&r->timers, rig_clock, &err), 0);
    assert_int_equal(console_init(&r->console, &rig_console_ops, r, &err), 0);
    assert_int_equal(mem_init(&r->mem, RIG_RAM, &err), 0);
    struct device_env env = {
        .pio = &r->pio,
        .mmio = &r->mmio,
        .irq = {.set = rig_irq, .ctx = r},
        .request = {.ask = rig_ask, .ctx = r},
        .mem = &r->mem,
        .timers = &r->timers,
        .console = &r->console,
        .wall_ns = rig_wall,
    };
    assert_int_equal(devices_init(&r->devices, &env, NULL, 0, &err), 0);
    devices_resume(&r->devices);
    return r;
}

static inline void rig_free(struct rig *r)
{
    devices_fini(&r->devices);
    assert_null(r->timers.armed);
    mem_fini(&r->mem);
    console_fini(&r->console);
    timer_set_fini(&r->timers);
    free(r);
    rig_wall_now = 0;
}

static inline int rig_setup(void **state)
{
    *state = rig_new();
    return 0;
}

static inline int rig_teardown(void **state)
{
    rig_free(*state);
    return 0;
}

static inline uint64_t in(struct rig *r, uint64_t port, unsigned len)
{
    uint8_t data[8];
    memset(data, 0xa5, sizeof(data));
    bus_read(&r->pio, port, data, len);
    return le_get(data, len);
}

static inline void out(struct rig *r, uint64_t port, uint64_t value, unsigned len)
{
    uint8_t data[8];
    le_put(data, value, 8);
    bus_write(&r->pio, port, data, len);
}

static inline uint8_t inb(struct rig *r, uint64_t port)
{
    return (uint8_t)in(r, port, 1);
}

static inline void outb(struct rig *r, uint64_t port, uint8_t value)
{
    out(r, port, value, 1);
}

/* Both clocks go on, and timers fire at their moments on the way. */
static inline void rig_advance(struct rig *r, uint64_t ns)
{
    uint64_t end = rig_clock_now + ns;
    while (r->timers.armed && r->timers.armed->deadline_ns <= end) {
        uint64_t at = r->timers.armed->deadline_ns;
        if (at > rig_clock_now) {
            rig_wall_now += at - rig_clock_now;
            rig_clock_now = at;
        }
        timer_set_run(&r->timers);
    }
    rig_wall_now += end - rig_clock_now;
    rig_clock_now = end;
}

static inline void rig_type(struct rig *r, const char *text)
{
    assert_int_equal(console_feed(&r->console, (const uint8_t *)text, strlen(text)), strlen(text));
}

/* All that the guest said so far. */
static inline const char *rig_said(struct rig *r)
{
    static char text[4097];
    uint64_t offset = 0, missed = 0;
    size_t n = console_read(&r->console, &offset, text, sizeof(text) - 1, &missed);
    text[n] = '\0';
    return text;
}

/* A small generator of its own: the same numbers on every host. */
static inline uint32_t rig_random(uint64_t *seed)
{
    *seed = *seed * 6364136223846793005ull + 1442695040888963407ull;
    return (uint32_t)(*seed >> 33);
}
