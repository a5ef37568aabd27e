/*
 * Both engines, a fake guest between them, and a wire in memory with virtual time, plain or with
 * TLS in it, that breaks at a byte: cut, garbage, or frozen. Whatever happens, the guest runs at
 * one end, or is in doubt with the truth in the records: never two that run, and nothing lost that
 * ran.
 */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "migrate/source.h"
#include "migrate/stream_tls.h"
#include "migrate/target.h"
#include "tests/sim/fake_guest.h"

#define PAGES 128u
#define WIRE_ROOM 262144u
#define EPOCH 5u
#define DENSE 72u /* RUNNING, or HANDOFF and a half before it */
#define DENSE_TLS 120u

enum fault { FAULT_NONE, FAULT_CUT, FAULT_GARBAGE, FAULT_FREEZE, FAULTS };

/* One direction. */
struct lane {
    uint8_t *data; /* a ring */
    uint64_t written, read;
    bool closed, frozen;
};

struct wire {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct lane lanes[2]; /* 0: from the source */
    uint64_t now_ns;
    uint64_t waits_until[2]; /* of each end; 0 while it works; UINT64_MAX once it is gone */
    enum fault fault;
    unsigned fault_lane;
    uint64_t fault_at; /* byte of that lane */
};

struct end {
    struct stream stream;
    struct stream_tls tls;
    const struct stream *top; /* one of the two */
    struct wire *wire;
    unsigned number; /* writes to its lane, reads from the other */
};

/* Nobody can go on: the clock jumps to where somebody gives up. Locked. */
static void pass_time(struct wire *w)
{
    uint64_t a = w->waits_until[0], b = w->waits_until[1], first = a < b ? a : b;
    if (a && b && first != UINT64_MAX && first > w->now_ns) {
        w->now_ns = first;
        pthread_cond_broadcast(&w->changed);
    }
}

/* Locked; false when the time is over. */
static bool wait_for_wire(struct end *e, uint64_t until)
{
    struct wire *w = e->wire;
    if (w->now_ns >= until)
        return false;
    w->waits_until[e->number] = until;
    pass_time(w);
    if (w->now_ns < until)
        pthread_cond_wait(&w->changed, &w->lock);
    w->waits_until[e->number] = 0;
    return true;
}

static void wake(struct wire *w)
{
    w->waits_until[0] = w->waits_until[0] == UINT64_MAX ? UINT64_MAX : 0;
    w->waits_until[1] = w->waits_until[1] == UINT64_MAX ? UINT64_MAX : 0;
    pthread_cond_broadcast(&w->changed);
}

static void put(struct wire *w, unsigned number, uint8_t byte)
{
    struct lane *l = &w->lanes[number];
    bool here = w->fault && number == w->fault_lane && l->written == w->fault_at;
    if (here && w->fault == FAULT_CUT)
        w->lanes[0].closed = w->lanes[1].closed = true;
    if (here && w->fault == FAULT_FREEZE)
        l->frozen = true;
    if (here && w->fault == FAULT_GARBAGE)
        byte ^= 0x40;
    l->data[l->written++ % WIRE_ROOM] = byte;
}

static ssize_t on_write(void *ctx, const struct iovec *iov, unsigned count, uint64_t until,
                        struct err *err)
{
    struct end *e = ctx;
    struct wire *w = e->wire;
    struct lane *l = &w->lanes[e->number];
    ssize_t n = 0;
    pthread_mutex_lock(&w->lock);
    while (!l->closed && l->written - l->read >= WIRE_ROOM)
        if (!wait_for_wire(e, until))
            break;
    for (unsigned i = 0; i < count; i++)
        for (size_t b = 0; b < iov[i].iov_len && !l->closed && l->written - l->read < WIRE_ROOM;
             b++) {
            put(w, e->number, ((const uint8_t *)iov[i].iov_base)[b]);
            n++;
        }
    bool closed = l->closed;
    wake(w);
    pthread_mutex_unlock(&w->lock);
    if (n == 0 && closed)
        return err_set(err, EPIPE, "cut");
    return n ? n : err_set(err, ETIMEDOUT, "full");
}

