/* See listener.h. */
#include "daemon/listener.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "daemon/dial.h"
#include "daemon/incoming.h"
#include "daemon/join.h"
#include "daemon/peer_line.h"
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
    struct peer_line line; /* owned until libuv has let go of it */
    struct buf in;
    struct timeout *patience;
    bool greeted; /* no TLS handshake is to come any more */
    bool heard;   /* its hello is whole; it waits for the answer */
    char name[PEER_ADDRESS_MAX + TLS_NAME_CHARS];
};

static void on_caller_closed(uv_handle_t *handle)
{
    struct caller *c = handle->data;
    tls_session_free(c->line.tls);
    close(c->line.fd);
    buf_fini(&c->in);
    free(c);
}

static void caller_close(struct caller *c)
{
    if (!c->listener)
        return;
    timeout_cancel(&c->patience);
    incoming_forget(c);
    join_forget(c);
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
    struct caller *c = ctx;
    struct err err = {0};
    err_set(&err, ETIMEDOUT, "%s for %u s",
            c->greeted ? "said no hello" : "did not go on with the TLS handshake",
            LISTENER_HELLO_MS / 1000);
    caller_refuse(c, &err);
}

int caller_copy_socket(const struct caller *c, struct err *err)
{
    int fd = fcntl(c->line.fd, F_DUPFD_CLOEXEC, 3);
    return fd < 0 ? err_sys(err, errno, "cannot copy a socket") : fd;
}

int caller_export_key(const struct caller *c, struct tls_key *key, struct err *err)
{
    *key = (struct tls_key){0};
    return c->line.tls ? tls_session_export(c->line.tls, key, err) : 0;
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
    short unused;
    answer->version = PEER_PROTOCOL;
    answer->release = (char *)(uintptr_t)FERRY_VERSION;
    buf_init(&out, FRAME_HEAD_BYTES + PEER_BODY_MAX);
    int rc = frame_pack(&answer->base, &out, &err);
    while (rc == 0 && out.len) {
        ssize_t n = peer_line_send(&c->line, out.data, out.len, &unused, &err);
        if (n > 0)
            buf_consume(&out, (size_t)n);
        else
            rc = err_set(&err, EPIPE, "does not take its answer");
    }
    buf_fini(&out);
    if (err.code)
        caller_refuse(c, &err);
    else
        caller_close(c);
}

/* A refusal that says why. */
static void answer_refusal(struct caller *c, const struct err *why)
{
    Ferry__PeerAnswer answer = FERRY__PEER_ANSWER__INIT;
    char *reason = (char *)(uintptr_t)why->text;
    log_warn("%s: %s", c->name, why->text);
    answer.reasons = &reason;
    answer.n_reasons = 1;
    caller_answer(c, &answer);
}

static int take(struct caller *c, const Ferry__PeerHello *hello, struct err *err)
{
    if (hello->min_version > PEER_PROTOCOL || hello->max_version < PEER_PROTOCOL)
        return err_set(err, EPROTONOSUPPORT, "speaks versions %u to %u of the protocol, not %u",
                       hello->min_version, hello->max_version, PEER_PROTOCOL);
    if (hello->body_case == FERRY__PEER_HELLO__BODY_OFFER)
        incoming_offer(c->daemon, c, hello->offer);
    else if (hello->body_case == FERRY__PEER_HELLO__BODY_QUERY)
        incoming_query(c->daemon, c, hello->query);
    else if (hello->body_case == FERRY__PEER_HELLO__BODY_JOIN)
        join_arrived(c->daemon, c, hello->join);
    else
        return err_set(err, EPROTO, "said hello and nothing else");
    return 0;
}

/* What a caller says that may not come is not even looked at. */
static int dispatch(struct caller *c, struct err *err)
{
    c->heard = true;
    uv_poll_stop(&c->poll);
    timeout_cancel(&c->patience);
    if (c->line.tls && tls_session_refusal(c->line.tls, err) < 0) {
        answer_refusal(c, err);
        return 0;
    }
    Ferry__PeerHello *hello = (Ferry__PeerHello *)frame_unpack(&ferry__peer_hello__descriptor,
                                                               c->in.data + FRAME_HEAD_BYTES,
                                                               c->in.len - FRAME_HEAD_BYTES, err);
    int rc = hello ? take(c, hello, err) : -err->code;
    frame_free((ProtobufCMessage *)hello);
    return rc;
}

/* A greeting of TLS begins with a handshake record of version 3.x; as the length of a hello that
 * would be too much. */
static bool is_tls(const uint8_t *bytes, size_t count)
{
    return bytes[0] == 0x16 && (count < 2 || bytes[1] == 3);
}

/* How many bytes of the hello are still to come. */
static ssize_t missing(const struct caller *c, struct err *err)
{
    if (c->in.len < FRAME_HEAD_BYTES)
        return (ssize_t)(FRAME_HEAD_BYTES - c->in.len);
    ssize_t body = frame_body_size(c->in.data, err);
    bool too_long = body < 0 || body > (ssize_t)PEER_BODY_MAX;
    if (too_long && !c->line.tls && is_tls(c->in.data, c->in.len))
        return err_set(err, EPROTO, "speaks TLS, and this ferryd was started without --tls");
    if (body > (ssize_t)PEER_BODY_MAX)
        return err_set(err, EMSGSIZE, "its hello has %zd bytes", body);
    return body < 0 ? body : body + (ssize_t)FRAME_HEAD_BYTES - (ssize_t)c->in.len;
}

