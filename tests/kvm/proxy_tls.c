/* See proxy_tls.h. */
#include "tests/kvm/proxy_tls.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/le.h"
#include "base/now.h"
#include "migrate/stream_socket.h"
#include "migrate/stream_tls.h"
#include "migrate/tls_session.h"

#define PATIENCE_NS 10000000000ull
#define ROOM 65536u

/* One of the two daemons, and what comes from it. */
struct leg {
    int fd;
    struct tls_session *session;
    struct stream_socket socket;
    struct stream_tls tls;
    uint8_t head[WIRE_HEAD_BYTES];
    size_t head_bytes;
    uint64_t left; /* of a frame whose head went on */
};

struct link {
    struct proxy_tls *proxy;
    struct leg legs[2]; /* 0: who called */
    uint8_t room[ROOM];
};

/* before the workers -------------------------------------------------------------------------- */

static bool wait_for(int fd, short want)
{
    struct pollfd p = {.fd = fd, .events = want};
    return poll(&p, 1, (int)(PATIENCE_NS / 1000000)) > 0;
}

static bool greet(struct leg *l)
{
    short want;
    struct err err;
    int rc;
    while ((rc = tls_session_greet(l->session, &want, &err)) == -EAGAIN)
        if (!wait_for(l->fd, want))
            return false;
    return rc == 0;
}

static bool read_all(struct leg *l, uint8_t *to, size_t bytes)
{
    short want;
    struct err err;
    for (size_t done = 0; done < bytes;) {
        ssize_t n = tls_session_read(l->session, to + done, bytes - done, &want, &err);
        if (n == -EAGAIN ? !wait_for(l->fd, want) : n <= 0)
            return false;
        done += n > 0 ? (size_t)n : 0;
    }
    return true;
}

static bool pass_message(struct link *l, unsigned from)
{
    short want;
    struct err err;
    uint8_t *m = l->room;
    if (!read_all(&l->legs[from], m, 4) || le_get(m, 4) > ROOM - 4 ||
        !read_all(&l->legs[from], m + 4, le_get(m, 4)))
        return false;
    size_t bytes = 4 + le_get(m, 4);
    return tls_session_write(l->legs[!from].session, m, bytes, &want, &err) == (ssize_t)bytes;
}

static bool go_over(struct leg *l, enum stream_tls_role role)
{
    struct tls_key key;
    struct err err;
    stream_socket_init(&l->socket, l->fd);
    return tls_session_export(l->session, &key, &err) == 0 &&
           stream_tls_init(&l->tls, &l->socket.stream, role, key.bytes, &err) == 0;
}

static bool introduce(struct link *l)
{
    struct err err;
    l->legs[0].session = tls_session_new(l->proxy->identity, l->legs[0].fd, NULL, &err);
    l->legs[1].session = tls_session_new(l->proxy->identity, l->legs[1].fd, "127.0.0.1", &err);
    return l->legs[0].session && l->legs[1].session && greet(&l->legs[0]) && greet(&l->legs[1]) &&
           pass_message(l, 0) && pass_message(l, 1) && go_over(&l->legs[0], STREAM_TLS_ANSWERS) &&
           go_over(&l->legs[1], STREAM_TLS_ASKS);
}

/* frames -------------------------------------------------------------------------------------- */

static bool send_on(struct leg *to, uint8_t *data, size_t bytes)
{
    struct err err;
    const struct stream *s = &to->tls.stream;
    for (size_t done = 0; done < bytes;) {
        const struct iovec iov = {data + done, bytes - done};
        ssize_t n = s->ops->write(s->ctx, &iov, 1, now_ns() + PATIENCE_NS, &err);
        if (n <= 0)
            return false;
        done += (size_t)n;
    }
    return true;
}

static bool is_hit(struct proxy_tls *p, unsigned kind)
{
    return kind == p->kind && !atomic_exchange(&p->was_cut, true);
}

