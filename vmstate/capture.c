/* See capture.h. */
#include "vmstate/capture.h"

#include <errno.h>
#include <string.h>

#include "base/buf.h"
#include "vmstate/capture_plan.h"
#include "vmstate/round.h"

#define STATE_BYTES_READY (1u << 20) /* present in memory before the pause */

struct capture {
    const struct guest *guest;
    const struct page_sink *sink;
    const struct capture_options *options;
    struct capture_result *result;
    struct capture_plan plan;
    struct capture_costs costs;
    struct capture_progress now;
    struct round round; /* its `pages` are the tracked ones, or our own */
    struct buf state;
    uint64_t collected_ns; /* when pages were last collected */
    bool attached;         /* by us */
    bool paused;           /* by us */
};

static uint64_t now_of_guest(const struct capture *c)
{
    return guest_now_ns(c->guest);
}

static uint64_t or_default(uint64_t value, uint64_t otherwise)
{
    return value ? value : otherwise;
}

static int check_cancel(const struct capture *c, struct err *err)
{
    const atomic_bool *cancel = c->options->cancel;
    return cancel && atomic_load(cancel) ? err_set(err, ECANCELED, "the capture was cancelled") : 0;
}

static void report(struct capture *c)
{
    c->now.pages = c->result->pages + c->round.told.pages;
    c->now.zero_pages = c->result->zero_pages + c->round.told.zero_pages;
    c->now.bytes = c->now.pages * GUEST_PAGE;
    if (c->options->progress && !c->paused)
        c->options->progress(c->options->ctx, &c->now);
}

static int on_step(void *ctx, uint64_t pages, struct err *err)
{
    struct capture *c = ctx;
    c->now.left -= pages < c->now.left ? pages : c->now.left;
    report(c);
    return check_cancel(c, err);
}

/* What the guest wrote before it was attached is in no log: a tracked guest is collected first. */
static int collect(struct capture *c, struct err *err)
{
    uint64_t before = now_of_guest(c);
    int rc = c->guest->ops->dirty_collect(c->guest->ctx, err);
    c->collected_ns = now_of_guest(c);
    c->costs.collect_ns = c->collected_ns - before;
    return rc;
}

static void begin_round(struct capture *c, uint64_t pages)
{
    c->now.round = c->result->rounds;
    c->now.left = pages;
    round_begin(&c->round);
}

/* A round of a few pages on a cold cache says little about one of many: sums fade by half. */
static void learn(struct capture_cost *cost, uint64_t ns, uint64_t pages)
{
    cost->ns = cost->ns / 2 + ns;
    cost->pages = cost->pages / 2 + pages;
}

static int end_round(struct capture *c, bool last, struct err *err)
{
    struct round *r = &c->round;
    struct capture_result *res = c->result;
    int rc = round_end(r, res->rounds, last, err);
    res->rounds++;
    res->pages += r->told.pages;
    res->zero_pages += r->told.zero_pages;
    res->untouched_pages += r->untouched;
    res->bytes = res->pages * GUEST_PAGE;
    c->now.round_ns = now_of_guest(c) - r->began_ns;
    c->now.round_pages = r->gone_through;
    r->told = (struct pages_told){0};
    return rc;
}

static bool sweeps_first(const struct capture *c)
{
    return c->options->whole || !c->options->tracked;
}

static int first_round(struct capture *c, struct err *err)
{
    int rc = c->options->tracked ? collect(c, err) : 0;
    if (rc < 0)
        return rc;
    bool sweep = sweeps_first(c);
    begin_round(c, sweep ? guest_pages(c->guest) : bitmap_count(c->round.pages));
    c->collected_ns = c->round.began_ns;
    return sweep ? round_sweep(&c->round, err) : round_dirty(&c->round, ROUND_DIRECT, err);
}

static int next_round(struct capture *c, struct err *err)
{
    uint64_t left = c->now.left;
    bool copy = !c->options->hold && left <= c->costs.buffer_pages;
    begin_round(c, left);
    int rc = round_dirty(&c->round, copy ? ROUND_COPY : ROUND_DIRECT, err);
    if (copy)
        learn(&c->costs.copy, c->round.copy_ns, c->round.gone_through);
    return rc;
}

/* Collects, and says why to switch now, or CAPTURE_NOT_PAUSED for another round. */
static int between_rounds(struct capture *c, struct err *err)
{
    uint64_t since = c->collected_ns;
    learn(&c->costs.sink, c->round.sink_ns + (c->options->hold ? c->round.copy_ns : 0),
          c->round.gone_through);
    int rc = collect(c, err);
    if (rc < 0)
        return rc;
    uint64_t left = bitmap_count(c->round.pages), ns = c->collected_ns - since;
    c->now.left = left;
    c->now.dirty_pages_per_s = (uint64_t)((double)left * 1e9 / (double)(ns ? ns : 1));
    c->now.predicted_pause_ns = capture_plan_predict(&c->costs, left);
    c->now.reason =
        capture_plan_judge(&c->plan, c->result->rounds, left, c->now.predicted_pause_ns);
    if (left <= c->costs.buffer_pages)
        stash_prepare(&c->round.stash, left * 2 + STASH_WORD);
    report(c);
    if (!c->options->decide)
        return (int)c->now.reason;
    rc = c->options->decide(c->options->ctx, &c->now, err);
    if (rc == CAPTURE_GO_ON)
        return CAPTURE_NOT_PAUSED;
    return rc < 0 ? rc : c->now.reason ? (int)c->now.reason : CAPTURE_ASKED;
}

