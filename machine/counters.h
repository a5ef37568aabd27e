/*
 * What a vCPU was stopped for, counted. Counters only grow, also over a reset: the worker owns them
 * and lends them to each machine that it builds.
 */
#pragma once

#include <stdatomic.h>
#include <stdint.h>

enum counter_kind {
    COUNTER_PORT_IN,
    COUNTER_PORT_OUT,
    COUNTER_MMIO_READ,
    COUNTER_MMIO_WRITE,
    COUNTER_UNCLAIMED, /* a port or address where nobody answers */
    COUNTER_HLT,
    COUNTER_SIGNAL, /* taken out of the guest by a pause or another order */
    COUNTER_SYSTEM_EVENT,
    COUNTER_FAULT,
    COUNTER_OTHER,
    COUNTER_KINDS,
};

/* What each device counts, before what is its own. */
enum counter_device {
    COUNTER_DEVICE_WAKEUPS,    /* of the I/O thread by the driver's notification */
    COUNTER_DEVICE_REQUESTS,   /* chains taken from its queues */
    COUNTER_DEVICE_INTERRUPTS, /* raised */
    COUNTER_DEVICE_BROKEN,     /* how often the driver broke a rule, so that the device stopped */
    COUNTER_DEVICE_COMMON,
};

#define COUNTER_DEVICES_MAX 32
#define COUNTER_OWN_MAX 12
#define COUNTER_DEVICE_KINDS (COUNTER_DEVICE_COMMON + COUNTER_OWN_MAX)

struct device_counters {
    char name[32];          /* "virtio-blk0" */
    const char *const *own; /* names of those behind COUNTER_DEVICE_COMMON; borrowed */
    unsigned nown;
    _Atomic uint64_t values[COUNTER_DEVICE_KINDS];
};

struct counters {
    _Atomic uint64_t exits[COUNTER_KINDS];
    struct device_counters devices[COUNTER_DEVICES_MAX];
    unsigned ndevices;
};

/* Stable names: they are part of `vmctl stats --json`. */
const char *counter_name(enum counter_kind kind);

/* The place of a device, the same one over a reset. Devices beyond the maximum share the last. */
struct device_counters *counter_device(struct counters *c, const char *type, unsigned instance,
                                       const char *const *own, unsigned nown);

/* "virtio-blk0.requests"; NULL behind the last. */
const char *counter_device_name(const struct device_counters *d, unsigned kind, char *to,
                                unsigned size);

static inline void counter_grow(struct device_counters *d, unsigned kind, uint64_t n)
{
    atomic_fetch_add_explicit(&d->values[kind], n, memory_order_relaxed);
}

static inline void counter_add(struct counters *c, enum counter_kind kind)
{
    atomic_fetch_add_explicit(&c->exits[kind], 1, memory_order_relaxed);
}
