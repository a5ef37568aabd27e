/* See fds.h. */
#include "daemon/fds.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "proto/frame.h"

union control {
    char room[CMSG_SPACE(sizeof(int) * FDS_MAX)];
    struct cmsghdr align;
};

void fds_init(struct fds *fds)
{
    fds->count = 0;
    for (unsigned i = 0; i < FDS_MAX; i++)
        fds->fd[i] = -1;
}

void fds_close(struct fds *fds)
{
    for (unsigned i = 0; i < fds->count; i++)
        if (fds->fd[i] >= 0)
            close(fds->fd[i]);
    fds_init(fds);
}

int fds_take(struct fds *fds, unsigned i)
{
    if (i >= fds->count)
        return -1;
    int fd = fds->fd[i];
    fds->fd[i] = -1;
    return fd;
}

static ssize_t send_some(int socket, const void *data, size_t len, const int *fd, unsigned count)
{
    struct iovec iov = {.iov_base = (void *)data, .iov_len = len};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
    union control control;
    if (count) {
        memset(&control, 0, sizeof(control));
        msg.msg_control = &control;
        msg.msg_controllen = CMSG_SPACE(sizeof(int) * count);
        struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof(int) * count);
        memcpy(CMSG_DATA(c), fd, sizeof(int) * count);
    }
    ssize_t n;
    do
        n = sendmsg(socket, &msg, MSG_NOSIGNAL);
    while (n < 0 && errno == EINTR);
    return n;
}

int fds_send(int socket, const void *frame, size_t len, const int *fd, unsigned count,
             struct err *err)
{
    const char *at = frame;
    if (count > FDS_MAX)
        return err_set(err, EINVAL, "%u descriptors are too many for one message", count);
    while (len) {
        ssize_t n = send_some(socket, at, len, fd, count);
        if (n < 0)
            return err_sys(err, errno, "cannot send to the worker");
        at += n;
        len -= (size_t)n;
        count = 0;
    }
    return 0;
}

int fds_send_message(int socket, const ProtobufCMessage *message, const int *fd, unsigned count,
                     struct err *err)
{
    struct buf out;
    buf_init(&out, FRAME_HEAD_BYTES + FRAME_BODY_MAX);
    int rc = frame_pack(message, &out, err);
    if (rc == 0)
        rc = fds_send(socket, out.data, out.len, fd, count, err);
    buf_fini(&out);
    return rc;
}

static void keep_fds(struct msghdr *msg, struct fds *fds)
{
    for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
            continue;
        unsigned n = (unsigned)((c->cmsg_len - CMSG_LEN(0)) / sizeof(int));
        for (unsigned i = 0; i < n; i++) {
            int fd;
            memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(int));
            if (fds->count < FDS_MAX)
                fds->fd[fds->count++] = fd;
            else
                close(fd);
        }
    }
}

/* Exactly `len` bytes; a descriptor that comes on the way is kept. */
static int receive_all(int socket, uint8_t *to, size_t len, struct fds *fds, struct err *err)
{
    while (len) {
        union control control;
        struct iovec iov = {.iov_base = to, .iov_len = len};
        struct msghdr msg = {.msg_iov = &iov,
                             .msg_iovlen = 1,
                             .msg_control = &control,
                             .msg_controllen = sizeof(control)};
        ssize_t n = recvmsg(socket, &msg, MSG_CMSG_CLOEXEC);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_sys(err, errno, "cannot receive");
        if (n == 0)
            return err_set(err, ECONNRESET, "the peer closed the connection");
        keep_fds(&msg, fds);
        to += n;
        len -= (size_t)n;
    }
    return 0;
}

int fds_receive(int socket, struct buf *body, struct fds *fds, struct err *err)
{
    uint8_t head[FRAME_HEAD_BYTES];
    body->len = 0;
    int rc = receive_all(socket, head, sizeof(head), fds, err);
    if (rc < 0)
        return rc;
    ssize_t size = frame_body_size(head, err);
    if (size < 0)
        return (int)size;
    uint8_t *to = buf_reserve(body, (size_t)size);
    if (!to)
        return err_set(err, ENOMEM, "no memory for a frame of %zd bytes", size);
    rc = receive_all(socket, to, (size_t)size, fds, err);
    if (rc == 0)
        body->len = (size_t)size;
    return rc;
}
