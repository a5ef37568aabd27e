/* See fake_sink.h. */
#include "tests/sim/fake_sink.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/le.h"

static int refuse(struct fake_sink *s, const char *rule, struct err *err)
{
    s->broken_rule = rule;
    return err_set(err, EPROTO, "%s", rule);
}

static int note(struct fake_sink *s, uint64_t offset, uint64_t bytes, struct err *err)
{
    uint64_t all = s->g->pages * GUEST_PAGE;
    if (s->last)
        return refuse(s, "pages after the last round", err);
    if (bytes == 0 || offset % GUEST_PAGE || bytes % GUEST_PAGE || offset >= all ||
        bytes > all - offset)
        return refuse(s, "not a range of whole pages", err);
    size_t first = offset / GUEST_PAGE, count = bytes / GUEST_PAGE;
    if (bitmap_next(&s->told, first) < first + count)
        return refuse(s, "a page twice in a round", err);
    bitmap_set_range(&s->told, first, count);
    s->told_paused += s->g->running ? 0 : count;
    return 0;
}

static int on_pages(void *ctx, uint64_t offset, const uint8_t *data, size_t bytes, struct err *err)
{
    struct fake_sink *s = ctx;
    fake_guest_race(s->g);
    int rc = note(s, offset, bytes, err);
    if (rc < 0)
        return rc;
    size_t half = fake_guest_random(s->g, bytes + 1);
    memcpy(s->image + offset, data, half);
    fake_guest_race(s->g);
    if (fake_guest_fails(s->g, FAKE_SINK_PAGES))
        return err_set(err, EIO, "fault in the sink");
    memcpy(s->image + offset + half, data + half, bytes - half);
    s->pages += bytes / GUEST_PAGE;
    fake_guest_spend(s->g, bytes / GUEST_PAGE * s->g->costs.page);
    return 0;
}

static int on_zero(void *ctx, uint64_t offset, uint64_t bytes, struct err *err)
{
    struct fake_sink *s = ctx;
    fake_guest_race(s->g);
    int rc = note(s, offset, bytes, err);
    if (rc < 0)
        return rc;
    if (fake_guest_fails(s->g, FAKE_SINK_ZERO))
        return err_set(err, EIO, "fault in the sink");
    memset(s->image + offset, 0, bytes);
    s->zeroes += bytes / GUEST_PAGE;
    fake_guest_spend(s->g, bytes / GUEST_PAGE * s->g->costs.page);
    return 0;
}

static int on_round_end(void *ctx, const struct page_round *round, struct err *err)
{
    struct fake_sink *s = ctx;
    fake_guest_race(s->g);
    if (round->number != s->rounds++ || s->last)
        return refuse(s, "a round out of order", err);
    if (fake_guest_fails(s->g, FAKE_SINK_ROUND_END))
        return err_set(err, EIO, "fault in the sink");
    s->last = round->last;
    for (size_t w = 0; w < s->told.nwords; w++)
        bitmap_take_word(&s->told, w);
    return 0;
}

static int on_state(void *ctx, const uint8_t *data, size_t bytes, struct err *err)
{
    struct fake_sink *s = ctx;
    fake_guest_race(s->g);
    if (!s->last || s->states++ || bytes != 4)
        return refuse(s, "state out of order", err);
    if (fake_guest_fails(s->g, FAKE_SINK_STATE))
        return err_set(err, EIO, "fault in the sink");
    s->state = (uint32_t)le_get(data, 4);
    return 0;
}

static const struct page_sink_ops fake_sink_ops = {
    .pages = on_pages,
    .zero = on_zero,
    .state = on_state,
    .round_end = on_round_end,
};

void fake_sink_init(struct fake_sink *s, struct fake_guest *g)
{
    struct err err;
    *s = (struct fake_sink){.g = g};
    s->sink = (struct page_sink){
        .ops = &fake_sink_ops, .ctx = s, .wants_zero_scan = true, .starts_zero = true};
    s->image = calloc(g->pages, GUEST_PAGE);
    if (!s->image || bitmap_init(&s->told, g->pages, &err) < 0)
        _exit(99); /* no memory for a test is no result of it */
}

void fake_sink_fini(struct fake_sink *s)
{
    bitmap_fini(&s->told);
    free(s->image);
}

void fake_sink_reset(struct fake_sink *s)
{
    for (size_t w = 0; w < s->told.nwords; w++)
        bitmap_take_word(&s->told, w);
    s->rounds = s->states = 0;
    s->last = false;
    s->pages = s->zeroes = s->told_paused = 0;
}

void fake_sink_set_image(struct fake_sink *s, const uint8_t *parent)
{
    fake_sink_reset(s);
    memcpy(s->image, parent, s->g->pages * GUEST_PAGE);
}
