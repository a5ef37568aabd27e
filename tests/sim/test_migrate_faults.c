/*
 * Both engines, a fake guest between them, and a wire (fake_wire.h), with or without TLS in it,
 * that has a fault at a byte. Whatever happens, the guest runs at one end: at once, or when the one
 * in doubt has asked the other, as its ferryd would. Never two that run, and nothing lost that ran.
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
#include "tests/sim/fake_wire.h"

#define PAGES 128u
#define EPOCH 5u
#define DENSE 72u /* RUNNING, or HANDOFF and a half before it */
#define DENSE_TLS 120u
#define SEEDS (getenv("FERRY_LONG") ? 100u : 3u)
#define FOUND_OUT_NS 5000000000ull

/* What is in the records, and outlives both ends. */
struct records {
    bool handed_off, taken, tombstone;
};

struct world {
    struct fake_wire wire;
    struct stream_tls tls[WIRE_ENDS];
    const struct stream *tops[WIRE_ENDS]; /* what the engines get */
    struct fake_guest guest;
    uint8_t *ram; /* at the target */
    struct records records;
    unsigned cargo;
    struct source_report report;
    struct err err;
    uint64_t seed;
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
    if (fake_wire_is_dead(&w->wire, 0))
        return err_set(err, EIO, "dead");
    w->records.handed_off = true;
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
    return 0;
}

static int on_take_over(void *ctx, uint64_t *taken_ns, struct err *err)
{
    struct world *w = ctx;
    if (fake_wire_is_dead(&w->wire, 1))
        return err_set(err, EIO, "dead");
    w->records.taken = true;
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
    target_run(w->tops[1], &o, &report, &err);
    fake_wire_leave(&w->wire, 1);
    return NULL;
}

static bool with_tls;
static enum packing_mode packing = PACKING_NEVER;

static void make_top(struct world *w, unsigned end)
{
    static const uint8_t key[STREAM_TLS_KEY_BYTES] = {1, 2, 3};
    struct err err;
    const struct stream *bare = &w->wire.ends[end].stream;
    w->tops[end] = with_tls ? &w->tls[end].stream : bare;
    if (with_tls)
        assert_int_equal(stream_tls_init(&w->tls[end], bare,
                                         end ? STREAM_TLS_ANSWERS : STREAM_TLS_ASKS, key, &err),
                         0);
}

static void make(struct world *w, uint64_t seed, enum wire_fault fault, unsigned lane, uint64_t at)
{
    memset(w, 0, sizeof(*w));
    w->seed = seed;
    fake_wire_init(&w->wire, fault, lane, at);
    make_top(w, 0);
    make_top(w, 1);
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
    stream_tls_fini(&w->tls[0]);
    stream_tls_fini(&w->tls[1]);
    fake_guest_fini(&w->guest);
    free(w->ram);
    fake_wire_fini(&w->wire);
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
    source_run(&w->guest.guest, w->tops[0], &o, &w->report, &w->err);
    fake_wire_leave(&w->wire, 0);
    pthread_join(thread, NULL);
}

/* the judge ----------------------------------------------------------------------------------- */

static void accuse(const struct world *w, const char *what)
{
    static const char *const names[WIRE_FAULTS] = {
        "no fault",  "cut",           "garbage",       "freeze",
        "partition", "source killed", "target killed", "write error",
    };
    const struct fake_wire *f = &w->wire;
    fail_msg("seed %llu, %s at byte %llu from the %s: %s (%s)", (unsigned long long)w->seed,
             names[f->fault], (unsigned long long)f->fault_at, f->fault_lane ? "target" : "source",
             what, w->err.text);
}

/* As ferryd does for one that is in doubt, dead or alive: true when the guest stays. */
static bool resolve(struct world *w)
{
    w->records.tombstone = !w->records.taken;
    return w->records.tombstone;
}

static void judge(struct world *w)
{
    bool lives = !w->wire.dead[0], there = w->records.taken && !w->wire.dead[1];
    bool here = lives && w->guest.running, given = w->records.handed_off;
    bool doubts = lives ? w->report.end == SOURCE_IN_DOUBT : given;
    if (here && w->records.taken)
        accuse(w, "two that run");
    if (w->records.taken && !given)
        accuse(w, "taken and never given");
    if (here && (given || w->report.end != SOURCE_FAILED))
        accuse(w, "it runs here after it was given away");
    if (lives && !given && !here)
        accuse(w, "it was not given away and does not run");
    if (lives && w->report.end == SOURCE_MOVED && !w->records.taken)
        accuse(w, "it was dropped and nobody has it");
    if (doubts && resolve(w))
        here = lives;
    if (lives && !w->wire.dead[1] && here == there)
        accuse(w, "not one that runs");
    if (lives && here == w->records.taken)
        accuse(w, "it is not where the records say");
}