/* 1 when the hello is whole, -EAGAIN when more has to come. */
static int hear(struct caller *c, short *wanted, struct err *err)
{
    ssize_t want = missing(c, err);
    while (want > 0) {
        uint8_t *to = buf_reserve(&c->in, (size_t)want);
        if (!to)
            return err_set(err, ENOMEM, "no memory for a hello");
        ssize_t n = peer_line_recv(&c->line, to, (size_t)want, wanted, err);
        if (n < 0)
            return (int)n;
        if (n == 0)
            return err_set(err, ECONNRESET, "left in the middle of its hello");
        c->in.len += (size_t)n;
        want = missing(c, err);
    }
    return want < 0 ? (int)want : 1;
}

/* Who speaks plainly to a daemon with --tls is told so, plainly. */
static int begin_tls(struct caller *c, struct err *err)
{
    uint8_t bytes[2];
    ssize_t n = recv(c->line.fd, bytes, sizeof(bytes), MSG_PEEK | MSG_DONTWAIT);
    if (n > 0 && !is_tls(bytes, (size_t)n)) {
        err_set(err, EKEYREJECTED,
                "that host takes guests over TLS only, and was called without it: --tls");
        c->heard = true;
        uv_poll_stop(&c->poll);
        answer_refusal(c, err);
        return 0;
    }
    c->line.tls = tls_session_new(c->daemon->tls, c->line.fd, NULL, err);
    return c->line.tls ? 0 : -err->code;
}

static void add_name(struct caller *c)
{
    size_t n = strlen(c->name);
    snprintf(c->name + n, sizeof(c->name) - n, " (%s)", c->line.tls->name);
}

static int greet(struct caller *c, short *wanted, struct err *err)
{
    int rc = c->line.tls ? 0 : begin_tls(c, err);
    if (rc < 0 || c->heard)
        return rc;
    rc = tls_session_greet(c->line.tls, wanted, err);
    c->greeted = rc == 0;
    if (c->greeted)
        add_name(c);
    return rc;
}

static int go_on(struct caller *c, short *wanted, struct err *err)
{
    int rc = c->greeted ? 0 : greet(c, wanted, err);
    if (rc == 0 && !c->heard)
        rc = hear(c, wanted, err);
    return rc > 0 ? dispatch(c, err) : rc;
}

static void on_caller(uv_poll_t *poll, int status, int events)
{
    struct caller *c = poll->data;
    struct err err = {0};
    short wanted = POLLIN;
    int rc = status < 0 ? err_set(&err, -status, "broke off") : go_on(c, &wanted, &err);
    if (rc == -EAGAIN)
        uv_poll_start(poll, wanted == POLLOUT ? UV_WRITABLE : UV_READABLE, on_caller);
    else if (rc < 0)
        caller_refuse(c, &err);
}

static void name_caller(struct caller *c, const struct sockaddr_storage *from, socklen_t len)
{
    struct peer_address a = {.host = "?", .port = "0"};
    getnameinfo((const struct sockaddr *)from, len, a.host, sizeof(a.host), a.port, sizeof(a.port),
                NI_NUMERICHOST | NI_NUMERICSERV);
    peer_address_format(&a, c->name, PEER_ADDRESS_MAX);
}

static int take_caller(struct listener *l, int fd, const struct sockaddr_storage *from,
                       socklen_t len, struct err *err)
{
    struct caller *c = calloc(1, sizeof(*c));
    if (!c)
        return err_set(err, ENOMEM, "no memory for a caller");
    c->daemon = l->daemon;
    c->line.fd = fd;
    c->greeted = !l->daemon->tls;
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
    if (!o->tls && !o->insecure && !peer_address_is_loopback(list))
        rc = err_set(err, EPERM,
                     "other hosts can reach %s, and what comes there is neither encrypted nor "
                     "asked who it is: give it a --tls directory, listen on 127.0.0.1, or say "
                     "--insecure on a network that you trust",
                     o->listen);
    else
        rc = listen_on(list, err);
    freeaddrinfo(list);
    return rc < 0 ? err_wrap(err, "--listen %s", o->listen) : rc;
}

/* The port that the kernel chose, when it was asked for any. */
static void log_address(int fd, bool tls)
{
    struct sockaddr_storage at = {0};
    struct peer_address a = {.host = "?", .port = "0"};
    char text[PEER_ADDRESS_MAX];
    socklen_t len = sizeof(at);
    if (getsockname(fd, (struct sockaddr *)&at, &len) == 0)
        getnameinfo((const struct sockaddr *)&at, len, a.host, sizeof(a.host), a.port,
                    sizeof(a.port), NI_NUMERICHOST | NI_NUMERICSERV);
    peer_address_format(&a, text, sizeof(text));
    log_info("listens for other hosts on %s%s", text, tls ? " by TLS" : "");
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
    log_address(fd, d->tls);
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
