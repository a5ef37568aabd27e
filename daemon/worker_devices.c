/* See worker_devices.h. */
#include "daemon/worker_devices.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

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

/* A queue for each CPU, up to as many as one I/O thread has a use for. */
static int add_disk(struct worker_devices *d, const Ferry__DiskConfig *disk, unsigned cpus,
                    bool other, int fd, struct err *err)
{
    if (fd < 0)
        return err_set(err, EINVAL, "the start request came with too few disks");
    if (d->ndisks == DISKS_MAX) {
        close(fd);
        return err_set(err, E2BIG, "a machine takes no more than %u disks", DISKS_MAX);
    }
    struct virtio_blk_config *c = &d->disks[d->ndisks++];
    *c = (struct virtio_blk_config){
        .fd = fd,
        .readonly = disk->readonly,
        .may_be_other = other,
        .queues = cpus < VIRTIO_BLK_QUEUES_MAX ? cpus : VIRTIO_BLK_QUEUES_MAX,
    };
    snprintf(c->id, sizeof(c->id), "%s", disk->id);
    return add(d, &virtio_blk_type, c, err);
}

static int add_net(struct worker_devices *d, const Ferry__NetConfig *net, int fd, struct err *err)
{
    if (fd < 0)
        return err_set(err, EINVAL, "the start request came with too few networks");
    if (d->nnets == NETS_MAX || net->mac.len != VIRTIO_NET_MAC_BYTES) {
        close(fd);
        return err_set(err, EINVAL, "a network without a mac, or more than %u of them", NETS_MAX);
    }
    struct virtio_net_config *c = &d->nets[d->nnets++];
    *c = (struct virtio_net_config){.fd = fd};
    memcpy(c->mac, net->mac.data, sizeof(c->mac));
    return add(d, &virtio_net_type, c, err);
}

int worker_devices_init(struct worker_devices *d, const Ferry__MachineConfig *config,
                        uint32_t other_disks, struct fds *fds, unsigned *at, struct err *err)
{
    *d = (struct worker_devices){0};
    int rc = config->rng ? add(d, &virtio_rng_type, NULL, err) : 0;
    for (size_t i = 0; rc == 0 && i < config->n_disks; i++)
        rc = add_disk(d, config->disks[i], config->cpus, other_disks & 1u << i,
                      fds_take(fds, (*at)++), err);
    for (size_t i = 0; rc == 0 && i < config->n_nets; i++)
        rc = add_net(d, config->nets[i], fds_take(fds, (*at)++), err);
    return rc;
}

void worker_devices_fini(struct worker_devices *d)
{
    while (d->ndisks > 0)
        close(d->disks[--d->ndisks].fd);
    while (d->nnets > 0)
        close(d->nets[--d->nnets].fd);
}
