/*
 * Both engines with several connections, over real sockets, a fake guest that writes while it is
 * copied, and one connection that breaks. A page must never be overwritten by an older version of
 * it: the target compares all of memory.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "migrate/lanes_out.h"
#include "migrate/source.h"
#include "migrate/stream_socket.h"
#include "migrate/target.h"
#include "tests/sim/fake_guest.h"

#define PAGES 2048u
#define EPOCH 5u
#define STREAMS_MAX (LANES_MAX + 1u)

enum fault { FAULT_NONE, FAULT_CUT, FAULT_FREEZE, FAULT_GARBAGE };

/* A wire of which one way, from the source, goes through a thread that may break it. */
struct wire {
    int source, ours[2], target;
    pthread_t thread;
    bool has_thread;
    enum fault fault;
    size_t at;
};

struct world {
    struct wire wires[STREAMS_MAX];
    struct stream_socket ends[2][STREAMS_MAX];
    unsigned streams, told; /* as the target has them */
    struct fake_guest guest;
    uint8_t *ram;
    bool handed_off, taken;
    struct source_report report;
    struct err err, target_err;
};

static void break_wire(struct wire *w, uint8_t *data, size_t n, size_t done)
{
    if (w->fault == FAULT_GARBAGE && done <= w->at && w->at < done + n)
        data[w->at - done] ^= 0x40;
    if (w->fault == FAULT_CUT && w->at < done + n)
        shutdown(w->ours[0], SHUT_RDWR);
}

static void *wire_main(void *arg)
{
    static _Thread_local uint8_t room[65536];
    struct wire *w = arg;
    size_t done = 0;
    for (ssize_t n; (n = recv(w->ours[0], room, sizeof(room), 0)) > 0; done += (size_t)n) {
        if (w->fault == FAULT_FREEZE && w->at < done + (size_t)n)
            break;
        break_wire(w, room, (size_t)n, done);
        if (send(w->ours[1], room, (size_t)n, MSG_NOSIGNAL) != n)
            break;
    }
    if (w->fault != FAULT_FREEZE) {
        shutdown(w->ours[0], SHUT_RDWR);
        shutdown(w->ours[1], SHUT_RDWR);
    }
    return NULL;
}

static void make_wire(struct wire *w, enum fault fault, size_t at)
{
    int a[2], b[2];
    *w = (struct wire){.fault = fault, .at = at};
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, a), 0);
    w->source = a[0];
    w->target = a[1];
    w->ours[0] = w->ours[1] = -1;
    if (fault == FAULT_NONE)
        return;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, b), 0);
    w->ours[0] = a[1];
    w->ours[1] = b[0];
    w->target = b[1];
    w->has_thread = true;
    assert_int_equal(pthread_create(&w->thread, NULL, wire_main, w), 0);
}

static void end_wire(struct wire *w)
{
    shutdown(w->source, SHUT_RDWR);
    shutdown(w->target, SHUT_RDWR);
    if (w->has_thread) {
        shutdown(w->ours[0], SHUT_RDWR);
        pthread_join(w->thread, NULL);
        close(w->ours[0]);
        close(w->ours[1]);
    }
    close(w->source);
    close(w->target);
}

/* the engines' owners ------------------------------------------------------------------------- */

static int on_cargo_out(void *ctx, bool last, struct buf *out, struct err *err)
{
    return 0;
}

static int on_hand_off(void *ctx, struct err *err)
{
    struct world *w = ctx;
    w->handed_off = true;
    return 0;
}

static int on_cargo_in(void *ctx, struct span piece, struct err *err)
{
    return 0;
}

static int on_load(void *ctx, struct span state, struct err *err)
{
    return 0;
}

static int on_take_over(void *ctx, uint64_t *taken_ns, struct err *err)
{
    struct world *w = ctx;
    w->taken = true;
    return 0;
}

static void on_settle(void *ctx)
{
}

static unsigned on_lanes(void *ctx, const struct stream **to)
{
    struct world *w = ctx;
    for (unsigned i = 1; i < w->told; i++)
        to[i - 1] = &w->ends[1][i].stream;
    return w->told - 1;
}

static const struct source_ops source_ops = {.cargo = on_cargo_out, .hand_off = on_hand_off};
static const struct target_ops target_ops = {.cargo = on_cargo_in,
                                             .load = on_load,
                                             .take_over = on_take_over,
                                             .settle = on_settle,
                                             .lanes = on_lanes};

static void *target_main(void *arg)
{
    struct world *w = arg;
    struct target_report report;
    const struct target_options o = {.epoch = EPOCH,
                                     .ram = w->ram,
                                     .ram_bytes = PAGES * (uint64_t)GUEST_PAGE,
                                     .ops = &target_ops,
                                     .ctx = w};
    target_run(&w->ends[1][0].stream, &o, &report, &w->target_err);
    return NULL;
}

