/*
 * The capture engine against a guest that writes between any two of its steps: what the sink holds
 * at the end is the guest's memory at its pause, byte for byte.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "tests/sim/fake_guest.h"
#include "tests/sim/fake_sink.h"
#include "vmstate/capture.h"

#define PAGES 448u /* not a power of two; seven words */
#define MS 1000000ull

static unsigned seeds(void)
{
    return getenv("FERRY_LONG") ? 20000 : 1000;
}

static void check_image(const struct fake_guest *g, const struct fake_sink *s, const uint8_t *ram,
                        uint64_t seed)
{
    for (size_t page = 0; page < g->pages; page++)
        if (memcmp(s->image + page * GUEST_PAGE, ram + page * GUEST_PAGE, GUEST_PAGE) != 0)
            fail_msg("seed %llu: page %zu is not what it was at the pause",
                     (unsigned long long)seed, page);
}

static void run(struct fake_guest *g, struct fake_sink *s, const struct capture_options *o,
                struct capture_result *result)
{
    struct err err = {0};
    fake_sink_reset(s);
    if (capture_run(&g->guest, &s->sink, o, result, &err) < 0)
        fail_msg("%s", err.text);
    assert_int_equal(s->rounds, result->rounds);
    assert_int_equal(s->states, 1);
    assert_int_equal(s->state, g->saves);
    assert_int_equal(s->pages, result->pages);
    assert_int_equal(result->bytes, result->pages * GUEST_PAGE);
    const struct capture_pause *p = &result->pause;
    assert_int_equal(p->total_ns, p->stop_ns + p->state_ns + p->collect_ns + p->copy_ns +
                                      p->sink_ns + p->resume_ns);
}

/* A capture as the seed wants it; the image is the guest's memory afterwards. */
static void run_and_compare(struct fake_guest *g, struct fake_sink *s, struct bitmap *chain,
                            bool first, uint64_t seed)
{
    struct capture_options o = {
        .mode = fake_guest_random(g, 8) ? CAPTURE_LIVE : CAPTURE_PAUSED,
        .hold = fake_guest_random(g, 4) == 0,
        .tracked = chain,
        .whole = first || fake_guest_random(g, 8) == 0,
        .chunk_bytes = fake_guest_random(g, 4) * 64 * GUEST_PAGE,
        .buffer_bytes = fake_guest_random(g, 3) * 64 * GUEST_PAGE,
        .pause_budget_ns = fake_guest_random(g, 3) * MS,
        .max_rounds = (unsigned)fake_guest_random(g, 6),
    };
    struct err err = {0};
    struct capture_result result;
    bool stays = o.hold || o.mode == CAPTURE_PAUSED;
    if (o.mode == CAPTURE_PAUSED)
        assert_int_equal(g->guest.ops->pause(g, &err), 0);
    s->sink.wants_zero_scan = fake_guest_random(g, 3) != 0;
    s->sink.starts_zero = first;
    run(g, s, &o, &result);
    assert_int_equal(g->running, !stays);
    check_image(g, s, stays ? g->ram : g->before, seed);
    if (stays)
        assert_int_equal(g->guest.ops->resume(g, &err), 0);
    capture_result_fini(&result);
}

static void run_seed(uint64_t seed)
{
    struct fake_guest g;
    struct fake_sink s;
    struct err err = {0};
    struct bitmap *chain = NULL;
    fake_guest_init(&g, PAGES, seed);
    fake_sink_init(&s, &g);
    g.races = (unsigned)fake_guest_random(&g, 5);
    g.set_pages = 1 + fake_guest_random(&g, PAGES) / (1 + fake_guest_random(&g, 4));
    g.set_first = fake_guest_random(&g, PAGES - g.set_pages + 1);
    uint64_t sparse = 1 + fake_guest_random(&g, 64); /* long holes, or hardly any */
    for (uint64_t n = fake_guest_random(&g, 2 * PAGES) / sparse; n > 0; n--)
        fake_guest_write(&g);
    if (fake_guest_random(&g, 2))
        fake_guest_rival_start(&g);
    if (fake_guest_random(&g, 2))
        assert_int_equal(g.guest.ops->dirty_attach(&g, &chain, &err), 0);
    unsigned others = g.rival + (chain != NULL);
    for (unsigned i = 0; i < 3; i++) {
        bool again = !chain && i > 0; /* no chain: a full image each time */
        if (again)
            memset(s.image, 0, PAGES * (size_t)GUEST_PAGE);
        run_and_compare(&g, &s, chain, i == 0 || again, seed);
        assert_int_equal(fake_guest_consumers(&g), others);
        for (unsigned n = 0; n < 20; n++)
            fake_guest_race(&g);
    }
    if (g.rival)
        assert_true(fake_guest_rival_is_right(&g));
    fake_sink_fini(&s);
    fake_guest_fini(&g);
}

