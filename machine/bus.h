/*
 * A bus maps addresses to the devices that answer there: one for ports, one for MMIO. Filled while
 * the machine is built, read-only while it runs, so vCPU threads look up without a lock.
 *
 * A read that nobody answers gives all ones, a write goes nowhere, as on a PC.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

#define BUS_RANGES_MAX 64

struct bus_ops {
    /* `offset` is relative to the range; len is 1, 2, 4 or 8; data is little-endian. The access
     * lies within the range. Each device locks itself. [vcpu] */
    void (*read)(void *owner, uint64_t offset, uint8_t *data, unsigned len);
    void (*write)(void *owner, uint64_t offset, const uint8_t *data, unsigned len);
};

struct bus_range {
    uint64_t base, len;
    const struct bus_ops *ops;
    void *owner; /* borrowed */
};

struct bus {
    struct bus_range ranges[BUS_RANGES_MAX]; /* sorted by base */
    unsigned count;
};

/* Refuses an overlap, an empty range, one that wraps, and a full bus. */
int bus_add(struct bus *bus, uint64_t base, uint64_t len, const struct bus_ops *ops, void *owner,
            struct err *err);

/* true when somebody answered. [vcpu] */
bool bus_read(const struct bus *bus, uint64_t addr, uint8_t *data, unsigned len);
bool bus_write(const struct bus *bus, uint64_t addr, const uint8_t *data, unsigned len);
