/* See restore_disks.h. */
#include "daemon/restore_disks.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/clone_name.h"
#include "daemon/disks.h"

/* The disk of the machine that `disk` is for: the one of its id, or the first that nobody named. */
static int find(const Ferry__MachineConfig *config, const Ferry__DiskConfig *disk, uint32_t taken,
                struct err *err)
{
    for (size_t i = 0; i < config->n_disks; i++) {
        bool is_it = disk->id[0] ? strcmp(config->disks[i]->id, disk->id) == 0 : !(taken & 1u << i);
        if (is_it && taken & 1u << i)
            return err_set(err, EINVAL, "two disks are given for '%s'", disk->id);
        if (is_it)
            return (int)i;
    }
    if (disk->id[0])
        return err_set(err, ENOENT, "the saved machine has no disk '%s'", disk->id);
    return err_set(err, EINVAL, "more disks are given than the saved machine has, which is %zu",
                   config->n_disks);
}

static int put(Ferry__MachineConfig *config, const Ferry__DiskConfig *disk, unsigned clone,
               uint32_t *taken, struct err *err)
{
    int at = find(config, disk, *taken, err);
    if (at < 0)
        return at;
    char *path = clone_name(disk->path, clone);
    if (!path)
        return err_set(err, ENOMEM, "no memory for a disk's path");
    Ferry__DiskConfig *to = config->disks[at];
    if (to->path != protobuf_c_empty_string)
        free(to->path);
    to->path = path;
    to->readonly |= disk->readonly;
    *taken |= 1u << at;
    return 0;
}

int restore_disks(Ferry__MachineConfig *config, const Ferry__RestoreRequest *ask, unsigned clone,
                  uint32_t *other, struct err *err)
{
    int rc = 0;
    *other = 0;
    if (config->n_disks > DISKS_MAX)
        return err_set(err, EBADMSG, "the saved machine has %zu disks: at most %u can be",
                       config->n_disks, DISKS_MAX);
    for (int with_id = 1; with_id >= 0; with_id--)
        for (size_t i = 0; rc == 0 && i < ask->n_disks; i++)
            if (!ask->disks[i]->id[0] == !with_id)
                rc = put(config, ask->disks[i], clone, other, err);
    if (ask->force)
        *other = UINT32_MAX;
    return rc;
}