static void test_image_is_memory_at_the_pause(void **state)
{
    for (unsigned seed = 0; seed < seeds(); seed++)
        run_seed(seed);
}

/* A scripted guest: nothing between the steps, time passes and it writes at its rate. */
static void script(struct fake_guest *g, struct fake_sink *s, uint64_t pages_per_s)
{
    fake_guest_init(g, 4096, 7);
    fake_sink_init(s, g);
    memset(g->ram, 0x5a, g->pages * GUEST_PAGE);
    g->pages_per_s = pages_per_s;
    g->costs.page = 10000;
    g->costs.call[FAKE_COLLECT] = 200000;
    g->costs.call[FAKE_PAUSE] = 300000;
    g->costs.call[FAKE_SAVE_STATE] = 400000;
    g->costs.call[FAKE_RESUME] = 50000;
    g->costs.call[FAKE_REARM] = 5000;
}

static void run_script(uint64_t pages_per_s, const struct capture_options *o,
                       struct capture_result *result, uint64_t *told_paused)
{
    struct fake_guest g;
    struct fake_sink s;
    script(&g, &s, pages_per_s);
    run(&g, &s, o, result);
    check_image(&g, &s, o->hold ? g.ram : g.before, 0);
    assert_int_equal(fake_guest_consumers(&g), 0);
    *told_paused = s.told_paused;
    capture_result_fini(result);
    fake_sink_fini(&s);
    fake_guest_fini(&g);
}

static void test_quiet_guest(void **state)
{
    struct capture_result r;
    uint64_t told_paused;
    run_script(0, &(struct capture_options){0}, &r, &told_paused);
    assert_int_equal(r.rounds, 2);
    assert_int_equal(r.reason, CAPTURE_FITS);
    assert_int_equal(r.pages, 4096);
    assert_int_equal(r.last_pages, 0);
    assert_int_equal(told_paused, 0);
    assert_int_equal(r.pause.stop_ns, 300000);
    assert_int_equal(r.pause.state_ns, 400000);
    assert_int_equal(r.pause.collect_ns, 200000);
    assert_int_equal(r.pause.copy_ns, 0); /* nothing to re-arm: nobody tracks it any longer */
    assert_int_equal(r.pause.sink_ns, 0);
    assert_int_equal(r.pause.resume_ns, 50000);
}

/* The first round leaves 41 pages; rounds go on to below what is worth one. */
static void test_moderate_guest(void **state)
{
    struct capture_result r;
    uint64_t told_paused;
    run_script(1000, &(struct capture_options){0}, &r, &told_paused);
    assert_int_equal(r.reason, CAPTURE_FITS);
    assert_in_range(r.rounds, 3, 4);
    assert_in_range(r.last_pages, 0, 16);
    assert_in_range(r.pages + r.zero_pages, 4096 + 15, 4096 + 60);
    assert_int_equal(told_paused, 0);
}

/* Faster than the sink: rounds do not help, the rest fits the buffer and is told afterwards. */
static void test_fast_guest(void **state)
{
    struct capture_result r;
    uint64_t told_paused;
    struct capture_options o = {.pause_budget_ns = 950000, .pause_fixed_ns = 800000};
    run_script(1000000, &o, &r, &told_paused);
    assert_int_equal(r.reason, CAPTURE_STALLED);
    assert_in_range(r.rounds, 4, 6);
    assert_in_range(r.last_pages, 1000, 4096);
    assert_int_equal(told_paused, 0);
    assert_int_equal(r.pause.sink_ns, 0);
    o.max_rounds = 2;
    run_script(1000000, &o, &r, &told_paused);
    assert_int_equal(r.reason, CAPTURE_ROUNDS);
    assert_int_equal(r.rounds, 3);
}