static ssize_t on_read(void *ctx, const struct iovec *iov, unsigned count, uint64_t until,
                       struct err *err)
{
    struct end *e = ctx;
    struct wire *w = e->wire;
    struct lane *l = &w->lanes[!e->number];
    ssize_t n = 0;
    bool late = false;
    pthread_mutex_lock(&w->lock);
    while (!late && (l->frozen || (l->written == l->read && !l->closed)))
        late = !wait_for_wire(e, until);
    for (unsigned i = 0; !l->frozen && i < count; i++)
        for (size_t b = 0; b < iov[i].iov_len && l->read < l->written; b++, n++)
            ((uint8_t *)iov[i].iov_base)[b] = l->data[l->read++ % WIRE_ROOM];
    if (n)
        wake(w);
    pthread_mutex_unlock(&w->lock);
    return n || !late ? n : err_set(err, ETIMEDOUT, "nothing");
}

static uint64_t on_now(void *ctx)
{
    struct end *e = ctx;
    pthread_mutex_lock(&e->wire->lock);
    uint64_t now = e->wire->now_ns;
    pthread_mutex_unlock(&e->wire->lock);
    return now;
}

static const struct stream_ops stream_ops = {.write = on_write, .read = on_read, .now_ns = on_now};

static void leave(struct end *e)
{
    struct wire *w = e->wire;
    pthread_mutex_lock(&w->lock);
    w->lanes[0].closed = w->lanes[1].closed = true;
    w->waits_until[e->number] = UINT64_MAX;
    wake(w);
    pthread_mutex_unlock(&w->lock);
}

struct world {
    struct wire wire;
    struct end ends[2];
    struct fake_guest guest;
    uint8_t *ram; /* at the target */
    bool handed_off, taken, loaded;
    unsigned cargo;
    struct source_report report;
    struct err err;
};

static int on_cargo_out(void *ctx, bool last, struct buf *out, struct err *err)
{
    struct world *w = ctx;
    if (w->cargo == (last ? 2 : 1))
        return 0;
    w->cargo++;
    return buf_append(out, "cargo", 5) < 0 ? err_set(err, ENOMEM, "cargo") : 1;
}

static int on_hand_off(void *ctx, struct err *err)
{
    struct world *w = ctx;
    w->handed_off = true;
    return 0;
}

static int on_cargo_in(void *ctx, struct span piece, struct err *err)
{
    return piece.left == 5 && memcmp(piece.at, "cargo", 5) == 0
               ? 0
               : err_set(err, EBADMSG, "other cargo");
}

