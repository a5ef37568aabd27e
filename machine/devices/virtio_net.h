/* A network card for the guest: see virtio_net.c and docs/devices.md. */
#pragma once

#include "machine/device.h"
#include "machine/tap.h"

#define VIRTIO_NET_MAC_BYTES 6

/* For device_env.config; all of it outlives the device. */
struct virtio_net_config {
    int fd; /* borrowed; a tap, or what `ops` takes for one */
    uint8_t mac[VIRTIO_NET_MAC_BYTES];
    const struct tap_ops *ops; /* NULL: those of a tap */
};

extern const struct device_type virtio_net_type;
