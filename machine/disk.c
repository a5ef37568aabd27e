/* See disk.h. */
#include "machine/disk.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#define ZEROES_BYTES (256u << 10)

static const uint8_t zeroes[ZEROES_BYTES];

static int size_of(int fd, uint64_t *bytes, struct err *err)
{
    struct stat st;
    if (fstat(fd, &st) < 0)
        return err_sys(err, errno, "cannot look at the disk");
    *bytes = (uint64_t)st.st_size;
    if (S_ISREG(st.st_mode))
        return 0;
    if (!S_ISBLK(st.st_mode))
        return err_set(err, EINVAL, "a disk is a plain file or a block device");
    return ioctl(fd, BLKGETSIZE64, bytes) < 0 ? err_sys(err, errno, "cannot tell its size") : 0;
}

int disk_check(int fd, uint64_t *bytes, struct err *err)
{
    uint8_t magic[4] = {0};
    int rc = size_of(fd, bytes, err);
    if (rc < 0)
        return rc;
    if (*bytes == 0 || *bytes % DISK_SECTOR)
        return err_set(err, EINVAL,
                       "a disk of %" PRIu64 " bytes is not one or more whole sectors of %u bytes",
                       *bytes, DISK_SECTOR);
    if (pread(fd, magic, sizeof(magic), 0) == sizeof(magic) && memcmp(magic, "QFI\xfb", 4) == 0)
        return err_set(err, EINVAL,
                       "it is a qcow2 image, and disks are raw: convert it with qemu-img convert "
                       "-O raw");
    return 0;
}

uint64_t disk_generation(const struct disk *d)
{
    struct stat st;
    if (fstat(d->fd, &st) < 0 || !S_ISREG(st.st_mode))
        return 0;
    return (uint64_t)st.st_mtim.tv_sec * 1000000000u + (uint64_t)st.st_mtim.tv_nsec;
}

static int init_engine(struct disk *d, const struct disk_engine *engine, struct err *err)
{
    d->engine = engine;
    return engine->init(d, err);
}

int disk_init(struct disk *d, int fd, const struct disk_engine *engine, struct err *err)
{
    *d = (struct disk){.fd = fd, .event_fd = -1};
    int rc = disk_check(fd, &d->bytes, err);
    if (rc < 0)
        return rc;
    d->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (d->event_fd < 0)
        return err_sys(err, errno, "cannot make an event descriptor");
    rc = init_engine(d, engine ? engine : &disk_ring, err);
    if (rc < 0 && !engine)
        rc = init_engine(d, &disk_pool, err);
    if (rc < 0)
        close(d->event_fd);
    return rc;
}

void disk_fini(struct disk *d)
{
    while (disk_reap(d, true))
        ;
    d->engine->fini(d);
    close(d->event_fd);
}

void disk_queue(struct disk *d, struct disk_op *op)
{
    op->done = 0;
    op->by_writing = false;
    d->in_flight++;
    d->engine->queue(d, op);
}

void disk_kick(struct disk *d)
{
    d->engine->kick(d);
}

struct disk_op *disk_reap(struct disk *d, bool wait)
{
    if (d->in_flight == 0)
        return NULL;
    struct disk_op *op = d->engine->reap(d, wait);
    if (op)
        d->in_flight--;
    return op;
}

int disk_fallocate_mode(const struct disk_op *op)
{
    if (op->kind == DISK_ZEROES && op->keep)
        return FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE;
    return FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
}

void disk_next_zeroes(struct disk_op *op)
{
    uint64_t left = op->bytes - op->done;
    op->by_writing = true;
    op->zeroes.iov_base = (void *)(uintptr_t)zeroes;
    op->zeroes.iov_len = left < ZEROES_BYTES ? left : ZEROES_BYTES;
}

/* The piece of iov that holds byte `at` of the request, from there on. */
static struct iovec piece_at(const struct disk_op *op, uint64_t at)
{
    unsigned i = 0;
    while (at >= op->iov[i].iov_len)
        at -= op->iov[i++].iov_len;
    return (struct iovec){.iov_base = (uint8_t *)op->iov[i].iov_base + at,
                          .iov_len = op->iov[i].iov_len - at};
}

/* A transfer that comes to nothing will not get better by asking again. */
static int transfer(const struct disk *d, struct disk_op *op)
{
    while (op->done < op->bytes) {
        struct iovec piece = op->by_writing ? op->zeroes : piece_at(op, op->done);
        off_t at = (off_t)(op->at + op->done);
        ssize_t n = op->kind == DISK_READ ? pread(d->fd, piece.iov_base, piece.iov_len, at)
                                          : pwrite(d->fd, piece.iov_base, piece.iov_len, at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? -errno : -EIO;
        op->done += (uint64_t)n;
        if (op->by_writing)
            disk_next_zeroes(op);
    }
    return 0;
}

static int allocate(const struct disk *d, struct disk_op *op)
{
    int rc;
    do
        rc = fallocate(d->fd, disk_fallocate_mode(op), (off_t)op->at, (off_t)op->bytes);
    while (rc < 0 && errno == EINTR);
    if (rc == 0 || (errno == EOPNOTSUPP && op->kind == DISK_DISCARD))
        return 0;
    if (errno != EOPNOTSUPP)
        return -errno;
    disk_next_zeroes(op);
    return transfer(d, op);
}

int disk_do(const struct disk *d, struct disk_op *op)
{
    if (op->kind == DISK_FLUSH)
        return fdatasync(d->fd) < 0 ? -errno : 0;
    if (op->kind == DISK_READ || op->kind == DISK_WRITE || op->by_writing)
        return transfer(d, op);
    return allocate(d, op);
}