static void make(struct world *w, unsigned streams, uint64_t seed, unsigned broken,
                 enum fault fault, size_t at)
{
    memset(w, 0, sizeof(*w));
    w->streams = w->told = streams;
    for (unsigned i = 0; i < streams; i++) {
        make_wire(&w->wires[i], i == broken ? fault : FAULT_NONE, at);
        stream_socket_init(&w->ends[0][i], w->wires[i].source);
        stream_socket_init(&w->ends[1][i], w->wires[i].target);
    }
    fake_guest_init(&w->guest, PAGES, seed);
    for (unsigned i = 0; i < 4 * PAGES; i++)
        fake_guest_write(&w->guest);
    w->guest.races = 40;
    w->ram = aligned_alloc(GUEST_PAGE, PAGES * (size_t)GUEST_PAGE);
    assert_non_null(w->ram);
    memset(w->ram, 0, PAGES * (size_t)GUEST_PAGE);
}

static void run(struct world *w, enum packing_mode packing)
{
    pthread_t thread;
    const struct stream *lanes[LANES_MAX];
    struct source_options o = {.epoch = EPOCH,
                               .on_stall = CONVERGE_FORCE,
                               .packing = packing,
                               .lanes = lanes,
                               .nlanes = w->streams - 1,
                               .ops = &source_ops,
                               .ctx = w};
    for (unsigned i = 1; i < w->streams; i++)
        lanes[i - 1] = &w->ends[0][i].stream;
    assert_int_equal(pthread_create(&thread, NULL, target_main, w), 0);
    source_run(&w->guest.guest, &w->ends[0][0].stream, &o, &w->report, &w->err);
    for (unsigned i = 0; i < w->streams; i++)
        shutdown(w->wires[i].source, SHUT_WR);
    pthread_join(thread, NULL);
}

static void unmake(struct world *w)
{
    for (unsigned i = 0; i < w->streams; i++)
        end_wire(&w->wires[i]);
    fake_guest_fini(&w->guest);
    free(w->ram);
}

static void expect_moved(const struct world *w)
{
    if (w->report.end != SOURCE_MOVED)
        fail_msg("it stays: %s; %s", w->err.text, w->target_err.text);
    assert_true(w->taken && !w->guest.running);
    assert_memory_equal(w->ram, w->guest.ram, PAGES * (size_t)GUEST_PAGE);
}

static void expect_stays(const struct world *w)
{
    assert_int_equal(w->report.end, SOURCE_FAILED);
    assert_true(w->guest.running && !w->taken && !w->handed_off);
    assert_int_equal(fake_guest_consumers(&w->guest), 0);
    assert_true(w->err.text[0] && w->target_err.text[0]);
}

/* tests --------------------------------------------------------------------------------------- */

static void all_of_it_arrives(void **state)
{
    static const enum packing_mode modes[] = {PACKING_NEVER, PACKING_ALWAYS, PACKING_AUTO};
    unsigned seeds = getenv("FERRY_LONG") ? 100 : 8;
    for (uint64_t seed = 1; seed <= seeds; seed++)
        for (unsigned streams = 1; streams <= STREAMS_MAX; streams += streams < 3 ? 1 : 5) {
            struct world w;
            make(&w, streams, seed, 0, FAULT_NONE, 0);
            run(&w, modes[seed % 3]);
            expect_moved(&w);
            assert_true(w.report.rounds > 1);
            unmake(&w);
        }
}

/* Each of them, early and late, has the guest stay. */
static void one_that_is_cut_fails_all(void **state)
{
    static const size_t places[] = {0, 31, 5000, 900000};
    for (unsigned fault = FAULT_CUT; fault <= FAULT_GARBAGE; fault++)
        for (unsigned broken = 1; broken < 3 && fault != FAULT_FREEZE; broken++)
            for (unsigned i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
                struct world w;
                make(&w, 3, 1, broken, fault, places[i]);
                run(&w, PACKING_NEVER);
                if (w.report.end == SOURCE_MOVED) /* the page came again, whole */
                    expect_moved(&w);
                else
                    expect_stays(&w);
                if (fault == FAULT_CUT || places[i] < 5000)
                    expect_stays(&w);
                unmake(&w);
            }
}

static void one_that_freezes_fails_all(void **state)
{
    struct world w;
    make(&w, 3, 1, 2, FAULT_FREEZE, 5000);
    run(&w, PACKING_NEVER);
    expect_stays(&w);
    assert_non_null(strstr(w.target_err.text, "dead or frozen"));
    assert_non_null(strstr(w.target_err.text, "data connection 2"));
    unmake(&w);
}

/* A source that says to have more connections than are here, or fewer. */
static void the_number_must_fit(void **state)
{
    for (unsigned told = 2; told <= 4; told += 2) {
        struct world w;
        make(&w, told == 2 ? 3 : 4, 1, 0, FAULT_NONE, 0);
        w.told = told == 2 ? 2 : 3;
        run(&w, PACKING_NEVER);
        expect_stays(&w);
        assert_non_null(strstr(w.target_err.text, "connections are here"));
        unmake(&w);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_of_it_arrives),
        cmocka_unit_test(one_that_is_cut_fails_all),
        cmocka_unit_test(one_that_freezes_fails_all),
        cmocka_unit_test(the_number_must_fit),
    };
    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
