/* See conn.h. */
#include "daemon/conn.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"

#define CONN_READ_BYTES 65536

struct conn {
    uv_pipe_t pipe;
    const struct conn_ops *ops;
    void *owner; /* borrowed; NULL once closed was called */
    struct buf in;
    size_t pending;
    bool open, held, closing, delivering, high;
    char read_space[CONN_READ_BYTES];
};

struct conn_write {
    uv_write_t req;
    struct conn *conn;
    size_t len;
    uint8_t data[];
};

struct conn *conn_new(uv_loop_t *loop, const struct conn_ops *ops, void *owner, struct err *err)
{
    struct conn *c = calloc(1, sizeof(*c));
    if (!c) {
        err_set(err, ENOMEM, "no memory for a connection");
        return NULL;
    }
    c->ops = ops;
    c->owner = owner;
    buf_init(&c->in, FRAME_HEAD_BYTES + FRAME_BODY_MAX + CONN_READ_BYTES);
    uv_pipe_init(loop, &c->pipe, 0);
    c->pipe.data = c;
    return c;
}

static void on_closed(uv_handle_t *handle)
{
    struct conn *c = handle->data;
    buf_fini(&c->in);
    free(c);
}

static void shut(struct conn *c, const char *why)
{
    if (c->closing)
        return;
    c->closing = true;
    uv_read_stop((uv_stream_t *)&c->pipe);
    void *owner = c->owner;
    c->owner = NULL;
    if (owner)
        c->ops->closed(owner, why);
    if (!uv_is_closing((uv_handle_t *)&c->pipe))
        uv_close((uv_handle_t *)&c->pipe, on_closed);
}

/* Hands out all whole frames in the buffer, unless held or closed on the way. */
static void deliver(struct conn *c)
{
    struct err err = {0};
    size_t done = 0;
    ssize_t n = 0;
    if (c->delivering)
        return;
    c->delivering = true;
    while (!c->closing && !c->held &&
           (n = frame_peek(c->in.data + done, c->in.len - done, &err)) > 0) {
        size_t body = (size_t)n - FRAME_HEAD_BYTES;
        int rc = c->ops->frame(c->owner, c->in.data + done + FRAME_HEAD_BYTES, body, &err);
        done += (size_t)n;
        if (rc < 0)
            n = rc;
        if (rc < 0)
            break;
    }
    c->delivering = false;
    buf_consume(&c->in, done);
    if (n < 0)
        shut(c, err.text);
}

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *out)
{
    struct conn *c = handle->data;
    *out = uv_buf_init(c->read_space, sizeof(c->read_space));
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
    struct conn *c = stream->data;
    if (n < 0) {
        shut(c, n == UV_EOF ? "the peer closed the connection" : uv_strerror((int)n));
        return;
    }
    if (buf_append(&c->in, buf->base, (size_t)n) < 0) {
        shut(c, "no memory for what the peer sent");
        return;
    }
    deliver(c);
}

static int start_reading(struct conn *c, struct err *err)
{
    int rc = uv_read_start((uv_stream_t *)&c->pipe, on_alloc, on_read);
    if (rc < 0)
        return err_sys(err, -rc, "cannot read from a connection");
    c->open = true;
    return 0;
}

int conn_open(struct conn *c, int fd, struct err *err)
{
    int rc = uv_pipe_open(&c->pipe, fd);
    if (rc < 0) {
        close(fd);
        return err_sys(err, -rc, "cannot use a connection");
    }
    return start_reading(c, err);
}

int conn_accept(struct conn *c, uv_stream_t *server, struct err *err)
{
    int rc = uv_accept(server, (uv_stream_t *)&c->pipe);
    if (rc < 0)
        return err_sys(err, -rc, "cannot accept a connection");
    return start_reading(c, err);
}

int conn_peer(struct conn *c, struct ucred *peer, struct err *err)
{
    uv_os_fd_t fd;
    socklen_t len = sizeof(*peer);
    if (uv_fileno((uv_handle_t *)&c->pipe, &fd) < 0 ||
        getsockopt(fd, SOL_SOCKET, SO_PEERCRED, peer, &len) < 0)
        return err_sys(err, errno, "cannot tell who the peer is");
    return 0;
}

