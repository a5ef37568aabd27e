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
#include <unistd.h>

#include <cmocka.h>

#include "base/le.h"

/* One way of one connection. */
struct way {
    struct proxy *proxy;
    int from, to;
    _Atomic int *users; /* of both sockets */
};

static bool pass(const struct way *w, uint8_t *data, size_t bytes, bool forward)
{
    size_t done = 0;
    while (done < bytes) {
        ssize_t n = recv(w->from, data + done, bytes - done, 0);
        if (n <= 0)
            return false;
        done += (size_t)n;
    }
    return !forward || send(w->to, data, bytes, MSG_NOSIGNAL) == (ssize_t)bytes;
}

static bool pass_long(const struct way *w, uint64_t bytes)
{
    static _Thread_local uint8_t room[65536];
    while (bytes) {
        size_t step = bytes < sizeof(room) ? (size_t)bytes : sizeof(room);
        if (!pass(w, room, step, true))
            return false;
        bytes -= step;
    }
    return true;
}

/* False when it was the last. */
static bool pass_frame(const struct way *w)
{
    uint8_t head[WIRE_HEAD_BYTES];
    struct proxy *p = w->proxy;
    if (!pass(w, head, sizeof(head), false))
        return false;
    bool hit = head[2] == p->kind && !atomic_exchange(&p->was_cut, head[2] == p->kind);
    if (hit && !p->pass_on)
        return false;
    if (send(w->to, head, sizeof(head), MSG_NOSIGNAL) != (ssize_t)sizeof(head))
        return false;
    return pass_long(w, le_get(head + 4, 4)) && pass_long(w, le_get(head + 8, 8)) && !hit;
}

static void *way_main(void *arg)
{
    struct way *w = arg;
    uint8_t length[4];
    if (pass(w, length, sizeof(length), true) && pass_long(w, le_get(length, 4)))
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

static void start_way(struct proxy *p, int from, int to, _Atomic int *users)
{
    pthread_t thread;
    struct way *w = calloc(1, sizeof(*w));
    if (!w)
        _exit(99);
    *w = (struct way){.proxy = p, .from = from, .to = to, .users = users};
    if (pthread_create(&thread, NULL, way_main, w) != 0)
        _exit(99);
    pthread_detach(thread);
}

static void *accept_main(void *arg)
{
    struct proxy *p = arg;
    for (int fd; (fd = accept4(p->listener, NULL, NULL, SOCK_CLOEXEC)) >= 0;) {
        int peer = connect_to(p->to);
        _Atomic int *users = calloc(1, sizeof(*users));
        if (peer < 0 || !users)
            _exit(99);
        *users = 2;
        start_way(p, fd, peer, users);
        start_way(p, peer, fd, users);
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
