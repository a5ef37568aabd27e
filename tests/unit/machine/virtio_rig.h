/*
 * A bench for one virtio device: memory, a bus for its window, a line whose edges are counted, the
 * I/O thread's watches run by hand; and a driver that writes the rings byte by byte, right or
 * wrong.
 */
#pragma once

#include <inttypes.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "base/le.h"
#include "machine/counters.h"
#include "machine/device.h"
#include "machine/layout.h"
#include "machine/timer.h"
#include "machine/virtio/mmio.h"

#define VRIG_RAM (16ull << 20)
#define VRIG_SIZE 8u /* of each queue */
#define VRIG_QUEUES 4u
#define VRIG_STATE_MAX 65536

/* Rings of queue q, and buffers of its descriptors: each far from the next. */
#define VRIG_DESC(q) (0x123000ull + (q)*0x10000ull)
#define VRIG_AVAIL(q) (0x125000ull + (q)*0x10000ull)
#define VRIG_USED(q) (0x127000ull + (q)*0x10000ull)
#define VRIG_TABLE(q) (0x129000ull + (q)*0x10000ull)
#define VRIG_BUFFER(i) (0x200000ull + (i)*0x10000ull)

#define D_NEXT 1u
#define D_WRITE 2u
#define D_INDIRECT 4u

struct vrig {
    struct mem mem;
    struct bus mmio;
    struct watch_set watches;
    struct timer_set timers;
    struct counters counters;
    const struct device_type *type;
    void *dev;
    unsigned edges;
    char said[ERR_TEXT_MAX + 64]; /* the last warning */
    uint16_t avail[VRIG_QUEUES];
};

static inline void vrig_irq(void *ctx, unsigned gsi, bool level)
{
    struct vrig *r = ctx;
    r->edges += level;
}

static inline void vrig_say(void *ctx, const char *text)
{
    struct vrig *r = ctx;
    snprintf(r->said, sizeof(r->said), "%s", text);
}

/* The timers' clock stands, but for what a test adds to it. */

static uint64_t vrig_clock_ns __attribute__((unused)) = 1000000000;

static inline uint64_t vrig_now(void)
{
    return vrig_clock_ns;
}

static inline void vrig_build(struct vrig *r, const void *config)
{
    struct err err = {0};
    memset(&r->mmio, 0, sizeof(r->mmio));
    struct device_env env = {
        .mmio = &r->mmio,
        .irq = {.set = vrig_irq, .ctx = r},
        .mem = &r->mem,
        .watches = &r->watches,
        .timers = &r->timers,
        .counters = &r->counters,
        .warn = {.say = vrig_say, .ctx = r},
        .virtio_attach = virtio_mmio_attach,
        .config = config,
    };
    r->dev = calloc(1, r->type->size);
    if (r->type->init(r->dev, &env, &err) < 0)
        fail_msg("%s", err.text);
}

static inline void vrig_init(struct vrig *r, const struct device_type *type, const void *config)
{
    struct err err = {0};
    memset(r, 0, sizeof(*r));
    r->type = type;
    assert_int_equal(mem_init(&r->mem, VRIG_RAM, &err), 0);
    assert_int_equal(watch_set_init(&r->watches, &err), 0);
    assert_int_equal(timer_set_init(&r->timers, vrig_now, &err), 0);
    vrig_build(r, config);
    r->type->resume(r->dev);
}

static inline void vrig_drop(struct vrig *r)
{
    r->type->fini(r->dev);
    free(r->dev);
    r->dev = NULL;
}

static inline void vrig_fini(struct vrig *r)
{
    vrig_drop(r);
    watch_set_fini(&r->watches);
    timer_set_fini(&r->timers);
    mem_fini(&r->mem);
}

static inline uint64_t vrig_get(struct vrig *r, uint64_t reg, unsigned len)
{
    uint8_t data[8] = {0};
    bus_read(&r->mmio, LAYOUT_VIRTIO_GPA + reg, data, len);
    return le_get(data, len);
}

static inline void vrig_put(struct vrig *r, uint64_t reg, uint64_t value)
{
    uint8_t data[4];
    le_put(data, value, 4);
    bus_write(&r->mmio, LAYOUT_VIRTIO_GPA + reg, data, 4);
}

/* What the I/O thread does until nothing is due. */
static inline void vrig_run(struct vrig *r)
{
    do
        watch_set_run(&r->watches);
    while (poll(&(struct pollfd){.fd = r->watches.fd, .events = POLLIN}, 1, 0) > 0);
}

static inline void vrig_negotiate(struct vrig *r, uint64_t features)
{
    vrig_put(r, 0x70, 0);
    vrig_put(r, 0x70, 1);
    vrig_put(r, 0x70, 3);
    vrig_put(r, 0x24, 0);
    vrig_put(r, 0x20, (uint32_t)features);
    vrig_put(r, 0x24, 1);
    vrig_put(r, 0x20, features >> 32);
    vrig_put(r, 0x70, 0x0b);
}

