/*
 * See disk.h: requests by io_uring. What ends while it is being submitted (the page cache has it)
 * is reaped by the submitter, without a signal of the event descriptor; all else signals it.
 */
#include <errno.h>
#include <liburing.h>
#include <stdlib.h>

#include "machine/disk.h"

static int ring_init(struct disk *d, struct err *err)
{
    struct io_uring *ring = calloc(1, sizeof(*ring));
    if (!ring)
        return err_set(err, ENOMEM, "no memory for an io_uring");
    int rc = io_uring_queue_init(DISK_IN_FLIGHT_MAX, ring, 0);
    if (rc < 0) {
        free(ring);
        return err_sys(err, -rc, "cannot make an io_uring");
    }
    rc = io_uring_register_eventfd(ring, d->event_fd);
    if (rc < 0) {
        io_uring_queue_exit(ring);
        free(ring);
        return err_sys(err, -rc, "cannot hear of an io_uring");
    }
    d->data = ring;
    return 0;
}

static void ring_fini(struct disk *d)
{
    io_uring_queue_exit(d->data);
    free(d->data);
}

/* There is a place for each request that may be in flight. */
static void ring_queue(struct disk *d, struct disk_op *op)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(d->data);
    if (op->by_writing)
        io_uring_prep_writev(sqe, d->fd, &op->zeroes, 1, op->at + op->done);
    else if (op->kind == DISK_READ)
        io_uring_prep_readv(sqe, d->fd, op->iov, op->niov, op->at);
    else if (op->kind == DISK_WRITE)
        io_uring_prep_writev(sqe, d->fd, op->iov, op->niov, op->at);
    else if (op->kind == DISK_FLUSH)
        io_uring_prep_fsync(sqe, d->fd, IORING_FSYNC_DATASYNC);
    else
        io_uring_prep_fallocate(sqe, d->fd, disk_fallocate_mode(op), (off_t)op->at,
                                (off_t)op->bytes);
    io_uring_sqe_set_data(sqe, op);
}

/* A kernel that is short of memory for the moment is asked again. */
static void submit(struct io_uring *ring)
{
    int rc;
    do
        rc = io_uring_submit(ring);
    while (rc == -EINTR || rc == -EAGAIN || rc == -EBUSY);
}

static void ring_kick(struct disk *d)
{
    io_uring_cq_eventfd_toggle(d->data, false);
    submit(d->data);
    io_uring_cq_eventfd_toggle(d->data, true);
}

/* false: it goes on. */
static bool ended(struct disk *d, struct disk_op *op, int res)
{
    bool transfers = op->kind == DISK_READ || op->kind == DISK_WRITE;
    if (op->by_writing && res > 0 && op->done + (unsigned)res < op->bytes) {
        op->done += (unsigned)res;
    } else if (op->kind == DISK_ZEROES && res == -EOPNOTSUPP && !op->by_writing) {
        op->done = 0;
    } else {
        op->result = res < 0 ? res : 0;
        if (op->kind == DISK_DISCARD && res == -EOPNOTSUPP)
            op->result = 0;
        op->done = res > 0 ? (unsigned)res : 0;
        /* Seldom: the rest of a short transfer, and what asks to be tried again. */
        if ((transfers && res >= 0 && op->done < op->bytes) || res == -EAGAIN || res == -EINTR)
            op->result = disk_do(d, op);
        return true;
    }
    disk_next_zeroes(op);
    ring_queue(d, op);
    submit(d->data);
    return false;
}

static struct disk_op *ring_reap(struct disk *d, bool wait)
{
    struct io_uring_cqe *cqe;
    for (;;) {
        if (wait)
            submit(d->data); /* what could not be submitted before would be waited for in vain */
        int rc = wait ? io_uring_wait_cqe(d->data, &cqe) : io_uring_peek_cqe(d->data, &cqe);
        if (rc == -EINTR)
            continue;
        if (rc < 0)
            return NULL;
        struct disk_op *op = io_uring_cqe_get_data(cqe);
        int res = cqe->res;
        io_uring_cqe_seen(d->data, cqe);
        if (ended(d, op, res))
            return op;
    }
}

const struct disk_engine disk_ring = {
    .name = "io_uring",
    .init = ring_init,
    .fini = ring_fini,
    .queue = ring_queue,
    .kick = ring_kick,
    .reap = ring_reap,
};
