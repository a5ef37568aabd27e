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

struct counters {
    _Atomic uint64_t exits[COUNTER_KINDS];
};

/* Stable names: they are part of `vmctl stats --json`. */
const char *counter_name(enum counter_kind kind);

static inline void counter_add(struct counters *c, enum counter_kind kind)
{
    atomic_fetch_add_explicit(&c->exits[kind], 1, memory_order_relaxed);
}