static int on_load(void *ctx, struct span state, struct err *err)
{
    struct world *w = ctx;
    w->loaded = true;
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

static const struct source_ops source_ops = {.cargo = on_cargo_out, .hand_off = on_hand_off};
static const struct target_ops target_ops = {
    .cargo = on_cargo_in, .load = on_load, .take_over = on_take_over, .settle = on_settle};

static void *target_main(void *arg)
{
    struct world *w = arg;
    struct target_report report;
    struct err err = {0};
    const struct target_options o = {.epoch = EPOCH,
                                     .ram = w->ram,
                                     .ram_bytes = PAGES * (uint64_t)GUEST_PAGE,
                                     .ops = &target_ops,
                                     .ctx = w};
    target_run(w->ends[1].top, &o, &report, &err);
    leave(&w->ends[1]);
    return NULL;
}

static bool with_tls;
static enum packing_mode packing = PACKING_NEVER;

static void make_end(struct end *e, struct wire *wire, unsigned number)
{
    static const uint8_t key[STREAM_TLS_KEY_BYTES] = {1, 2, 3};
    struct err err;
    *e = (struct end){.wire = wire, .number = number};
    e->stream = (struct stream){.ops = &stream_ops, .ctx = e};
    e->top = with_tls ? &e->tls.stream : &e->stream;
    if (with_tls)
        assert_int_equal(stream_tls_init(&e->tls, &e->stream,
                                         number ? STREAM_TLS_ANSWERS : STREAM_TLS_ASKS, key, &err),
                         0);
}

static void make(struct world *w, uint64_t seed, enum fault fault, unsigned lane, uint64_t at)
{
    memset(w, 0, sizeof(*w));
    pthread_mutex_init(&w->wire.lock, NULL);
    pthread_cond_init(&w->wire.changed, NULL);
    w->wire.now_ns = 1;
    w->wire.fault = fault;
    w->wire.fault_lane = lane;
    w->wire.fault_at = at;
    for (unsigned i = 0; i < 2; i++) {
        w->wire.lanes[i].data = malloc(WIRE_ROOM);
        assert_non_null(w->wire.lanes[i].data);
        make_end(&w->ends[i], &w->wire, i);
    }
    fake_guest_init(&w->guest, PAGES, seed);
    for (unsigned i = 0; i < 40; i++)
        fake_guest_write(&w->guest);
    w->guest.races = 2;
    w->ram = aligned_alloc(GUEST_PAGE, PAGES * (size_t)GUEST_PAGE);
    assert_non_null(w->ram);
    memset(w->ram, 0, PAGES * (size_t)GUEST_PAGE);
}

static void unmake(struct world *w)
{
    stream_tls_fini(&w->ends[0].tls);
    stream_tls_fini(&w->ends[1].tls);
    fake_guest_fini(&w->guest);
    free(w->ram);
    free(w->wire.lanes[0].data);
    free(w->wire.lanes[1].data);
    pthread_cond_destroy(&w->wire.changed);
    pthread_mutex_destroy(&w->wire.lock);
}

static void check(const struct world *w, const char *what, uint64_t at)
{
    bool here = w->guest.running, there = w->taken;
    if (here && there)
        fail_msg("%s at %llu: two that run", what, (unsigned long long)at);
    if (!here && !there && w->report.end != SOURCE_IN_DOUBT)
        fail_msg("%s at %llu: nobody runs, and nobody doubts: %s", what, (unsigned long long)at,
                 w->err.text);
    if (there && !w->handed_off)
        fail_msg("%s at %llu: taken and never given", what, (unsigned long long)at);
    if (here && (w->handed_off || w->report.end != SOURCE_FAILED))
        fail_msg("%s at %llu: it runs here after it was given away", what, (unsigned long long)at);
    if (there && memcmp(w->ram, w->guest.ram, PAGES * (size_t)GUEST_PAGE) != 0)
        fail_msg("%s at %llu: it runs with other memory", what, (unsigned long long)at);
    assert_int_equal(fake_guest_consumers(&w->guest), 0); /* tracking is off */
}

static void run(struct world *w)
{
    pthread_t thread;
    const struct source_options o = {.epoch = EPOCH,
                                     .on_stall = CONVERGE_FORCE,
                                     .packing = packing,
                                     .ops = &source_ops,
                                     .ctx = w};
    assert_int_equal(pthread_create(&thread, NULL, target_main, w), 0);
    source_run(&w->guest.guest, w->ends[0].top, &o, &w->report, &w->err);
    leave(&w->ends[0]);
    pthread_join(thread, NULL);
}

/* How much goes each way when nothing breaks. */
static void measure(uint64_t seed, uint64_t bytes[2])
{
    struct world w;
    make(&w, seed, FAULT_NONE, 0, 0);
    run(&w);
    check(&w, "no fault", 0);
    assert_int_equal(w.report.end, SOURCE_MOVED);
    bytes[0] = w.wire.lanes[0].written;
    bytes[1] = w.wire.lanes[1].written;
    unmake(&w);
}

static unsigned step_of(void)
{
    return getenv("FERRY_LONG") ? 97 : 9973;
}

static void break_at(uint64_t seed, enum fault fault, unsigned lane, uint64_t at)
{
    static const char *const names[] = {"none", "cut", "garbage", "freeze"};
    struct world w;
    make(&w, seed, fault, lane, at);
    run(&w);
    check(&w, names[fault], at);
    unmake(&w);
}

/* The last bytes of each way are where it is decided whose the guest is: each of them; before that
 * some of them. */
static void every_fault_leaves_one(void **state)
{
    uint64_t last = with_tls ? DENSE_TLS : DENSE;
    for (uint64_t seed = 1; seed <= (getenv("FERRY_LONG") ? 20 : 1); seed++) {
        uint64_t bytes[2];
        measure(seed, bytes);
        for (unsigned fault = FAULT_CUT; fault < FAULTS; fault++)
            for (unsigned lane = 0; lane < 2; lane++) {
                uint64_t dense = bytes[lane] > last ? bytes[lane] - last : 0;
                for (uint64_t at = 0; at < dense; at += at < 64 ? 17 : step_of())
                    break_at(seed, fault, lane, at);
                for (uint64_t at = dense; at <= bytes[lane]; at++)
                    break_at(seed, fault, lane, at);
            }
    }
}

static void every_fault_over_tls_leaves_one(void **state)
{
    with_tls = true;
    every_fault_leaves_one(state);
    with_tls = false;
}

static void every_fault_of_packed_ones_leaves_one(void **state)
{
    struct world w;
    packing = PACKING_ALWAYS;
    make(&w, 1, FAULT_NONE, 0, 0);
    run(&w);
    assert_true(w.report.packed_pages > 0);
    unmake(&w);
    every_fault_leaves_one(state);
    packing = PACKING_NEVER;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_fault_leaves_one),
        cmocka_unit_test(every_fault_over_tls_leaves_one),
        cmocka_unit_test(every_fault_of_packed_ones_leaves_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
