/* See counters.h. */
#include "machine/counters.h"

#include <stdio.h>
#include <string.h>

static const char *const names[COUNTER_KINDS] = {
    [COUNTER_PORT_IN] = "exits_port_in",     [COUNTER_PORT_OUT] = "exits_port_out",
    [COUNTER_MMIO_READ] = "exits_mmio_read", [COUNTER_MMIO_WRITE] = "exits_mmio_write",
    [COUNTER_UNCLAIMED] = "exits_unclaimed", [COUNTER_HLT] = "exits_hlt",
    [COUNTER_SIGNAL] = "exits_signal",       [COUNTER_SYSTEM_EVENT] = "exits_system_event",
    [COUNTER_FAULT] = "exits_fault",         [COUNTER_OTHER] = "exits_other",
};

const char *counter_name(enum counter_kind kind)
{
    return names[kind];
}

static const char *const common[COUNTER_DEVICE_COMMON] = {
    [COUNTER_DEVICE_WAKEUPS] = "wakeups",
    [COUNTER_DEVICE_REQUESTS] = "requests",
    [COUNTER_DEVICE_INTERRUPTS] = "interrupts",
    [COUNTER_DEVICE_BROKEN] = "broken",
};

struct device_counters *counter_device(struct counters *c, const char *type, unsigned instance,
                                       const char *const *own, unsigned nown)
{
    char name[sizeof(c->devices[0].name)];
    unsigned i = 0;
    snprintf(name, sizeof(name), "%s%u", type, instance);
    while (i < c->ndevices && strcmp(c->devices[i].name, name) != 0)
        i++;
    if (i == COUNTER_DEVICES_MAX)
        return &c->devices[i - 1];
    struct device_counters *d = &c->devices[i];
    memcpy(d->name, name, sizeof(name));
    d->own = own;
    d->nown = nown < COUNTER_OWN_MAX ? nown : COUNTER_OWN_MAX;
    if (i == c->ndevices)
        c->ndevices++;
    return d;
}

const char *counter_device_name(const struct device_counters *d, unsigned kind, char *to,
                                unsigned size)
{
    if (kind >= COUNTER_DEVICE_COMMON + d->nown)
        return NULL;
    snprintf(to, size, "%s.%s", d->name,
             kind < COUNTER_DEVICE_COMMON ? common[kind] : d->own[kind - COUNTER_DEVICE_COMMON]);
    return to;
}
