/*
 * Every way in which a capture can end early: the guest runs on, nobody is left attached, the bits
 * are back, and the next capture from the same parent is right.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/sim/fake_guest.h"
#include "tests/sim/fake_sink.h"
#include "vmstate/capture.h"

#define PAGES 192u
#define BYTES ((size_t)PAGES * GUEST_PAGE)
#define CALLS_MAX 2000u

/* A capture of each kind. */
static const struct capture_options kinds[] = {
    {.mode = CAPTURE_LIVE},
    {.mode = CAPTURE_LIVE, .hold = true},
    {.mode = CAPTURE_PAUSED},
};

struct world {
    struct fake_guest g;
    struct fake_sink s;
    struct bitmap *chain; /* NULL: not tracked */
    uint8_t *parent;      /* owned: what the image was before */
    struct capture_options o;
};

static void check_image(const struct world *w, const uint8_t *ram)
{
    for (size_t page = 0; page < PAGES; page++)
        if (memcmp(w->s.image + page * GUEST_PAGE, ram + page * GUEST_PAGE, GUEST_PAGE) != 0)
            fail_msg("fault %u at %u, flag at %u: page %zu is wrong afterwards", w->g.fail_op,
                     w->g.fail_at, w->g.flag_at, page);
}

/* A guest, with a parent image when it is tracked. */
static void world_init(struct world *w, const struct capture_options *kind, bool tracked)
{
    struct err err = {0};
    struct capture_result r;
    *w = (struct world){.o = *kind};
    fake_guest_init(&w->g, PAGES, 42);
    fake_sink_init(&w->s, &w->g);
    w->parent = calloc(1, BYTES);
    assert_non_null(w->parent);
    w->g.races = 2;
    w->g.set_pages = 150;
    for (unsigned i = 0; i < 400; i++)
        fake_guest_write(&w->g);
    w->o.chunk_bytes = w->o.buffer_bytes = 64 * GUEST_PAGE;
    w->o.max_rounds = 3;
    w->o.cancel = &w->g.flag;
    if (!tracked)
        return;
    assert_int_equal(w->g.guest.ops->dirty_attach(&w->g, &w->chain, &err), 0);
    struct capture_options first = {.tracked = w->chain, .whole = true};
    assert_int_equal(capture_run(&w->g.guest, &w->s.sink, &first, &r, &err), 0);
    capture_result_fini(&r);
    memcpy(w->parent, w->s.image, BYTES);
    fake_sink_set_image(&w->s, w->parent);
    w->s.sink.starts_zero = false;
    w->o.tracked = w->chain;
    for (unsigned i = 0; i < 300; i++)
        fake_guest_write(&w->g);
    memset(w->g.calls, 0, sizeof(w->g.calls));
    w->g.race_count = 0;
}

static void world_fini(struct world *w)
{
    free(w->parent);
    fake_sink_fini(&w->s);
    fake_guest_fini(&w->g);
}

static int run(struct world *w, struct err *err)
{
    struct capture_result r;
    if (w->o.mode == CAPTURE_PAUSED)
        w->g.running = false;
    int rc = capture_run(&w->g.guest, &w->s.sink, &w->o, &r, err);
    assert_null(w->s.broken_rule);
    assert_int_equal(fake_guest_consumers(&w->g), w->chain != NULL);
    if (rc < 0)
        assert_null(r.taken.words);
    capture_result_fini(&r);
    return rc;
}

/* A guest that stays paused is compared as it lies there, one that runs as it was at the pause. */
static void check_success(struct world *w)
{
    bool stays = w->o.hold || w->o.mode == CAPTURE_PAUSED;
    assert_int_equal(w->g.running, !stays);
    check_image(w, stays ? w->g.ram : w->g.before);
}

/* The failed one left no trace but in its sink, which is thrown away. */
static void check_next_one(struct world *w)
{
    struct err err = {0};
    assert_int_equal(w->g.running, w->o.mode == CAPTURE_LIVE);
    fake_sink_set_image(&w->s, w->parent);
    w->g.fail_op = FAKE_NONE;
    w->g.flag_at = 0;
    atomic_store(&w->g.flag, false);
    if (run(w, &err) < 0)
        fail_msg("the next capture: %s", err.text);
    check_success(w);
}

/* One fault; false when the capture is through before the N-th call. */
static bool try_fault(const struct capture_options *kind, bool tracked, enum fake_op op,
                      unsigned at)
{
    struct world w;
    struct err err = {0};
    world_init(&w, kind, tracked);
    w.g.fail_op = op;
    w.g.fail_at = at;
    int rc = run(&w, &err);
    bool reached = w.g.calls[op] >= at;
    assert_int_equal(rc, reached ? -EIO : 0);
    if (reached)
        check_next_one(&w);
    else
        check_success(&w);
    world_fini(&w);
    return reached;
}