static inline void vrig_put64(struct vrig *r, uint64_t reg, uint64_t value)
{
    vrig_put(r, reg, (uint32_t)value);
    vrig_put(r, reg + 4, value >> 32);
}

static inline void vrig_queue(struct vrig *r, unsigned q)
{
    r->avail[q] = 0;
    mem_zero(&r->mem, VRIG_DESC(q), 0x8000, NULL);
    vrig_put(r, 0x30, q);
    vrig_put(r, 0x38, VRIG_SIZE);
    vrig_put64(r, 0x80, VRIG_DESC(q));
    vrig_put64(r, 0x90, VRIG_AVAIL(q));
    vrig_put64(r, 0xa0, VRIG_USED(q));
    vrig_put(r, 0x44, 1);
}

/* A driver that is ready, with `queues` of them. */
static inline void vrig_go(struct vrig *r, uint64_t features, unsigned queues)
{
    vrig_negotiate(r, features | VIRTIO_F_VERSION_1);
    assert_int_equal(vrig_get(r, 0x70, 4), 0x0b);
    for (unsigned q = 0; q < queues; q++) {
        vrig_queue(r, q);
        assert_int_equal(vrig_get(r, 0x44, 4), 1);
    }
    vrig_put(r, 0x70, 0x0f);
    assert_int_equal(vrig_get(r, 0x70, 4), 0x0f);
}

static inline void vrig_desc_at(struct vrig *r, uint64_t table, unsigned i, uint64_t gpa,
                                uint32_t len, unsigned flags, unsigned next)
{
    uint8_t raw[16];
    le_put(raw, gpa, 8);
    le_put(raw + 8, len, 4);
    le_put(raw + 12, flags, 2);
    le_put(raw + 14, next, 2);
    assert_int_equal(mem_write(&r->mem, table + i * 16, raw, 16, NULL), 0);
}

static inline void vrig_desc(struct vrig *r, unsigned i, uint64_t gpa, uint32_t len, unsigned flags,
                             unsigned next)
{
    vrig_desc_at(r, VRIG_DESC(0), i, gpa, len, flags, next);
}

static inline void vrig_set16(struct vrig *r, uint64_t gpa, uint16_t value)
{
    uint8_t raw[2];
    le_put(raw, value, 2);
    assert_int_equal(mem_write(&r->mem, gpa, raw, 2, NULL), 0);
}

static inline uint64_t vrig_peek(struct vrig *r, uint64_t gpa, unsigned len)
{
    uint8_t raw[8] = {0};
    assert_int_equal(mem_read(&r->mem, gpa, raw, len, NULL), 0);
    return le_get(raw, len);
}

static inline void vrig_avail(struct vrig *r, unsigned q, uint16_t head)
{
    vrig_set16(r, VRIG_AVAIL(q) + 4 + 2 * (r->avail[q] % VRIG_SIZE), head);
    vrig_set16(r, VRIG_AVAIL(q) + 2, ++r->avail[q]);
}

static inline void vrig_notify(struct vrig *r, unsigned q)
{
    vrig_put(r, 0x50, q);
    vrig_run(r);
}

static inline unsigned vrig_used(struct vrig *r, unsigned q)
{
    return (unsigned)vrig_peek(r, VRIG_USED(q) + 2, 2);
}

static inline uint32_t vrig_used_len(struct vrig *r, unsigned q, unsigned i)
{
    return (uint32_t)vrig_peek(r, VRIG_USED(q) + 4 + 8 * (i % VRIG_SIZE) + 4, 4);
}

static inline bool vrig_is_broken(struct vrig *r)
{
    return vrig_get(r, 0x70, 4) & VIRTIO_STATUS_NEEDS_RESET;
}

static inline void vrig_save(struct vrig *r, struct buf *out)
{
    struct err err = {0};
    buf_init(out, VRIG_STATE_MAX);
    r->type->quiesce(r->dev);
    if (field_save(r->type->state, r->dev, out, &err) < 0)
        fail_msg("%s", err.text);
}

/* Into a device that was just built; a copy of its own size, so that ASan sees each byte. */
static inline int vrig_load(struct vrig *r, const struct buf *state, struct err *err)
{
    uint8_t *copy = malloc(state->len + 1);
    memcpy(copy, state->data, state->len);
    int rc = field_load(r->type->state, r->dev, r->type->state->version,
                        (struct span){.at = copy, .left = state->len}, NULL, err);
    free(copy);
    return rc;
}

/* Saves the device, builds a new one over the same memory, loads it and lets it go on. */
static inline void vrig_move(struct vrig *r, const void *config)
{
    CLEAN(buf_fini) struct buf state;
    struct err err = {0};
    vrig_save(r, &state);
    vrig_drop(r);
    vrig_build(r, config);
    if (vrig_load(r, &state, &err) < 0)
        fail_msg("%s", err.text);
    r->type->resume(r->dev);
}
