/* See worker_devices.h. */
#include "daemon/worker_devices.h"

#include <errno.h>

#include "machine/devices/virtio_rng.h"

static int add(struct worker_devices *d, const struct device_type *type, const void *config,
               struct err *err)
{
    if (d->count == DEVICE_WISHES_MAX)
        return err_set(err, E2BIG, "a machine takes no more than %d virtio devices",
                       DEVICE_WISHES_MAX);
    d->wishes[d->count++] = (struct device_wish){.type = type, .config = config};
    return 0;
}

int worker_devices_init(struct worker_devices *d, const Ferry__MachineConfig *config,
                        struct err *err)
{
    *d = (struct worker_devices){0};
    return config->rng ? add(d, &virtio_rng_type, NULL, err) : 0;
}
