/* A disk for the guest: see virtio_blk.c and docs/devices.md. */
#pragma once

#include <stdbool.h>

#include "machine/device.h"
#include "machine/disk.h"

#define VIRTIO_BLK_ID_MAX 20
#define VIRTIO_BLK_QUEUES_MAX 4

/* For device_env.config; all of it outlives the device. */
struct virtio_blk_config {
    int fd; /* borrowed; open for writing unless readonly */
    bool readonly;
    bool may_be_other;                /* than a saved guest left it */
    char id[VIRTIO_BLK_ID_MAX + 1];   /* what the guest sees as serial number */
    unsigned queues;                  /* 1..VIRTIO_BLK_QUEUES_MAX */
    const struct disk_engine *engine; /* NULL: the best */
};

extern const struct device_type virtio_blk_type;
