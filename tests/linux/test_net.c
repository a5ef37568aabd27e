/*
 * Linux and its network: a TCP connection to a program in the guest stays open, and not a byte of
 * it is lost, while the guest is saved, restored and moved between two hosts (tests/kvm/wired.h).
 */
#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/now.h"
#include "tests/kvm/network.h"
#include "tests/kvm/rig.h"
#include "tests/kvm/talk.h"
#include "tests/kvm/wired.h"
#include "tests/linux/linux.h"

#define CPUS 2u
#define PORT 5000
#define ON_ITS_WAY 32768u /* bytes sent and not yet back */
#define PIECE 4096u
#define PATIENCE_NS 240000000000ull
#define MOVES 2

static struct linux_kernel kernel;

/* A stream to the guest, which sends all of it back. */
struct stream {
    int fd, stop_fd; /* owned */
    pthread_t thread;
    uint64_t sent; /* of the thread */
    atomic_ulong back;
    atomic_bool broken;
};

static uint8_t byte_at(uint64_t n)
{
    return (uint8_t)(n * 31 + (n >> 8) * 7 + (n >> 16));
}

static void send_more(struct stream *s)
{
    uint8_t piece[PIECE];
    for (unsigned i = 0; i < PIECE; i++)
        piece[i] = byte_at(s->sent + i);
    ssize_t n = send(s->fd, piece, sizeof(piece), MSG_DONTWAIT | MSG_NOSIGNAL);
    s->sent += n > 0 ? (uint64_t)n : 0;
    if (n < 0 && errno != EAGAIN)
        s->broken = true;
}

static void take_back(struct stream *s)
{
    uint8_t piece[PIECE];
    ssize_t n = recv(s->fd, piece, sizeof(piece), MSG_DONTWAIT);
    for (ssize_t i = 0; i < n; i++)
        if (piece[i] != byte_at(s->back + (uint64_t)i))
            s->broken = true;
    if (n == 0 || (n < 0 && errno != EAGAIN))
        s->broken = true;
    s->back += n > 0 ? (unsigned long)n : 0;
}

static void *run(void *ctx)
{
    struct stream *s = ctx;
    struct pollfd polls[] = {{.fd = s->stop_fd, .events = POLLIN}, {.fd = s->fd}};
    while (!s->broken) {
        polls[1].events = (short)(POLLIN | (s->sent - s->back < ON_ITS_WAY ? POLLOUT : 0));
        if (poll(polls, 2, -1) < 0 || polls[0].revents)
            break;
        if (polls[1].revents & POLLOUT)
            send_more(s);
        if (polls[1].revents & ~POLLOUT)
            take_back(s);
    }
    return NULL;
}

/* The program there may still be on its way to listen. */
static int reach_guest(void)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(PORT)};
    uint64_t until = now_ns() + PATIENCE_NS;
    inet_pton(AF_INET, TALK_GUEST, &to.sin_addr);
    for (;;) {
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (connect(fd, (struct sockaddr *)&to, sizeof(to)) == 0)
            return fd;
        if (now_ns() > until)
            fail_msg("the guest cannot be reached: %s", strerror(errno));
        close(fd);
        nanosleep(&(struct timespec){.tv_nsec = 200000000}, NULL);
    }
}

static void stream_start(struct stream *s)
{
    *s = (struct stream){.fd = reach_guest(), .stop_fd = eventfd(0, EFD_CLOEXEC)};
    assert_int_equal(pthread_create(&s->thread, NULL, run, s), 0);
}

static void stream_stop(struct stream *s)
{
    eventfd_write(s->stop_fd, 1);
    pthread_join(s->thread, NULL);
    close(s->fd);
    close(s->stop_fd);
}

/* So many bytes come back from now on. */
static void stream_expect(struct stream *s, unsigned long more)
{
    unsigned long wanted = s->back + more;
    uint64_t until = now_ns() + PATIENCE_NS;
    while (s->back < wanted) {
        if (s->broken || now_ns() > until)
            fail_msg("the connection %s, %lu bytes before", s->broken ? "broke" : "stands",
                     wanted - s->back);
        nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
    }
}

static void start_guest(struct host *h)
{
    const struct linux_options options = {
        .name = "web", .kernel = "bzImage", .cpus = CPUS, .more = "--net bridge=br0"};
    linux_start(h, &kernel, &options);
    linux_expect(h, "web", "init: ready cpus=2", 1);
    assert_int_equal(linux_ask(h, "web", NULL, 0,
                               "run busybox ip addr add " TALK_GUEST "/24 dev eth0 && "
                               "busybox ip link set eth0 up"),
                     0);
    assert_int_equal(linux_ask(h, "web", NULL, 0,
                               "run busybox nc -l -p 5000 -e busybox cat </dev/null >/dev/null "
                               "2>&1 &"),
                     0);
    linux_expect_no_complaint(h, "web", true);
}

static void check(struct host *h, struct stream *s)
{
    stream_expect(s, 2 * ON_ITS_WAY);
    linux_expect_healthy(h, "web", CPUS);
    linux_expect_no_complaint(h, "web", false);
}

static void a_connection_stays_open(void **state)
{
    struct wired w;
    struct stream s;
    wired_start(&w);
    start_guest(&w.h[0]);
    stream_start(&s);
    stream_expect(&s, 2 * ON_ITS_WAY);
    host_must(&w.h[0], "pause web");
    host_must(&w.h[0], "resume web");
    host_must(&w.h[0], "snapshot create web live");
    check(&w.h[0], &s);
    host_must(&w.h[0], "snapshot create web last --stop");
    host_expect(&w.h[0], "stopped", 5000, "list");
    host_must(&w.h[0], "rm web");
    host_must(&w.h[0], "restore last");
    check(&w.h[0], &s);
    for (unsigned i = 0; i < MOVES; i++) {
        host_must(&w.h[i % 2], "migrate web %s", w.address[!(i % 2)]);
        check(&w.h[!(i % 2)], &s);
    }
    stream_stop(&s);
    host_must(&w.h[0], "kill web");
    wired_stop(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_connection_stays_open),
    };
    rig_need_kvm();
    network_need();
    linux_need(&kernel);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