/* More than the buffer holds: only the excess is told in the pause. */
static void test_more_than_the_buffer(void **state)
{
    struct capture_result r;
    uint64_t told_paused;
    struct capture_options o = {
        .buffer_bytes = 256 * GUEST_PAGE, .chunk_bytes = 256 * GUEST_PAGE, .pause_budget_ns = 1};
    run_script(1000000, &o, &r, &told_paused);
    assert_int_equal(r.reason, CAPTURE_STALLED);
    assert_in_range(r.last_pages, 1000, 4096);
    assert_in_range(told_paused, r.last_pages - 256, r.last_pages - 1);
    assert_int_equal(r.pause.sink_ns, told_paused * 10000);
}

/* The last pages and the state are told in the pause, and the guest stays in it. */
static void test_hold(void **state)
{
    struct capture_result r;
    uint64_t told_paused;
    struct capture_options o = {.hold = true};
    run_script(20000, &o, &r, &told_paused);
    assert_int_equal(r.reason, CAPTURE_FITS);
    assert_int_equal(told_paused, r.last_pages);
    assert_int_equal(r.pause.sink_ns, r.last_pages * 10000);
    assert_int_equal(r.pause.resume_ns, 0);
}

struct watch {
    struct fake_guest *g;
    unsigned steps, decisions, allowed;
    uint64_t left, pages;
    unsigned round;
    int answer;
};

static void on_progress(void *ctx, const struct capture_progress *now)
{
    struct watch *w = ctx;
    assert_true(w->g->running);
    if (w->steps++ && now->round == w->round && now->round_ns == 0)
        assert_true(now->left <= w->left);
    assert_true(now->pages >= w->pages);
    assert_int_equal(now->bytes, now->pages * GUEST_PAGE);
    w->left = now->left;
    w->pages = now->pages;
    w->round = now->round;
}

static int on_decide(void *ctx, const struct capture_progress *now, struct err *err)
{
    struct watch *w = ctx;
    assert_true(now->predicted_pause_ns >= 1200000);
    if (now->round == 1) /* the first one sees half, later ones few pages */
        assert_in_range(now->dirty_pages_per_s, 8000, 12000);
    if (w->decisions++ < w->allowed)
        return CAPTURE_GO_ON;
    return w->answer < 0 ? err_set(err, -w->answer, "enough") : w->answer;
}

static void test_caller_decides(void **state)
{
    struct fake_guest g;
    struct fake_sink s;
    struct capture_result r;
    struct err err = {0};
    script(&g, &s, 10000);
    struct watch w = {.g = &g, .allowed = 7, .answer = CAPTURE_SWITCH};
    struct capture_options o = {
        .progress = on_progress, .decide = on_decide, .ctx = &w, .chunk_bytes = 256 * GUEST_PAGE};
    run(&g, &s, &o, &r);
    assert_int_equal(r.rounds, 9);
    assert_int_equal(w.decisions, 8);
    assert_in_range(w.steps, 16 + 8, 16 + 8 + 16);
    capture_result_fini(&r);

    w = (struct watch){.g = &g, .allowed = 2, .answer = -ENODATA};
    fake_sink_reset(&s);
    assert_int_equal(capture_run(&g.guest, &s.sink, &o, &r, &err), -ENODATA);
    assert_string_equal(err.text, "enough");
    assert_true(g.running);
    assert_int_equal(fake_guest_consumers(&g), 0);
    capture_result_fini(&r);
    fake_sink_fini(&s);
    fake_guest_fini(&g);
}

/* Memory that was never touched is neither read (it would become real) nor told. */
static void test_untouched_memory_stays_so(void **state)
{
    struct fake_guest g;
    struct fake_sink s;
    struct capture_result r;
    struct stat before, after;
    fake_guest_init(&g, 8192, 1);
    fake_sink_init(&s, &g);
    memset(g.ram + 5 * GUEST_PAGE, 1, 3 * GUEST_PAGE);
    memset(g.ram + 4000 * GUEST_PAGE, 1, GUEST_PAGE);
    memset(g.ram + 4002 * GUEST_PAGE, 0, GUEST_PAGE); /* touched, and zero */
    assert_int_equal(fstat(g.guest.ram_fd, &before), 0);
    run(&g, &s, &(struct capture_options){.hold = true}, &r);
    assert_int_equal(fstat(g.guest.ram_fd, &after), 0);
    assert_int_equal(before.st_blocks, after.st_blocks);
    assert_int_equal(r.pages, 4);
    assert_int_equal(r.zero_pages, 1);
    assert_int_equal(r.untouched_pages, 8192 - 5);
    assert_int_equal(s.zeroes, 0);
    assert_in_range(g.calls[FAKE_REARM], 1, 10); /* a long hole is one call */
    capture_result_fini(&r);

    memset(s.image, 0xff, g.pages * GUEST_PAGE);
    s.sink.starts_zero = false;
    run(&g, &s, &(struct capture_options){.mode = CAPTURE_PAUSED}, &r);
    assert_int_equal(s.zeroes, 8192 - 4);
    check_image(&g, &s, g.ram, 0);
    capture_result_fini(&r);
    fake_sink_fini(&s);
    fake_guest_fini(&g);
}

