/*
 * A virtio device under a driver that is the fuzzer: its input is a list of things that a guest can
 * do, and moments at which the machine is saved and restored.
 *
 *     0 reg value4    writes a register (reg is a word's number)
 *     1 page offset2 count bytes...   writes memory, within the first MiB
 *     2               lets the I/O thread work
 *     3               saves, builds anew, loads, goes on
 *     4 at2 byte      the same with one byte of the state changed
 *     5 reg           reads a register
 *     6, 7            what the device's own target makes of it, if it does
 */
#pragma once

#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/le.h"
#include "machine/counters.h"
#include "machine/device.h"
#include "machine/layout.h"
#include "machine/timer.h"
#include "machine/virtio/mmio.h"

#define OPS_MAX 512
#define OPS_HEAVY_MAX 16 /* of those that take long */
#define OPS_RAM MEM_MIN
#define OPS_STATE_MAX 65536

struct ops {
    struct mem mem;
    struct watch_set watches;
    struct timer_set timers;
    struct counters counters;
    struct bus mmio;
    const struct device_type *type;
    const void *config;
    void *dev;
    unsigned heavy;
    void (*more)(struct ops *o, uint8_t op, struct span *in); /* may be NULL */
};

static inline uint64_t ops_now(void)
{
    return 1000000000;
}

static inline void ops_ignore_line(void *ctx, unsigned gsi, bool level)
{
}

static inline void ops_build(struct ops *o)
{
    struct err err;
    memset(&o->mmio, 0, sizeof(o->mmio));
    struct device_env env = {.mmio = &o->mmio,
                             .irq = {.set = ops_ignore_line},
                             .mem = &o->mem,
                             .watches = &o->watches,
                             .timers = &o->timers,
                             .counters = &o->counters,
                             .virtio_attach = virtio_mmio_attach,
                             .config = o->config};
    o->dev = calloc(1, o->type->size);
    if (!o->dev || o->type->init(o->dev, &env, &err) < 0)
        abort();
}

static inline void ops_drop(struct ops *o)
{
    o->type->fini(o->dev);
    free(o->dev);
}

static inline void ops_move(struct ops *o, size_t at, uint8_t flip)
{
    CLEAN(buf_fini) struct buf state;
    struct err err;
    buf_init(&state, OPS_STATE_MAX);
    o->type->quiesce(o->dev);
    if (field_save(o->type->state, o->dev, &state, &err) < 0)
        abort();
    if (state.len)
        state.data[at % state.len] ^= flip;
    ops_drop(o);
    ops_build(o);
    int rc = field_load(o->type->state, o->dev, o->type->state->version,
                        (struct span){.at = state.data, .left = state.len}, NULL, &err);
    if (rc < 0 && !flip)
        abort();
    if (rc < 0) { /* half filled: its owner drops it */
        ops_drop(o);
        ops_build(o);
    }
    o->type->resume(o->dev);
}

static inline bool ops_take(struct span *in, void *to, size_t len)
{
    if (in->left < len)
        return false;
    memcpy(to, in->at, len);
    in->at += len;
    in->left -= len;
    return true;
}

static inline void ops_write_memory(struct ops *o, struct span *in)
{
    uint8_t head[4], bytes[256];
    if (!ops_take(in, head, 4) || !ops_take(in, bytes, head[3]))
        return;
    uint64_t gpa = (uint64_t)head[0] << 12 | (le_get(head + 1, 2) & 0xfff);
    mem_write(&o->mem, gpa, bytes, head[3], NULL);
}

static inline bool ops_step(struct ops *o, struct span *in)
{
    uint8_t op, arg[5] = {0};
    if (!ops_take(in, &op, 1))
        return false;
    if ((op == 6 || op == 7) && o->more) {
        o->more(o, op, in);
        return true;
    }
    switch (op % 6) {
    case 0:
        if (ops_take(in, arg, 5))
            bus_write(&o->mmio, LAYOUT_VIRTIO_GPA + arg[0] * 4u, arg + 1, 4);
        return true;
    case 1:
        ops_write_memory(o, in);
        return true;
    case 5:
        if (ops_take(in, arg, 1))
            bus_read(&o->mmio, LAYOUT_VIRTIO_GPA + arg[0] * 4u, arg, 4);
        return true;
    }
    if (o->heavy++ == OPS_HEAVY_MAX)
        return false;
    if (op % 6 == 2)
        watch_set_run(&o->watches);
    else if (op % 6 == 3)
        ops_move(o, 0, 0);
    else if (ops_take(in, arg, 3))
        ops_move(o, le_get(arg, 2), arg[2]);
    return true;
}

/* `o` is zeroed but for type and config the first time, and its memory stays for the next. */
static inline void ops_run(struct ops *o, const uint8_t *data, size_t size)
{
    struct span in = {.at = data, .left = size};
    struct err err;
    if (!o->mem.base &&
        (mem_init(&o->mem, OPS_RAM, &err) < 0 || watch_set_init(&o->watches, &err) ||
         timer_set_init(&o->timers, ops_now, &err) < 0))
        abort();
    mem_zero(&o->mem, 0, 1 << 20, NULL);
    o->heavy = 0;
    ops_build(o);
    o->type->resume(o->dev);
    for (unsigned i = 0; i < OPS_MAX && ops_step(o, &in); i++)
        ;
    o->type->quiesce(o->dev);
    ops_drop(o);
}
