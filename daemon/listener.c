/* See listener.h. */
#include "daemon/listener.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "daemon/dial.h"
#include "daemon/incoming.h"
#include "daemon/timeout.h"
#include "proto/frame.h"

#define LISTENER_BACKLOG 128

TAILQ_HEAD(caller_list, caller);

struct listener {
    uv_poll_t poll;
    int fd; /* owned */
    struct daemon *daemon;
    struct caller_list callers;
    unsigned count;
};

struct caller {
    TAILQ_ENTRY(caller) all;
    struct listener *listener; /* NULL once it is closing */
    struct daemon *daemon;
    uv_poll_t poll;
    int fd; /* owned until libuv has let go of it */
    struct buf in;
    struct timeout *patience;
    bool heard; /* its hello is whole; it waits for the answer */
    char name[PEER_ADDRESS_MAX];
};

static void on_caller_closed(uv_handle_t *handle)
{
    struct caller *c = handle->data;
    close(c->fd);
    buf_fini(&c->in);
    free(c);
}

static void caller_close(struct caller *c)
{
    if (!c->listener)
        return;
    timeout_cancel(&c->patience);
    incoming_forget(c);
    TAILQ_REMOVE(&c->listener->callers, c, all);
    c->listener->count--;
    c->listener = NULL;
    uv_close((uv_handle_t *)&c->poll, on_caller_closed);
}

static void caller_refuse(struct caller *c, const struct err *why)
{
    log_warn("%s: %s", c->name, why->text);
    caller_close(c);
}

static void on_silent(void *ctx)
{
    struct err err = {0};
    err_set(&err, ETIMEDOUT, "said no hello for %u s", LISTENER_HELLO_MS / 1000);
    caller_refuse(ctx, &err);
}

int caller_copy_socket(const struct caller *c, struct err *err)
{
    int fd = fcntl(c->fd, F_DUPFD_CLOEXEC, 3);
    return fd < 0 ? err_sys(err, errno, "cannot copy a socket") : fd;
}

const char *caller_name(const struct caller *c)
{
    return c->name;
}

/* An answer is small and the first thing that goes this way: the socket has room for all of it, or
 * it is no peer of ours. */
void caller_answer(struct caller *c, Ferry__PeerAnswer *answer)
{
    struct err err = {0};
    struct buf out;
    answer->version = PEER_PROTOCOL;
    answer->release = (char *)(uintptr_t)FERRY_VERSION;
    buf_init(&out, FRAME_HEAD_BYTES + PEER_BODY_MAX);
    if (frame_pack(&answer->base, &out, &err) == 0 &&
        send(c->fd, out.data, out.len, MSG_NOSIGNAL | MSG_DONTWAIT) != (ssize_t)out.len)
        err_set(&err, EPIPE, "does not take its answer");
    buf_fini(&out);
    if (err.code)
        caller_refuse(c, &err);
    else
        caller_close(c);
}

static int dispatch(struct caller *c, struct err *err)
{
    Ferry__PeerHello *hello = (Ferry__PeerHello *)frame_unpack(&ferry__peer_hello__descriptor,
                                                               c->in.data + FRAME_HEAD_BYTES,
                                                               c->in.len - FRAME_HEAD_BYTES, err);
    if (!hello)
        return -err->code;
    int rc = 0;
    c->heard = true;
    uv_poll_stop(&c->poll);
    timeout_cancel(&c->patience);
    if (hello->min_version > PEER_PROTOCOL || hello->max_version < PEER_PROTOCOL)
        rc = err_set(err, EPROTONOSUPPORT, "speaks versions %u to %u of the protocol, not %u",
                     hello->min_version, hello->max_version, PEER_PROTOCOL);
    else if (hello->body_case == FERRY__PEER_HELLO__BODY_OFFER)
        incoming_offer(c->daemon, c, hello->offer);
    else if (hello->body_case == FERRY__PEER_HELLO__BODY_QUERY)
        incoming_query(c->daemon, c, hello->query);
    else
        rc = err_set(err, EPROTO, "said hello and nothing else");
    frame_free(&hello->base);
    return rc;
}

/* How many bytes of the hello are still to come. */
static ssize_t missing(const struct caller *c, struct err *err)
{
    if (c->in.len < FRAME_HEAD_BYTES)
        return (ssize_t)(FRAME_HEAD_BYTES - c->in.len);
    ssize_t body = frame_body_size(c->in.data, err);
    if (body > (ssize_t)PEER_BODY_MAX)
        return err_set(err, EMSGSIZE, "its hello has %zd bytes", body);
    return body < 0 ? body : body + (ssize_t)FRAME_HEAD_BYTES - (ssize_t)c->in.len;
}

/* 1 when the hello is whole. */
static int hear(struct caller *c, struct err *err)
{
    ssize_t want = missing(c, err);
    while (want > 0) {
        uint8_t *to = buf_reserve(&c->in, (size_t)want);
        if (!to)
            return err_set(err, ENOMEM, "no memory for a hello");
        ssize_t n = recv(c->fd, to, (size_t)want, MSG_DONTWAIT);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            return 0;
        if (n < 0)
            return err_sys(err, errno, "broke off");
        if (n == 0)
            return err_set(err, ECONNRESET, "left in the middle of its hello");
        c->in.len += (size_t)n;
        want = missing(c, err);
    }
    return want < 0 ? (int)want : 1;
}