static void on_written(uv_write_t *req, int status)
{
    struct conn_write *w = req->data;
    struct conn *c = w->conn;
    c->pending -= w->len;
    free(w);
    if (c->closing)
        return;
    if (status < 0) {
        shut(c, uv_strerror(status));
        return;
    }
    if (c->high && c->pending < CONN_PENDING_HIGH) {
        c->high = false;
        if (c->ops->drained)
            c->ops->drained(c->owner);
    }
}

static struct conn_write *pack(const ProtobufCMessage *message, struct err *err)
{
    struct buf out;
    buf_init(&out, FRAME_HEAD_BYTES + FRAME_BODY_MAX);
    if (frame_pack(message, &out, err) < 0) {
        buf_fini(&out);
        return NULL;
    }
    struct conn_write *w = malloc(sizeof(*w) + out.len);
    if (!w)
        err_set(err, ENOMEM, "no memory for a message");
    else {
        w->len = out.len;
        memcpy(w->data, out.data, out.len);
    }
    buf_fini(&out);
    return w;
}

static int queue(struct conn *c, struct conn_write *w, struct err *err)
{
    uv_buf_t out = uv_buf_init((char *)w->data, (unsigned)w->len);
    w->conn = c;
    w->req.data = w;
    int rc = uv_write(&w->req, (uv_stream_t *)&c->pipe, &out, 1, on_written);
    if (rc < 0) {
        free(w);
        return err_sys(err, -rc, "cannot send a message");
    }
    c->pending += w->len;
    c->high = c->high || c->pending >= CONN_PENDING_HIGH;
    return 0;
}

/* A failed write ends the stream of frames, so the connection ends; not from inside the caller,
 * which may hold the owner's data: reading finds the shut socket and closes. */
static void cut(struct conn *c)
{
    uv_os_fd_t fd;
    if (uv_fileno((uv_handle_t *)&c->pipe, &fd) == 0)
        shutdown(fd, SHUT_RDWR);
}

int conn_send(struct conn *c, const ProtobufCMessage *message, struct err *err)
{
    if (c->closing)
        return err_set(err, EPIPE, "the connection is closed");
    if (c->pending > CONN_PENDING_MAX) {
        cut(c);
        return err_set(err, EPIPE, "the peer does not read");
    }
    struct conn_write *w = pack(message, err);
    int rc = w ? queue(c, w, err) : -err->code;
    if (rc < 0)
        cut(c);
    return rc;
}

size_t conn_pending(const struct conn *c)
{
    return c->pending;
}

void conn_hold(struct conn *c, bool hold)
{
    if (c->held == hold || c->closing)
        return;
    c->held = hold;
    if (hold) {
        uv_read_stop((uv_stream_t *)&c->pipe);
        return;
    }
    uv_read_start((uv_stream_t *)&c->pipe, on_alloc, on_read);
    deliver(c);
}

struct conn_shutdown {
    uv_shutdown_t req;
    struct conn *conn;
};

static void on_shutdown(uv_shutdown_t *req, int status)
{
    struct conn_shutdown *s = req->data;
    if (!uv_is_closing((uv_handle_t *)&s->conn->pipe))
        uv_close((uv_handle_t *)&s->conn->pipe, on_closed);
    free(s);
}

/* Waits for the queue to drain; a peer that never reads is the kernel's to buffer: when it takes
 * nothing at all, the queue stays until the peer closes or dies. */
static bool flush_then_close(struct conn *c)
{
    struct conn_shutdown *s = malloc(sizeof(*s));
    if (!s)
        return false;
    s->conn = c;
    s->req.data = s;
    if (uv_shutdown(&s->req, (uv_stream_t *)&c->pipe, on_shutdown) < 0) {
        free(s);
        return false;
    }
    return true;
}

void conn_close(struct conn *c, bool flush)
{
    if (c->closing)
        return;
    if (!flush || !c->open || c->pending == 0) {
        shut(c, "");
        return;
    }
    c->closing = true;
    uv_read_stop((uv_stream_t *)&c->pipe);
    void *owner = c->owner;
    c->owner = NULL;
    c->ops->closed(owner, "");
    if (!flush_then_close(c))
        uv_close((uv_handle_t *)&c->pipe, on_closed);
}
