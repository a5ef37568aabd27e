/* See proxy.h. */
#include "tests/kvm/proxy.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/le.h"
#include "base/now.h"

#define PATIENCE_NS 60000000000ull

/* One way of one connection. */
struct way {
    struct proxy *proxy;
    int from, to;
    unsigned first;     /* message */
    _Atomic int *users; /* of both sockets */
};

static bool get(const struct way *w, uint8_t *to, size_t bytes)
{
    size_t done = 0;
    while (done < bytes) {
        ssize_t n = recv(w->from, to + done, bytes - done, 0);
        if (n <= 0)
            return false;
        done += (size_t)n;
    }
    return true;
}

static bool put(const struct way *w, const uint8_t *data, size_t bytes)
{
    return send(w->to, data, bytes, MSG_NOSIGNAL) == (ssize_t)bytes;
}

/* With `turn`, a bit of the last byte. */
static bool pass(const struct way *w, uint64_t bytes, bool turn)
{
    static _Thread_local uint8_t room[65536];
    while (bytes) {
        size_t step = bytes < sizeof(room) ? (size_t)bytes : sizeof(room);
        if (!get(w, room, step))
            return false;
        bytes -= step;
        room[step - 1] ^= (uint8_t)(turn && !bytes);
        if (!put(w, room, step))
            return false;
    }
    return true;
}

static void hold(const struct proxy *p)
{
    while (!p->released)
        nanosleep(&(struct timespec){.tv_nsec = 2000000}, NULL);
}

/* Whether this is where it happens; once. */
static bool is_met(struct proxy *p, unsigned kind)
{
    if (kind != p->kind || p->met)
        return false;
    p->closed = p->closes;
    p->met = true;
    return true;
}

/* A message whose head has come; false when nothing goes on behind it. */
static bool pass_message(const struct way *w, unsigned kind, uint8_t *head, size_t head_bytes,
                         uint64_t rest)
{
    struct proxy *p = w->proxy;
    bool met = is_met(p, kind), corrupt = met && p->fault == PROXY_CORRUPT;
    bool cut = met && p->fault == PROXY_CUT, held = met && p->fault == PROXY_HOLD;
    if (cut && !p->pass_on)
        return false;
    if (held && !p->pass_on)
        hold(p);
    head[head_bytes - 1] ^= (uint8_t)(corrupt && !rest);
    if (!put(w, head, head_bytes) || !pass(w, rest, corrupt))
        return false;
    if (held && p->pass_on)
        hold(p);
    return !cut;
}

static bool pass_frame(const struct way *w)
{
    uint8_t head[WIRE_HEAD_BYTES];
    return get(w, head, sizeof(head)) &&
           pass_message(w, head[2], head, sizeof(head), le_get(head + 4, 4) + le_get(head + 8, 8));
}

static bool pass_greeting(const struct way *w)
{
    uint8_t length[4];
    return get(w, length, sizeof(length)) &&
           pass_message(w, w->first, length, sizeof(length), le_get(length, 4));
}

static void *way_main(void *arg)
{
    struct way *w = arg;
    if (pass_greeting(w))
        while (pass_frame(w)) {
        }
    shutdown(w->from, SHUT_RDWR);
    shutdown(w->to, SHUT_RDWR);
    if (atomic_fetch_sub(w->users, 1) == 1) {
        close(w->from);
        close(w->to);
        free(w->users);
    }
    free(w);
    return NULL;
}

static int connect_to(const char *address)
{
    struct sockaddr_in at = {.sin_family = AF_INET};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    at.sin_port = htons((uint16_t)atoi(strchr(address, ':') + 1));
    if (connect(fd, (struct sockaddr *)&at, sizeof(at)) == 0)
        return fd;
    close(fd);
    return -1;
}

static void start_way(struct proxy *p, unsigned first, int from, int to, _Atomic int *users)
{
    pthread_t thread;
    struct way *w = calloc(1, sizeof(*w));
    if (!w)
        _exit(99);
    *w = (struct way){.proxy = p, .from = from, .to = to, .first = first, .users = users};
    if (pthread_create(&thread, NULL, way_main, w) != 0)
        _exit(99);
    pthread_detach(thread);
}

static void *accept_main(void *arg)
{
    struct proxy *p = arg;
    for (int fd; (fd = accept4(p->listener, NULL, NULL, SOCK_CLOEXEC)) >= 0;) {
        int peer = p->closed ? -1 : connect_to(p->to);
        if (peer < 0) { /* also when nobody listens there for now */
            close(fd);
            continue;
        }
        _Atomic int *users = calloc(1, sizeof(*users));
        if (!users)
            _exit(99);
        *users = 2;
        start_way(p, PROXY_HELLO, fd, peer, users);
        start_way(p, PROXY_ANSWER, peer, fd, users);
    }
    return NULL;
}

void proxy_start(struct proxy *p)
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

void proxy_wait(struct proxy *p)
{
    uint64_t until = now_ns() + PATIENCE_NS;
    while (!p->met) {
        if (now_ns() > until)
            fail_msg("message %u does not come", p->kind);
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    }
}

void proxy_release(struct proxy *p)
{
    p->closed = false;
    p->released = true;
}