/* How often a capture of that kind came to the N-th call of the operation. */
static unsigned try_faults(const struct capture_options *kind, bool tracked, enum fake_op op)
{
    unsigned at = 1;
    while (at < CALLS_MAX && try_fault(kind, tracked, op, at))
        at++;
    assert_true(at < CALLS_MAX);
    return at - 1;
}

static void test_every_fault(void **state)
{
    unsigned met[FAKE_OPS] = {0};
    for (size_t k = 0; k < sizeof(kinds) / sizeof(*kinds); k++)
        for (unsigned op = FAKE_NONE + 1; op < FAKE_OPS; op++)
            for (unsigned tracked = 0; tracked < 2; tracked++)
                met[op] += try_faults(&kinds[k], tracked, (enum fake_op)op);
    for (unsigned op = FAKE_NONE + 1; op < FAKE_OPS; op++)
        assert_true(met[op] > 0);
}

/* The flag is set at the N-th chance that the guest has to write; false when that never came. */
static bool try_cancel(const struct capture_options *kind, bool tracked, unsigned at)
{
    struct world w;
    struct err err = {0};
    world_init(&w, kind, tracked);
    w.g.flag_at = at;
    int rc = run(&w, &err);
    bool reached = w.g.race_count >= at;
    if (rc < 0) {
        assert_int_equal(rc, -ECANCELED);
        assert_true(reached);
        check_next_one(&w);
    } else {
        check_success(&w);
    }
    world_fini(&w);
    return reached;
}

static void test_cancel_at_each_point(void **state)
{
    for (size_t k = 0; k < sizeof(kinds) / sizeof(*kinds); k++)
        for (unsigned tracked = 0; tracked < 2; tracked++) {
            unsigned at = 1;
            while (at < CALLS_MAX && try_cancel(&kinds[k], tracked, at))
                at++;
            assert_in_range(at, 10, CALLS_MAX - 1);
        }
}

/* Set before the capture: it ends without pausing the guest. */
static void test_cancelled_at_once(void **state)
{
    struct world w;
    struct err err = {0};
    world_init(&w, &kinds[0], true);
    atomic_store(&w.g.flag, true);
    assert_int_equal(run(&w, &err), -ECANCELED);
    assert_int_equal(w.g.calls[FAKE_PAUSE], 0);
    check_next_one(&w);
    world_fini(&w);
}

/* The bits that a failed capture gives back are at least those that were there. */
static void test_bits_are_back(void **state)
{
    struct world w;
    struct err err = {0};
    world_init(&w, &kinds[0], true);
    w.g.races = 0;
    assert_int_equal(w.g.guest.ops->dirty_collect(&w.g, &err), 0);
    struct bitmap before;
    assert_int_equal(bitmap_init(&before, PAGES, &err), 0);
    for (size_t i = 0; i < w.chain->nwords; i++)
        bitmap_or_word(&before, i, w.chain->words[i]);
    assert_true(bitmap_count(&before) > 50);
    w.g.fail_op = FAKE_SINK_STATE;
    w.g.fail_at = 1;
    assert_int_equal(run(&w, &err), -EIO);
    for (size_t i = 0; i < before.nwords; i++)
        assert_int_equal(before.words[i] & ~w.chain->words[i], 0);
    bitmap_fini(&before);
    world_fini(&w);
}

static void test_guest_that_cannot_be_resumed(void **state)
{
    struct world w;
    struct err err = {0};
    struct guest_ops ops;
    world_init(&w, &kinds[0], false);
    ops = *w.g.guest.ops;
    ops.resume = ops.pause; /* refuses: it is paused already */
    w.g.guest.ops = &ops;
    assert_int_equal(run(&w, &err), -EINVAL);
    assert_string_equal(err.text, "the guest stays paused (paused twice) after: paused twice");
    assert_false(w.g.running);
    world_fini(&w);
}

static void test_wrong_sizes(void **state)
{
    struct world w;
    struct err err = {0};
    struct bitmap small;
    world_init(&w, &kinds[0], false);
    assert_int_equal(bitmap_init(&small, PAGES - 1, &err), 0);
    w.o.tracked = &small;
    assert_int_equal(run(&w, &err), -EINVAL);
    assert_string_equal(err.text, "the tracked bitmap has 191 pages, guest RAM 192");
    w.o.tracked = NULL;
    w.g.guest.ram_bytes = 5;
    assert_int_equal(run(&w, &err), -EINVAL);
    w.g.guest.ram_bytes = 0;
    assert_int_equal(run(&w, &err), -EINVAL);
    bitmap_fini(&small);
    world_fini(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_fault),
        cmocka_unit_test(test_cancel_at_each_point),
        cmocka_unit_test(test_cancelled_at_once),
        cmocka_unit_test(test_bits_are_back),
        cmocka_unit_test(test_guest_that_cannot_be_resumed),
        cmocka_unit_test(test_wrong_sizes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
