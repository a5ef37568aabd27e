/* See bus.h. */
#include "machine/bus.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

int bus_add(struct bus *bus, uint64_t base, uint64_t len, const struct bus_ops *ops, void *owner,
            struct err *err)
{
    unsigned at = 0;
    if (len == 0 || base + (len - 1) < base)
        return err_set(err, EINVAL, "bus range at 0x%" PRIx64 " is empty or wraps", base);
    if (bus->count == BUS_RANGES_MAX)
        return err_set(err, ENOSPC, "more than %d bus ranges", BUS_RANGES_MAX);
    while (at < bus->count && bus->ranges[at].base < base)
        at++;
    if ((at > 0 && bus->ranges[at - 1].base + (bus->ranges[at - 1].len - 1) >= base) ||
        (at < bus->count && bus->ranges[at].base - base < len))
        return err_set(err, EEXIST, "bus range at 0x%" PRIx64 " overlaps another", base);
    memmove(&bus->ranges[at + 1], &bus->ranges[at], (bus->count - at) * sizeof(bus->ranges[0]));
    bus->ranges[at] = (struct bus_range){.base = base, .len = len, .ops = ops, .owner = owner};
    bus->count++;
    return 0;
}

/* The range that holds all of [addr, addr+len), or NULL. */
static const struct bus_range *find(const struct bus *bus, uint64_t addr, unsigned len)
{
    unsigned low = 0, high = bus->count;
    while (low < high) {
        unsigned mid = (low + high) / 2;
        const struct bus_range *r = &bus->ranges[mid];
        if (addr < r->base)
            high = mid;
        else if (addr - r->base >= r->len)
            low = mid + 1;
        else
            return len <= r->len - (addr - r->base) ? r : NULL;
    }
    return NULL;
}

bool bus_read(const struct bus *bus, uint64_t addr, uint8_t *data, unsigned len)
{
    const struct bus_range *r = find(bus, addr, len);
    if (!r) {
        memset(data, 0xff, len);
        return false;
    }
    r->ops->read(r->owner, addr - r->base, data, len);
    return true;
}

bool bus_write(const struct bus *bus, uint64_t addr, const uint8_t *data, unsigned len)
{
    const struct bus_range *r = find(bus, addr, len);
    if (!r)
        return false;
    r->ops->write(r->owner, addr - r->base, data, len);
    return true;
}
