/*
 * Guests that move by several connections; one of them that is cut or frozen; and connections that
 * show a token which is wrong, or was shown before.
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
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
#include "proto/frame.h"
#include "proto/migrate.pb-c.h"
#include "tests/kvm/health.h"
#include "tests/kvm/host.h"
#include "tests/kvm/rig.h"

#define OUT_MAX 65536
#define CONNECTIONS_MAX 8u

/* A wire that remembers what each caller says first, and breaks one connection at a byte. */
struct tap {
    char address[64], to[64];
    unsigned broken; /* this one, from 1; 0 for none */
    bool freezes;    /* instead of being cut */
    size_t at;
    int listener;
    _Atomic unsigned count;
    struct {
        uint8_t data[512];
        _Atomic size_t bytes;
    } said[CONNECTIONS_MAX];
};

struct way {
    struct tap *tap;
    int from, to;
    unsigned number; /* of the connection; 0 for the way back */
};

static int call(const char *address)
{
    struct sockaddr_in at = {.sin_family = AF_INET};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    at.sin_port = htons((uint16_t)atoi(strchr(address, ':') + 1));
    if (connect(fd, (struct sockaddr *)&at, sizeof(at)) != 0)
        _exit(99);
    return fd;
}

static void remember(struct way *w, const uint8_t *data, size_t n)
{
    size_t have = w->tap->said[w->number - 1].bytes;
    size_t room = sizeof(w->tap->said[0].data) - have;
    n = n < room ? n : room;
    memcpy(w->tap->said[w->number - 1].data + have, data, n);
    w->tap->said[w->number - 1].bytes = have + n;
}

static void *way_main(void *arg)
{
    static _Thread_local uint8_t room[65536];
    struct way *w = arg;
    size_t done = 0;
    bool frozen = false;
    for (ssize_t n; (n = recv(w->from, room, sizeof(room), 0)) > 0; done += (size_t)n) {
        bool hit = w->number && w->number == w->tap->broken && w->tap->at < done + (size_t)n;
        if (w->number && w->number <= CONNECTIONS_MAX)
            remember(w, room, (size_t)n);
        frozen = hit && w->tap->freezes;
        if (hit || send(w->to, room, (size_t)n, MSG_NOSIGNAL) != n)
            break;
    }
    if (!frozen) { /* a frozen one stays open, and the sockets with it */
        shutdown(w->from, SHUT_RDWR);
        shutdown(w->to, SHUT_RDWR);
    }
    free(w);
    return NULL;
}

static void start_way(struct tap *t, int from, int to, unsigned number)
{
    pthread_t thread;
    struct way *w = calloc(1, sizeof(*w));
    if (!w)
        _exit(99);
    *w = (struct way){.tap = t, .from = from, .to = to, .number = number};
    if (pthread_create(&thread, NULL, way_main, w) != 0)
        _exit(99);
    pthread_detach(thread);
}

static void *accept_main(void *arg)
{
    struct tap *t = arg;
    for (int fd; (fd = accept4(t->listener, NULL, NULL, SOCK_CLOEXEC)) >= 0;) {
        int peer = call(t->to);
        unsigned number = ++t->count;
        start_way(t, fd, peer, number);
        start_way(t, peer, fd, 0);
    }
    return NULL;
}

static void tap_start(struct tap *t)
{
    pthread_t thread;
    struct sockaddr_in at = {.sin_family = AF_INET};
    socklen_t len = sizeof(at);
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    t->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(t->listener, (struct sockaddr *)&at, sizeof(at)), 0);
    assert_int_equal(listen(t->listener, 16), 0);
    assert_int_equal(getsockname(t->listener, (struct sockaddr *)&at, &len), 0);
    snprintf(t->address, sizeof(t->address), "127.0.0.1:%u", ntohs(at.sin_port));
    assert_int_equal(pthread_create(&thread, NULL, accept_main, t), 0);
    pthread_detach(thread);
}

static struct tap *make_tap(const char *to)
{
    static struct tap taps[16]; /* their threads outlive the test */
    static unsigned used;
    struct tap *t = &taps[used++];
    snprintf(t->to, sizeof(t->to), "%s", to);
    return t;
}

static void start_two(struct host h[2])
{
    host_start_listening(&h[0]);
    host_start_listening(&h[1]);
    host_must(&h[0], "start web --kernel %%G/dirty.elf --memory 48M --cmdline rate=max");
    expect_healthy(&h[0], "web");
}

static void stop_two(struct host h[2])
{
    host_stop(&h[0]);
    host_stop(&h[1]);
}

/* A guest that writes as fast as it can finds every page as it left it. */
static void it_arrives_by_several(void **state)
{
    static const char *const options[] = {"--streams 3", "--streams 8 --compress zstd",
                                          "--streams 2 --compress off", "--streams 4"};
    struct host h[2];
    start_two(h);
    for (unsigned i = 0; i < 4; i++) {
        struct tap *t = make_tap(h[!(i % 2)].address);
        struct host *from = &h[i % 2], *to = &h[!(i % 2)];
        unsigned verdicts = count_verdicts(from, "web");
        tap_start(t);
        host_must(from, "migrate web %s %s", t->address, options[i]);
        assert_int_equal(t->count, atoi(options[i] + strlen("--streams ")));
        host_expect_state(to, "web", "running", 1000);
        expect_more(to, "web", verdicts);
    }
    stop_two(h);
}

