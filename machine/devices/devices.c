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
_Static_assert(sizeof(devices_table) / sizeof(devices_table[0]) <= DEVICES_MAX, "too many devices");

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
    d->slots[d->count++] = dev;
    return 0;
}

int devices_init(struct devices *d, const struct device_env *env, struct err *err)
{
    *d = (struct devices){.table = devices_table};
    for (unsigned i = 0; i < devices_count; i++) {
        int rc = build(d, devices_table[i], env, err);
        if (rc < 0) {
            devices_fini(d);
            return rc;
        }
    }
    return 0;
}

void devices_fini(struct devices *d)
{
    while (d->count > 0) {
        unsigned i = --d->count;
        if (d->table[i]->fini)
            d->table[i]->fini(d->slots[i]);
        free(d->slots[i]);
        d->slots[i] = NULL;
    }
}

void *devices_find(const struct devices *d, const char *name)
{
    for (unsigned i = 0; i < d->count; i++)
        if (strcmp(d->table[i]->name, name) == 0)
            return d->slots[i];
    return NULL;
}

void devices_quiesce(struct devices *d)
{
    for (unsigned i = d->count; i-- > 0;)
        if (d->table[i]->quiesce)
            d->table[i]->quiesce(d->slots[i]);
}

void devices_resume(struct devices *d)
{
    for (unsigned i = 0; i < d->count; i++)
        if (d->table[i]->resume)
            d->table[i]->resume(d->slots[i]);
}

void devices_reset(struct devices *d)
{
    for (unsigned i = 0; i < d->count; i++)
        if (d->table[i]->reset)
            d->table[i]->reset(d->slots[i]);
}

int devices_sections(struct devices *d, struct section_set *set, struct err *err)
{
    int rc = 0;
    for (unsigned i = 0; rc == 0 && i < d->count; i++)
        if (d->table[i]->state)
            rc = section_set_add(set, d->table[i]->state, 0,
                                 d->table[i]->optional ? 0 : SECTION_CRITICAL, d->slots[i], err);
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