static void on_caller(uv_poll_t *poll, int status, int events)
{
    struct caller *c = poll->data;
    struct err err = {0};
    int rc = status < 0 ? err_set(&err, -status, "broke off") : hear(c, &err);
    if (rc > 0)
        rc = dispatch(c, &err);
    if (rc < 0)
        caller_refuse(c, &err);
}

static void name_caller(struct caller *c, const struct sockaddr_storage *from, socklen_t len)
{
    struct peer_address a = {.host = "?", .port = "0"};
    getnameinfo((const struct sockaddr *)from, len, a.host, sizeof(a.host), a.port, sizeof(a.port),
                NI_NUMERICHOST | NI_NUMERICSERV);
    peer_address_format(&a, c->name, sizeof(c->name));
}

static int take_caller(struct listener *l, int fd, const struct sockaddr_storage *from,
                       socklen_t len, struct err *err)
{
    struct caller *c = calloc(1, sizeof(*c));
    if (!c)
        return err_set(err, ENOMEM, "no memory for a caller");
    c->daemon = l->daemon;
    c->fd = fd;
    buf_init(&c->in, FRAME_HEAD_BYTES + PEER_BODY_MAX);
    dial_prepare_socket(fd);
    name_caller(c, from, len);
    int rc = uv_poll_init(&l->daemon->loop, &c->poll, fd);
    if (rc < 0) {
        free(c);
        return err_sys(err, -rc, "cannot listen to a caller");
    }
    c->poll.data = c;
    c->listener = l;
    TAILQ_INSERT_TAIL(&l->callers, c, all);
    l->count++;
    uv_poll_start(&c->poll, UV_READABLE, on_caller);
    timeout_set(&c->patience, &l->daemon->loop, LISTENER_HELLO_MS, on_silent, c);
    return 0;
}

static void on_arrival(uv_poll_t *poll, int status, int events)
{
    struct listener *l = poll->data;
    struct sockaddr_storage from = {0};
    socklen_t len = sizeof(from);
    struct err err = {0};
    int fd = accept4(l->fd, (struct sockaddr *)&from, &len, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0)
        return;
    int rc = l->count >= LISTENER_CALLERS_MAX
                 ? err_set(&err, EUSERS, "too many ferryds call at once")
                 : take_caller(l, fd, &from, len, &err);
    if (rc < 0) {
        log_warn("%s", err.text);
        close(fd);
    }
}

/* opening ------------------------------------------------------------------------------------- */

static int listen_on(const struct addrinfo *a, struct err *err)
{
    int on = 1;
    CLEAN(clean_fd)
    int fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, a->ai_protocol);
    if (fd < 0)
        return err_sys(err, errno, "cannot make a socket");
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (bind(fd, a->ai_addr, a->ai_addrlen) < 0 || listen(fd, LISTENER_BACKLOG) < 0)
        return err_sys(err, errno, "cannot listen");
    return steal_fd(&fd);
}

static int open_socket(const struct daemon_options *o, struct err *err)
{
    struct peer_address address;
    struct addrinfo *list = NULL;
    int rc = peer_address_parse(o->listen, &address, err);
    if (rc == 0)
        rc = peer_address_resolve(&address, true, &list, err);
    if (rc < 0)
        return rc;
    if (!o->insecure && !peer_address_is_loopback(list))
        rc =
            err_set(err, EPERM,
                    "other hosts can reach %s, and what comes there is neither encrypted nor "
                    "asked who it is: listen on 127.0.0.1, or say --insecure on a network that you "
                    "trust",
                    o->listen);
    else
        rc = listen_on(list, err);
    freeaddrinfo(list);
    return rc < 0 ? err_wrap(err, "--listen %s", o->listen) : rc;
}

/* The port that the kernel chose, when it was asked for any. */
static void log_address(int fd)
{
    struct sockaddr_storage at = {0};
    struct peer_address a = {.host = "?", .port = "0"};
    char text[PEER_ADDRESS_MAX];
    socklen_t len = sizeof(at);
    if (getsockname(fd, (struct sockaddr *)&at, &len) == 0)
        getnameinfo((const struct sockaddr *)&at, len, a.host, sizeof(a.host), a.port,
                    sizeof(a.port), NI_NUMERICHOST | NI_NUMERICSERV);
    peer_address_format(&a, text, sizeof(text));
    log_info("listens for other hosts on %s", text);
}

int listener_open(struct daemon *d, struct err *err)
{
    if (!d->options.listen)
        return 0;
    CLEAN(clean_fd) int fd = open_socket(&d->options, err);
    struct listener *l = fd < 0 ? NULL : calloc(1, sizeof(*l));
    if (!l)
        return fd < 0 ? fd : err_set(err, ENOMEM, "no memory for the listener");
    int rc = uv_poll_init(&d->loop, &l->poll, fd);
    if (rc < 0) {
        free(l);
        return err_sys(err, -rc, "cannot listen for other hosts");
    }
    log_address(fd);
    l->fd = steal_fd(&fd);
    l->daemon = d;
    l->poll.data = l;
    TAILQ_INIT(&l->callers);
    uv_poll_start(&l->poll, UV_READABLE, on_arrival);
    d->listener = l;
    return 0;
}

static void on_closed(uv_handle_t *handle)
{
    struct listener *l = handle->data;
    close(l->fd);
    free(l);
}

void listener_close(struct daemon *d)
{
    struct caller *c;
    struct listener *l = d->listener;
    if (!l)
        return;
    while ((c = TAILQ_FIRST(&l->callers)))
        caller_close(c);
    d->listener = NULL;
    uv_close((uv_handle_t *)&l->poll, on_closed);
}