static void test_paused_guest_is_not_touched(void **state)
{
    struct fake_guest g;
    struct fake_sink s;
    struct capture_result r;
    script(&g, &s, 1000);
    g.running = false;
    run(&g, &s, &(struct capture_options){.mode = CAPTURE_PAUSED}, &r);
    check_image(&g, &s, g.ram, 0);
    assert_int_equal(r.rounds, 1);
    assert_int_equal(r.reason, CAPTURE_NOT_PAUSED);
    assert_int_equal(r.pause.total_ns, 0);
    assert_int_equal(g.calls[FAKE_PAUSE] + g.calls[FAKE_RESUME] + g.calls[FAKE_ATTACH], 0);
    capture_result_fini(&r);
    fake_sink_fini(&s);
    fake_guest_fini(&g);
}

/* A diff of a few pages costs a few pages, and the next one does not repeat them. */
static void test_diff_is_what_changed(void **state)
{
    struct fake_guest g;
    struct fake_sink s;
    struct capture_result r;
    struct bitmap *chain;
    struct err err = {0};
    script(&g, &s, 0);
    assert_int_equal(g.guest.ops->dirty_attach(&g, &chain, &err), 0);
    struct capture_options o = {.tracked = chain, .whole = true};
    run(&g, &s, &o, &r);
    assert_int_equal(r.pages, 4096);
    capture_result_fini(&r);
    o.whole = s.sink.starts_zero = false;
    for (unsigned i = 0; i < 3; i++) {
        size_t at = (100 + i) * (size_t)GUEST_PAGE;
        memset(g.ram + at, (int)i, GUEST_PAGE);
        bitmap_set(&g.log, 100 + i);
        run(&g, &s, &o, &r);
        assert_int_equal(r.pages + r.zero_pages, 1);
        assert_int_equal(bitmap_count(&r.taken), 1);
        check_image(&g, &s, g.before, i);
        capture_result_fini(&r);
    }
    fake_sink_fini(&s);
    fake_guest_fini(&g);
}

/* What was captured could not be published: the next diff has it again. */
static void test_give_back(void **state)
{
    struct fake_guest g;
    struct fake_sink s;
    struct capture_result r;
    struct bitmap *chain;
    struct err err = {0};
    script(&g, &s, 5000);
    assert_int_equal(g.guest.ops->dirty_attach(&g, &chain, &err), 0);
    struct capture_options o = {.tracked = chain, .whole = true};
    run(&g, &s, &o, &r);
    capture_result_fini(&r);
    uint8_t *parent = malloc(g.pages * GUEST_PAGE);
    assert_non_null(parent);
    memcpy(parent, s.image, g.pages * GUEST_PAGE);
    o.whole = s.sink.starts_zero = false;
    fake_guest_spend(&g, 100 * MS);
    run(&g, &s, &o, &r);
    assert_in_range(r.pages + r.zero_pages, 400, 1000);
    capture_give_back(&r, chain);
    capture_result_fini(&r);
    fake_sink_set_image(&s, parent);
    run(&g, &s, &o, &r);
    check_image(&g, &s, g.before, 0);
    capture_result_fini(&r);
    free(parent);
    fake_sink_fini(&s);
    fake_guest_fini(&g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_image_is_memory_at_the_pause),
        cmocka_unit_test(test_quiet_guest),
        cmocka_unit_test(test_moderate_guest),
        cmocka_unit_test(test_fast_guest),
        cmocka_unit_test(test_more_than_the_buffer),
        cmocka_unit_test(test_hold),
        cmocka_unit_test(test_caller_decides),
        cmocka_unit_test(test_untouched_memory_stays_so),
        cmocka_unit_test(test_paused_guest_is_not_touched),
        cmocka_unit_test(test_diff_is_what_changed),
        cmocka_unit_test(test_give_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