static int rounds(struct capture *c, struct err *err)
{
    int rc = first_round(c, err);
    for (;;) {
        if (rc == 0)
            rc = end_round(c, false, err);
        if (rc == 0)
            rc = between_rounds(c, err);
        if (rc < 0)
            return rc;
        if (rc != CAPTURE_NOT_PAUSED) {
            c->result->reason = (enum capture_reason)rc;
            return check_cancel(c, err);
        }
        rc = next_round(c, err);
    }
}

static void tracking_off(struct capture *c)
{
    if (c->attached)
        c->guest->ops->dirty_detach(c->guest->ctx, c->round.pages);
    c->attached = false;
    c->round.pages = c->options->tracked;
}

static int save_state(struct capture *c, struct err *err)
{
    int rc = c->guest->ops->save_state(c->guest->ctx, &c->state, err);
    c->result->state_bytes = c->state.len;
    return rc;
}

static int tell_state(struct capture *c, struct err *err)
{
    int rc = end_round(c, true, err);
    if (rc == 0)
        rc = check_cancel(c, err);
    return rc < 0 ? rc
                  : c->sink->ops->state(c->sink->ctx, c->state.data ? c->state.data : (uint8_t *)"",
                                        c->state.len, err);
}

/* Memory that the pause will need is made present before it. */
static int ready_for_pause(struct capture *c, struct err *err)
{
    uint8_t *state = buf_reserve(&c->state, STATE_BYTES_READY);
    if (!state)
        return err_set(err, ENOMEM, "no memory for the state");
    memset(state, 0, STATE_BYTES_READY);
    return 0;
}

static int pause_guest(struct capture *c, struct err *err)
{
    int rc = c->guest->ops->pause(c->guest->ctx, err);
    c->paused = rc == 0;
    return rc;
}

static int resume_guest(struct capture *c, struct err *err)
{
    int rc = c->guest->ops->resume(c->guest->ctx, err);
    c->paused = rc < 0;
    return rc;
}

/* Adds to `*part` what passed since `*mark`, and moves the mark. */
static void lap(const struct capture *c, uint64_t *mark, uint64_t *part)
{
    uint64_t now = now_of_guest(c);
    *part += now - *mark;
    *mark = now;
}

/* State comes before the last collect: saving it may write to guest memory. */
static int take_rest(struct capture *c, uint64_t *mark, struct err *err)
{
    struct capture_pause *pause = &c->result->pause;
    int rc = save_state(c, err);
    lap(c, mark, &pause->state_ns);
    if (rc == 0)
        rc = collect(c, err);
    lap(c, mark, &pause->collect_ns);
    if (rc < 0)
        return rc;
    begin_round(c, 0);
    c->round.rearm = c->options->tracked != NULL;
    rc = round_dirty(&c->round, c->options->hold ? ROUND_DIRECT : ROUND_COPY_ASIDE, err);
    c->result->last_pages = c->round.gone_through + c->round.stash.pages;
    uint64_t all = 0;
    lap(c, mark, &all);
    pause->sink_ns += c->round.sink_ns;
    pause->copy_ns += all - (c->round.sink_ns < all ? c->round.sink_ns : all);
    return rc;
}

static int pause_and_take(struct capture *c, struct err *err)
{
    struct capture_pause *pause = &c->result->pause;
    uint64_t began = now_of_guest(c), mark = began;
    int rc = pause_guest(c, err);
    lap(c, &mark, &pause->stop_ns);
    if (rc == 0)
        rc = take_rest(c, &mark, err);
    if (rc == 0)
        rc = check_cancel(c, err);
    if (rc == 0 && c->options->hold) {
        rc = tell_state(c, err);
        lap(c, &mark, &pause->sink_ns);
    } else if (rc == 0) {
        rc = resume_guest(c, err);
        lap(c, &mark, &pause->resume_ns);
    }
    pause->total_ns = mark - began;
    return rc;
}

static int run_live(struct capture *c, struct err *err)
{
    int rc = rounds(c, err);
    if (rc == 0)
        rc = ready_for_pause(c, err);
    if (rc == 0)
        rc = pause_and_take(c, err);
    if (rc < 0 || c->options->hold)
        return rc;
    tracking_off(c); /* the guest need not pay for it any longer */
    c->now.left = c->round.stash.pages;
    rc = round_tell(&c->round, err);
    return rc < 0 ? rc : tell_state(c, err);
}