/* The head of a frame is whole; false when it was the last. */
static bool take_head(struct link *l, struct leg *from, struct leg *to)
{
    bool hit = is_hit(l->proxy, from->head[2]);
    if (hit && !l->proxy->pass_on)
        return false;
    from->left = le_get(from->head + 4, 4) + le_get(from->head + 8, 8);
    from->head_bytes = 0;
    return send_on(to, from->head, sizeof(from->head)) && !hit;
}

/* 1 when something went on, 0 when nothing is there, -1 at the end. */
static int pump(struct link *l, unsigned number)
{
    struct err err;
    struct leg *from = &l->legs[number], *to = &l->legs[!number];
    const struct stream *s = &from->tls.stream;
    struct iovec iov = {from->head + from->head_bytes, sizeof(from->head) - from->head_bytes};
    if (from->left)
        iov = (struct iovec){l->room, from->left < ROOM ? from->left : ROOM};
    ssize_t n = s->ops->read(s->ctx, &iov, 1, 0, &err);
    if (n <= 0)
        return n == -ETIMEDOUT ? 0 : -1;
    if (from->left) {
        from->left -= (uint64_t)n;
        return send_on(to, l->room, (size_t)n) ? 1 : -1;
    }
    from->head_bytes += (size_t)n;
    if (from->head_bytes < sizeof(from->head))
        return 1;
    return take_head(l, from, to) ? 1 : -1;
}

static void pass_frames(struct link *l)
{
    for (;;) {
        int there = pump(l, 0), back = there < 0 ? -1 : pump(l, 1);
        struct pollfd p[2] = {{l->legs[0].fd, POLLIN, 0}, {l->legs[1].fd, POLLIN, 0}};
        if (there < 0 || back < 0)
            return;
        if (there == 0 && back == 0)
            poll(p, 2, (int)(PATIENCE_NS / 1000000));
    }
}

static void *link_main(void *arg)
{
    struct link *l = arg;
    if (introduce(l))
        pass_frames(l);
    for (unsigned i = 0; i < 2; i++) {
        shutdown(l->legs[i].fd, SHUT_RDWR);
        tls_session_free(l->legs[i].session);
        stream_tls_fini(&l->legs[i].tls);
        close(l->legs[i].fd);
    }
    free(l);
    return NULL;
}

static int connect_to(const char *address)
{
    struct sockaddr_in at = {.sin_family = AF_INET};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    at.sin_port = htons((uint16_t)atoi(strchr(address, ':') + 1));
    if (connect(fd, (struct sockaddr *)&at, sizeof(at)) != 0)
        _exit(99);
    fcntl(fd, F_SETFL, O_NONBLOCK);
    return fd;
}

static void *accept_main(void *arg)
{
    struct proxy_tls *p = arg;
    pthread_t thread;
    for (int fd; (fd = accept4(p->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK)) >= 0;) {
        struct link *l = calloc(1, sizeof(*l));
        if (!l)
            _exit(99);
        l->proxy = p;
        l->legs[0].fd = fd;
        l->legs[1].fd = connect_to(p->to);
        if (pthread_create(&thread, NULL, link_main, l) != 0)
            _exit(99);
        pthread_detach(thread);
    }
    return NULL;
}

void proxy_tls_start(struct proxy_tls *p)
{
    pthread_t thread;
    struct sockaddr_in at = {.sin_family = AF_INET};
    socklen_t len = sizeof(at);
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    p->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(p->listener, (struct sockaddr *)&at, sizeof(at)), 0);
    assert_int_equal(listen(p->listener, 16), 0);
    assert_int_equal(getsockname(p->listener, (struct sockaddr *)&at, &len), 0);
    snprintf(p->address, sizeof(p->address), "127.0.0.1:%u", ntohs(at.sin_port));
    assert_int_equal(pthread_create(&thread, NULL, accept_main, p), 0);
    pthread_detach(thread);
}
