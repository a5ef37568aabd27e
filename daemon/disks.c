/* See disks.h. */
#include "daemon/disks.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "machine/devices/virtio_blk.h"

#define PATH_TEXT_MAX 4095u

void disks_fini(struct disks *d)
{
    while (d->count > 0)
        close(d->fds[--d->count]);
}

static int check_id(const char *id, struct err *err)
{
    size_t len = strlen(id);
    if (len > VIRTIO_BLK_ID_MAX)
        return err_set(err, EINVAL, "the disk's id '%.40s' is longer than %d characters", id,
                       VIRTIO_BLK_ID_MAX);
    for (size_t i = 0; i < len; i++)
        if (id[i] <= ' ' || id[i] > '~' || id[i] == ',')
            return err_set(err, EINVAL,
                           "a disk's id has letters, digits and signs, no blank and no comma");
    return 0;
}

static int complete_one(Ferry__DiskConfig *disk, size_t index, struct err *err)
{
    char name[32];
    if (disk->path[0] != '/')
        return err_set(err, EINVAL, "disk '%.200s' is not an absolute path", disk->path);
    if (strlen(disk->path) > PATH_TEXT_MAX)
        return err_set(err, ENAMETOOLONG, "the path of a disk is longer than %u bytes",
                       PATH_TEXT_MAX);
    if (disk->id[0])
        return check_id(disk->id, err);
    snprintf(name, sizeof(name), "disk%zu", index);
    char *id = strdup(name);
    if (!id)
        return err_set(err, ENOMEM, "no memory for a disk's id");
    disk->id = id; /* the message's, freed with it */
    return 0;
}

int disks_complete(Ferry__MachineConfig *config, struct err *err)
{
    if (config->n_disks > DISKS_MAX)
        return err_set(err, E2BIG, "%zu disks: a machine takes %u", config->n_disks, DISKS_MAX);
    for (size_t i = 0; i < config->n_disks; i++) {
        int rc = complete_one(config->disks[i], i, err);
        if (rc < 0)
            return rc;
        for (size_t j = 0; j < i; j++)
            if (strcmp(config->disks[i]->id, config->disks[j]->id) == 0)
                return err_set(err, EINVAL, "two disks have the id '%s'", config->disks[i]->id);
    }
    return 0;
}

static int lock(int fd, const Ferry__DiskConfig *disk, struct err *err)
{
    struct flock all = {.l_type = disk->readonly ? F_RDLCK : F_WRLCK, .l_whence = SEEK_SET};
    if (fcntl(fd, F_OFD_SETLK, &all) == 0)
        return 0;
    if (errno == EAGAIN || errno == EACCES)
        return err_set(err, EBUSY,
                       "it is in use: a disk has one writer, or readers only; a clone needs its "
                       "own, by --disk");
    return err_sys(err, errno, "cannot lock it");
}

static int open_one(const Ferry__DiskConfig *disk, struct err *err)
{
    uint64_t bytes;
    struct stat st;
    int mode = disk->readonly ? O_RDONLY : O_RDWR;
    CLEAN(clean_fd) int fd = open(disk->path, mode | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0 || fstat(fd, &st) < 0)
        return err_sys(err, errno, "cannot open it");
    if (disk_check(fd, &bytes, err) < 0 || lock(fd, disk, err) < 0)
        return -err->code;
    /* A plain file does not mind, but a block device might. */
    if (fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_NONBLOCK) < 0)
        return err_sys(err, errno, "cannot use it");
    return steal_fd(&fd);
}

int disks_open(struct disks *d, const Ferry__MachineConfig *config, struct err *err)
{
    d->count = 0;
    for (size_t i = 0; i < config->n_disks; i++) {
        int fd = open_one(config->disks[i], err);
        if (fd < 0) {
            disks_fini(d);
            return err_wrap(err, "disk '%s'", config->disks[i]->path);
        }
        d->fds[d->count++] = fd;
    }
    return 0;
}