/* A peer that says nothing more is found out in time, and nothing is left of the attempt. */
static void judge_rest(struct world *w)
{
    const struct fake_wire *f = &w->wire;
    bool silent = f->fault == FAULT_FREEZE || f->fault == FAULT_PARTITION;
    for (unsigned i = 0; i < WIRE_ENDS; i++)
        if (silent && f->fault_ns && f->left_ns[i] > f->fault_ns + FOUND_OUT_NS)
            accuse(w, i ? "the target waits too long" : "the source waits too long");
    if (w->records.taken && memcmp(w->ram, w->guest.ram, PAGES * (size_t)GUEST_PAGE) != 0)
        accuse(w, "it runs with other memory");
    if (!f->dead[0] && fake_guest_consumers(&w->guest))
        accuse(w, "its writes are still followed");
}

static void break_at(uint64_t seed, enum wire_fault fault, unsigned lane, uint64_t at)
{
    struct world w;
    make(&w, seed, fault, lane, at);
    run(&w);
    judge(&w);
    judge_rest(&w);
    unmake(&w);
}

/* where --------------------------------------------------------------------------------------- */

/* What goes each way when nothing breaks. */
struct course {
    uint64_t bytes[WIRE_ENDS], frames[WIRE_ENDS][WIRE_FRAMES];
    unsigned nframes[WIRE_ENDS];
};

static void measure(uint64_t seed, struct course *c)
{
    struct world w;
    make(&w, seed, FAULT_NONE, 0, 0);
    run(&w);
    judge(&w);
    judge_rest(&w);
    assert_int_equal(w.report.end, SOURCE_MOVED);
    for (unsigned i = 0; i < WIRE_ENDS; i++) {
        const struct lane *l = &w.wire.lanes[i];
        c->bytes[i] = l->written;
        c->nframes[i] = l->nframes;
        memcpy(c->frames[i], l->frames, sizeof(l->frames));
        if (!with_tls) { /* all of them were seen */
            assert_in_range(l->nframes, i ? 3 : 8, WIRE_FRAMES - 1);
            assert_int_equal(l->next, l->written);
        }
    }
    unmake(&w);
}

static void break_around(uint64_t seed, unsigned lane, uint64_t at)
{
    for (enum wire_fault fault = FAULT_CUT; fault < WIRE_FAULTS; fault++)
        for (uint64_t byte = at ? at - 1 : 0; byte <= at + 1; byte++)
            break_at(seed, fault, lane, byte);
}

/* The last of each lane ends where it all ends. */
static void every_message_of_every_seed(void **state)
{
    static struct course c;
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        measure(seed, &c);
        for (unsigned lane = 0; lane < WIRE_ENDS; lane++) {
            for (unsigned i = 0; i < c.nframes[lane]; i++)
                break_around(seed, lane, c.frames[lane][i]);
            break_around(seed, lane, c.bytes[lane]);
        }
    }
}

/* The last bytes of each way are where it is decided whose the guest is: each of them; before that
 * some of them. */
static void every_byte_of_the_switch(void **state)
{
    static struct course c;
    const uint64_t last = with_tls ? DENSE_TLS : DENSE;
    const unsigned step = getenv("FERRY_LONG") ? 97 : 9973;
    measure(1, &c);
    for (enum wire_fault fault = FAULT_CUT; fault < WIRE_FAULTS; fault++)
        for (unsigned lane = 0; lane < WIRE_ENDS; lane++) {
            uint64_t dense = c.bytes[lane] > last ? c.bytes[lane] - last : 0;
            for (uint64_t at = 0; at < dense; at += at < 64 ? 17 : step)
                break_at(1, fault, lane, at);
            for (uint64_t at = dense; at <= c.bytes[lane]; at++)
                break_at(1, fault, lane, at);
        }
}

static void every_byte_of_the_switch_over_tls(void **state)
{
    with_tls = true;
    every_byte_of_the_switch(state);
    with_tls = false;
}

static void every_byte_of_the_switch_of_packed_ones(void **state)
{
    struct world w;
    packing = PACKING_ALWAYS;
    make(&w, 1, FAULT_NONE, 0, 0);
    run(&w);
    assert_true(w.report.packed_pages > 0);
    unmake(&w);
    every_byte_of_the_switch(state);
    packing = PACKING_NEVER;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_message_of_every_seed),
        cmocka_unit_test(every_byte_of_the_switch),
        cmocka_unit_test(every_byte_of_the_switch_over_tls),
        cmocka_unit_test(every_byte_of_the_switch_of_packed_ones),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