static int run_paused(struct capture *c, struct err *err)
{
    int rc = save_state(c, err);
    if (rc == 0)
        rc = first_round(c, err);
    if (rc == 0)
        rc = check_cancel(c, err);
    return rc < 0 ? rc : tell_state(c, err);
}

static int check(const struct guest *g, const struct capture_options *o, struct err *err)
{
    if (g->ram_bytes == 0 || g->ram_bytes % GUEST_PAGE)
        return err_set(err, EINVAL, "guest RAM of %llu bytes is not whole pages",
                       (unsigned long long)g->ram_bytes);
    if (o->tracked && o->tracked->bits != guest_pages(g))
        return err_set(err, EINVAL, "the tracked bitmap has %zu pages, guest RAM %zu",
                       o->tracked->bits, guest_pages(g));
    return 0;
}

/* Bytes to pages: whole words, at most all of RAM. */
static size_t pages_of(const struct capture *c, uint64_t bytes, uint64_t otherwise)
{
    uint64_t pages = or_default(bytes, otherwise) / GUEST_PAGE;
    pages = pages < guest_pages(c->guest) ? pages : guest_pages(c->guest);
    return (size_t)(pages + STASH_WORD - 1) / STASH_WORD * STASH_WORD;
}

static int make_room(struct capture *c, struct err *err)
{
    const struct capture_options *o = c->options;
    bool copies = o->mode == CAPTURE_LIVE && !o->hold;
    c->round.chunk = or_default(pages_of(c, o->chunk_bytes, CAPTURE_CHUNK_BYTES), STASH_WORD);
    size_t buffer = copies ? pages_of(c, o->buffer_bytes, CAPTURE_BUFFER_BYTES) : 0;
    int rc =
        stash_init(&c->round.stash, buffer > c->round.chunk ? buffer : c->round.chunk, copies, err);
    if (rc < 0)
        return rc;
    c->costs.buffer_pages = copies ? c->round.stash.capacity : 0;
    if (!o->tracked)
        return 0;
    c->round.taken = &c->result->taken;
    return bitmap_init(c->round.taken, guest_pages(c->guest), err);
}

static int begin(struct capture *c, struct err *err)
{
    const struct capture_options *o = c->options;
    int rc = make_room(c, err);
    if (rc < 0)
        return rc;
    c->round.pages = o->tracked;
    if (o->mode == CAPTURE_LIVE && !o->tracked) {
        rc = c->guest->ops->dirty_attach(c->guest->ctx, &c->round.pages, err);
        c->attached = rc == 0;
    }
    c->round.rearm = c->round.pages != NULL;
    return rc;
}

/* Everything but what the sink got is as it was before. */
static int undo(struct capture *c, int rc, struct err *err)
{
    struct err second;
    if (c->paused && resume_guest(c, &second) < 0)
        rc = err_wrap(err, "the guest stays paused (%s) after", second.text);
    if (c->options->tracked)
        capture_give_back(c->result, c->options->tracked);
    bitmap_fini(&c->result->taken);
    return rc;
}

static void init(struct capture *c)
{
    const struct capture_options *o = c->options;
    *c->result = (struct capture_result){0};
    capture_plan_init(&c->plan, or_default(o->pause_budget_ns, CAPTURE_BUDGET_NS),
                      o->max_rounds ? o->max_rounds : CAPTURE_ROUNDS_MAX);
    c->costs.fixed_ns = or_default(o->pause_fixed_ns, CAPTURE_FIXED_NS);
    c->round.guest = c->guest;
    c->round.sink = c->sink;
    c->round.spare_holes = o->on_parent || c->sink->starts_zero;
    c->round.step = on_step;
    c->round.ctx = c;
    buf_init(&c->state, GUEST_STATE_BYTES_MAX);
}

int capture_run(const struct guest *guest, const struct page_sink *sink,
                const struct capture_options *options, struct capture_result *result,
                struct err *err)
{
    struct capture c = {.guest = guest, .sink = sink, .options = options, .result = result};
    init(&c);
    uint64_t began = now_of_guest(&c);
    int rc = check(guest, options, err);
    if (rc == 0)
        rc = begin(&c, err);
    if (rc == 0)
        rc = options->mode == CAPTURE_LIVE ? run_live(&c, err) : run_paused(&c, err);
    if (rc < 0)
        rc = undo(&c, rc, err);
    tracking_off(&c);
    stash_fini(&c.round.stash);
    buf_fini(&c.state);
    result->total_ns = now_of_guest(&c) - began;
    return rc;
}

void capture_give_back(const struct capture_result *result, struct bitmap *tracked)
{
    for (size_t w = 0; w < result->taken.nwords; w++)
        bitmap_or_word(tracked, w, result->taken.words[w]);
}

void capture_result_fini(struct capture_result *result)
{
    bitmap_fini(&result->taken);
}
