/* See stream_socket.h. */
#include "migrate/stream_socket.h"

#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <sys/socket.h>

#include "base/now.h"

#define MS_NS 1000000u

/* 0 when it is ready, or -ETIMEDOUT. */
static int wait_until(int fd, short events, uint64_t until_ns, struct err *err)
{
    for (;;) {
        struct pollfd p = {.fd = fd, .events = events};
        uint64_t now = now_ns();
        int ms = now >= until_ns ? 0 : (int)((until_ns - now + MS_NS - 1) / MS_NS);
        int n = poll(&p, 1, ms);
        if (n > 0)
            return 0;
        if (n < 0 && errno != EINTR)
            return err_sys(err, errno, "cannot wait for the peer");
        if (n == 0 && now >= until_ns)
            return err_set(err, ETIMEDOUT, "the peer does not answer");
    }
}

static bool is_empty(int error)
{
    return error == EAGAIN || error == EWOULDBLOCK || error == EINTR;
}

static ssize_t socket_write(void *ctx, const struct iovec *iov, unsigned count, uint64_t until_ns,
                            struct err *err)
{
    const struct stream_socket *s = ctx;
    struct msghdr msg = {.msg_iov = (struct iovec *)(uintptr_t)iov, .msg_iovlen = count};
    for (;;) {
        ssize_t n = sendmsg(s->fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n > 0)
            return n;
        if (n < 0 && !is_empty(errno))
            return err_sys(err, errno, "the connection to the peer broke");
        int rc = wait_until(s->fd, POLLOUT, until_ns, err);
        if (rc < 0)
            return rc;
    }
}

static ssize_t socket_read(void *ctx, const struct iovec *iov, unsigned count, uint64_t until_ns,
                           struct err *err)
{
    const struct stream_socket *s = ctx;
    struct msghdr msg = {.msg_iov = (struct iovec *)(uintptr_t)iov, .msg_iovlen = count};
    for (;;) {
        ssize_t n = recvmsg(s->fd, &msg, MSG_DONTWAIT);
        if (n >= 0)
            return n;
        if (!is_empty(errno))
            return err_sys(err, errno, "the connection to the peer broke");
        int rc = wait_until(s->fd, POLLIN, until_ns, err);
        if (rc < 0)
            return rc;
    }
}

static uint64_t socket_now(void *ctx)
{
    return now_ns();
}

static const struct stream_ops ops = {
    .write = socket_write, .read = socket_read, .now_ns = socket_now};

void stream_socket_init(struct stream_socket *s, int fd)
{
    *s = (struct stream_socket){.stream = {.ops = &ops, .ctx = s}, .fd = fd};
}
