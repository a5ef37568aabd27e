/* See devices.h. */
#include "machine/devices/devices.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "machine/devices/acpi_pm.h"
#include "machine/devices/i8042.h"
#include "machine/devices/rtc.h"
#include "machine/devices/serial.h"
#include "machine/devices/vmgenid.h"

/* The order is the order of building and of the state sections; one that is not optional stands
 * last, so that no state is cut off before its end unseen. */
const struct device_type *const devices_table[] = {
    &serial_type, &rtc_type, &i8042_type, &vmgenid_type, &acpi_pm_type,
};
const unsigned devices_count = sizeof(devices_table) / sizeof(devices_table[0]);
_Static_assert(sizeof(devices_table) / sizeof(devices_table[0]) + DEVICE_WISHES_MAX <= DEVICES_MAX,
               "too many devices");

static unsigned count_type(const struct devices *d, const struct device_type *type)
{
    unsigned n = 0;
    for (unsigned i = 0; i < d->count; i++)
        n += d->types[i] == type;
    return n;
}

static int build(struct devices *d, const struct device_type *type, const struct device_env *env,
                 struct err *err)
{
    void *dev = calloc(1, type->size);
    if (!dev)
        return err_set(err, ENOMEM, "no memory for device '%s'", type->name);
    if (type->init(dev, env, err) < 0) {
        free(dev);
        return err_wrap(err, "device '%s'", type->name);
    }
    d->types[d->count] = type;
    d->instances[d->count] = env->instance;
    d->slots[d->count++] = dev;
    return 0;
}

static int build_wish(struct devices *d, const struct device_wish *wish,
                      const struct device_env *common, unsigned slot, struct err *err)
{
    struct device_env env = *common;
    env.config = wish->config;
    env.instance = count_type(d, wish->type);
    env.slot = slot;
    return build(d, wish->type, &env, err);
}

int devices_init(struct devices *d, const struct device_env *env, const struct device_wish *wishes,
                 unsigned count, struct err *err)
{
    int rc = 0;
    *d = (struct devices){0};
    if (count > DEVICE_WISHES_MAX)
        return err_set(err, E2BIG, "%u devices are more than the %d that a machine takes", count,
                       DEVICE_WISHES_MAX);
    for (unsigned i = 0; rc == 0 && i < devices_count; i++)
        rc = build(d, devices_table[i], env, err);
    for (unsigned i = 0; rc == 0 && i < count; i++)
        rc = build_wish(d, &wishes[i], env, i, err);
    if (rc < 0)
        devices_fini(d);
    return rc;
}

void devices_fini(struct devices *d)
{
    while (d->count > 0) {
        unsigned i = --d->count;
        if (d->types[i]->fini)
            d->types[i]->fini(d->slots[i]);
        free(d->slots[i]);
        d->slots[i] = NULL;
    }
}

void *devices_find(const struct devices *d, const char *name)
{
    for (unsigned i = 0; i < d->count; i++)
        if (strcmp(d->types[i]->name, name) == 0)
            return d->slots[i];
    return NULL;
}

void devices_quiesce(struct devices *d)
{
    for (unsigned i = d->count; i-- > 0;)
        if (d->types[i]->quiesce)
            d->types[i]->quiesce(d->slots[i]);
}

void devices_resume(struct devices *d)
{
    for (unsigned i = 0; i < d->count; i++)
        if (d->types[i]->resume)
            d->types[i]->resume(d->slots[i]);
}

void devices_reset(struct devices *d)
{
    for (unsigned i = 0; i < d->count; i++)
        if (d->types[i]->reset)
            d->types[i]->reset(d->slots[i]);
}

void devices_freeze(struct devices *d)
{
    for (unsigned i = 0; i < d->count; i++)
        if (d->types[i]->freeze)
            d->types[i]->freeze(d->slots[i]);
}

void devices_arrived(struct devices *d)
{
    for (unsigned i = 0; i < d->count; i++)
        if (d->types[i]->arrived)
            d->types[i]->arrived(d->slots[i]);
}

int devices_sections(struct devices *d, struct section_set *set, struct err *err)
{
    int rc = 0;
    for (unsigned i = 0; rc == 0 && i < d->count; i++)
        if (d->types[i]->state)
            rc = section_set_add(set, d->types[i]->state, d->instances[i],
                                 d->types[i]->optional ? 0 : SECTION_CRITICAL, d->slots[i], err);
    return rc;
}

int devices_save(struct devices *d, struct buf *out, struct err *err)
{
    CLEAN(section_set_fini) struct section_set set;
    section_set_init(&set);
    int rc = devices_sections(d, &set, err);
    return rc < 0 ? rc : section_set_save(&set, out, err);
}

int devices_load(struct devices *d, struct span in, struct section_report *report, struct err *err)
{
    CLEAN(section_set_fini) struct section_set set;
    section_set_init(&set);
    int rc = devices_sections(d, &set, err);
    return rc < 0 ? rc : section_set_load(&set, in, report, err);
}
