/* See conn.h. */
#include "daemon/conn.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/buf.h"

#define CONN_READ_BYTES 65536

struct conn {
    uv_pipe_t pipe;
    uv_timer_t linger;
    unsigned handles; /* that are not closed yet; the last one frees */
    const struct conn_ops *ops;
    void *owner; /* borrowed; NULL once closed was called */
    struct buf in;
    size_t pending;
    bool open, held, closing, delivering, high;
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
    uv_timer_init(loop, &c->linger);
    c->handles = 2;
    c->pipe.data = c->linger.data = c;
    return c;
}

static void on_closed(uv_handle_t *handle)
{
    struct conn *c = handle->data;
    if (--c->handles)
        return;
    buf_fini(&c->in);
    free(c);
}

static void close_handles(struct conn *c)
{
    if (!uv_is_closing((uv_handle_t *)&c->pipe))
        uv_close((uv_handle_t *)&c->pipe, on_closed);
    if (!uv_is_closing((uv_handle_t *)&c->linger))
        uv_close((uv_handle_t *)&c->linger, on_closed);
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
    close_handles(c);
}

/* What came is no frame: the owner may say so to the peer, then it is over. */
static void refuse(struct conn *c, const struct err *err)
{
    if (!c->closing && c->ops->refused)
        c->ops->refused(c->owner, err);
    shut(c, err->text);
}

/* An idle connection holds no buffer. */
static void forget_read(struct conn *c, size_t done)
{
    buf_consume(&c->in, done);
    if (c->in.len == 0) {
        size_t max = c->in.max;
        buf_fini(&c->in);
        buf_init(&c->in, max);
    }
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
    forget_read(c, done);
    if (n < 0)
        refuse(c, &err);
}

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *out)
{
    struct conn *c = handle->data;
    uint8_t *to = buf_reserve(&c->in, CONN_READ_BYTES);
    *out = uv_buf_init((char *)to, to ? CONN_READ_BYTES : 0);
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
    struct conn *c = stream->data;
    if (n < 0) {
        shut(c, n == UV_EOF ? "the peer closed the connection" : uv_strerror((int)n));
        return;
    }
    c->in.len += (size_t)n;
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

int conn_fd(const struct conn *c)
{
    uv_os_fd_t fd;
    return uv_fileno((const uv_handle_t *)&c->pipe, &fd) < 0 ? -1 : fd;
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
    int fd = conn_fd(c);
    if (fd >= 0)
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

static void on_shutdown(uv_shutdown_t *req, int status)
{
    struct conn *c = req->data;
    close_handles(c);
    free(req);
}

static void on_linger(uv_timer_t *timer)
{
    close_handles(timer->data);
}

/* Waits for the queue to drain, but not for ever for a peer that does not read. */
static bool flush_then_close(struct conn *c)
{
    uv_shutdown_t *req = malloc(sizeof(*req));
    if (!req)
        return false;
    req->data = c;
    if (uv_shutdown(req, (uv_stream_t *)&c->pipe, on_shutdown) < 0) {
        free(req);
        return false;
    }
    return uv_timer_start(&c->linger, on_linger, CONN_LINGER_MS, 0) == 0;
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
        close_handles(c);
}
