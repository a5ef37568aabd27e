/* See peer_line.h. */
#include "daemon/peer_line.h"

#include <errno.h>
#include <poll.h>
#include <sys/socket.h>

static ssize_t moved(ssize_t n, short event, short *want, struct err *err)
{
    if (n >= 0)
        return n;
    if (errno != EAGAIN && errno != EINTR)
        return err_sys(err, errno, "the connection broke");
    *want = event;
    return -EAGAIN;
}

ssize_t peer_line_send(const struct peer_line *l, const void *data, size_t bytes, short *want,
                       struct err *err)
{
    if (l->tls)
        return tls_session_write(l->tls, data, bytes, want, err);
    return moved(send(l->fd, data, bytes, MSG_NOSIGNAL | MSG_DONTWAIT), POLLOUT, want, err);
}

ssize_t peer_line_recv(const struct peer_line *l, void *to, size_t size, short *want,
                       struct err *err)
{
    if (l->tls)
        return tls_session_read(l->tls, to, size, want, err);
    return moved(recv(l->fd, to, size, MSG_DONTWAIT), POLLIN, want, err);
}