struct broken {
    unsigned number;
    bool freezes;
    size_t at;
};

static void one_breaks(void **state)
{
    static char out[OUT_MAX];
    const struct broken *b = *state;
    struct host h[2];
    start_two(h);
    struct tap *t = make_tap(h[1].address);
    t->broken = b->number;
    t->freezes = b->freezes;
    t->at = b->at;
    tap_start(t);
    unsigned verdicts = count_verdicts(&h[0], "web");
    assert_int_equal(host_run(&h[0], out, sizeof(out), "migrate web %s --streams 3", t->address),
                     1);
    host_expect_state(&h[0], "web", "running", 1000);
    host_expect(&h[1], "there is no VM", 10000, "show web");
    expect_more(&h[0], "web", verdicts);
    host_must(&h[0], "migrate web %s --streams 3", h[1].address);
    expect_healthy(&h[1], "web");
    stop_two(h);
}

/* tokens -------------------------------------------------------------------------------------- */

/* Says a hello of its own, and expects to be refused with these words. */
static void expect_refused(const char *address, const Ferry__PeerHello *hello, const char *words)
{
    static uint8_t answer[65536];
    struct buf out;
    struct err err;
    size_t n = 0;
    int fd = call(address);
    buf_init(&out, 65536);
    assert_int_equal(frame_pack(&hello->base, &out, &err), 0);
    assert_int_equal(send(fd, out.data, out.len, MSG_NOSIGNAL), out.len);
    for (ssize_t got; (got = recv(fd, answer + n, sizeof(answer) - n, 0)) > 0;)
        n += (size_t)got;
    close(fd);
    buf_fini(&out);
    assert_true(n > 4 && le_get(answer, 4) == n - 4);
    Ferry__PeerAnswer *a =
        (Ferry__PeerAnswer *)frame_unpack(&ferry__peer_answer__descriptor, answer + 4, n - 4, &err);
    assert_non_null(a);
    assert_int_equal(a->n_reasons, 1);
    if (!strstr(a->reasons[0], words))
        fail_msg("it says: %s", a->reasons[0]);
    frame_free(&a->base);
}

/* What the second caller said. */
static Ferry__PeerHello *overhear_join(struct tap *t)
{
    struct err err;
    for (unsigned i = 0; i < CONNECTIONS_MAX; i++) {
        const uint8_t *said = t->said[i].data;
        size_t bytes = t->said[i].bytes;
        if (bytes < 4 || le_get(said, 4) > bytes - 4)
            continue;
        Ferry__PeerHello *h = (Ferry__PeerHello *)frame_unpack(&ferry__peer_hello__descriptor,
                                                               said + 4, le_get(said, 4), &err);
        if (h && h->body_case == FERRY__PEER_HELLO__BODY_JOIN)
            return h;
        frame_free((ProtobufCMessage *)h);
    }
    return NULL;
}

static void tokens_are_good_once(void **state)
{
    struct host h[2];
    start_two(h);
    struct tap *t = make_tap(h[1].address);
    tap_start(t);
    host_must(&h[0], "migrate web %s --streams 2 --bandwidth 1M --detach", t->address);
    Ferry__PeerHello *hello = overhear_join(t);
    for (unsigned looks = 0; !hello && looks < 1000; looks++) {
        poll(NULL, 0, 5);
        hello = overhear_join(t);
    }
    assert_non_null(hello);
    assert_int_equal(hello->join->number, 1);
    expect_refused(h[1].address, hello, "connection 1 has come already");
    hello->join->number = 2;
    expect_refused(h[1].address, hello, "number 2 of 2");
    hello->join->number = 0;
    expect_refused(h[1].address, hello, "number 0 of 2");
    hello->join->number = 1;
    hello->join->token.data[3] ^= 1;
    expect_refused(h[1].address, hello, "no guest waits for a connection with that token");
    hello->join->token.data[3] ^= 1;
    hello->join->token.len--;
    expect_refused(h[1].address, hello, "no guest waits");
    hello->join->token.len++;
    host_must(&h[0], "migration cancel web"); /* none of it has hindered the guest */
    host_expect(&h[1], "there is no VM", 10000, "show web");
    expect_refused(h[1].address, hello, "no guest waits");
    frame_free(&hello->base);
    host_must(&h[0], "migrate web %s --streams 2", h[1].address);
    expect_healthy(&h[1], "web");
    stop_two(h);
}

int main(void)
{
    static struct broken brokens[] = {
        {1, false, 300000}, {2, false, 40}, {3, false, 300000}, {2, true, 300000}, {2, false, 0},
    };
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_arrives_by_several),
        cmocka_unit_test(tokens_are_good_once),
        {"the first is cut", one_breaks, NULL, NULL, &brokens[0]},
        {"the second is cut at its beginning", one_breaks, NULL, NULL, &brokens[1]},
        {"the third is cut", one_breaks, NULL, NULL, &brokens[2]},
        {"the second freezes", one_breaks, NULL, NULL, &brokens[3]},
        {"the second cannot join", one_breaks, NULL, NULL, &brokens[4]},
    };
    rig_need_kvm();
    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
