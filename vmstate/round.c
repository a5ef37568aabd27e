/* See round.h. */
#include "vmstate/round.h"

/* A hole as long as this is re-armed at a time. */
#define HOLE_MAX ((size_t)1 << 18)

void round_begin(struct round *r)
{
    r->told = (struct pages_told){0};
    r->untouched = r->gone_through = r->copy_ns = r->sink_ns = 0;
    r->began_ns = guest_now_ns(r->guest);
    r->used_from = r->used_to = 0;
    stash_clear(&r->stash);
}

static int step(struct round *r, uint64_t pages, struct err *err)
{
    r->gone_through += pages;
    return r->step ? r->step(r->ctx, pages, err) : 0;
}

/*
 * pages_next, without asking again within a run of used pages: the kernel finds the end of a run by
 * walking all of it, so a question for each chunk would cost the square of RAM. That a page is not
 * used is never remembered: that is true only of the moment of the question.
 */
static int next_used(struct round *r, size_t at, size_t end, size_t *begin, size_t *stop,
                     struct err *err)
{
    size_t limit = guest_pages(r->guest);
    if (r->guest->ops->ram_next && limit - at > HOLE_MAX)
        limit = at + HOLE_MAX;
    if (at < r->used_from || at >= r->used_to) {
        int rc = pages_next(r->guest, at, limit, &r->used_from, &r->used_to, err);
        if (rc < 0)
            return rc;
        if (r->used_from == limit)
            r->used_to = limit;
    }
    *begin = at > r->used_from ? at : r->used_from;
    *begin = *begin < end ? *begin : end;
    *stop = r->used_to < end ? r->used_to : end;
    return 0;
}

/* How many pages from `at` on go together: a chunk, or a longer hole. What lies in it is asked
 * again once it is re-armed: only then does a write into the hole come back by the log. */
static int span_at(struct round *r, size_t at, size_t end, size_t *span, struct err *err)
{
    size_t begin, stop;
    int rc = next_used(r, at, end, &begin, &stop, err);
    if (rc < 0)
        return rc;
    size_t hole = begin == end ? end - at : (begin - at) / STASH_WORD * STASH_WORD;
    *span = hole > HOLE_MAX ? HOLE_MAX : hole > r->chunk ? hole : r->chunk;
    if (*span > end - at)
        *span = end - at;
    return 0;
}

/* Whole words: `first` and `count` are multiples of STASH_WORD, but for the end of RAM. */
static int take_range(struct round *r, size_t first, size_t count, struct err *err)
{
    if (!r->pages)
        return 0;
    size_t end = (first + count + STASH_WORD - 1) / STASH_WORD;
    for (size_t w = first / STASH_WORD; w < end; w++) {
        uint64_t bits = bitmap_take_word(r->pages, w);
        if (r->taken)
            bitmap_or_word(r->taken, w, bits);
    }
    return r->rearm ? r->guest->ops->dirty_rearm(r->guest->ctx, first, count, err) : 0;
}

static int tell_hole(struct round *r, size_t first, size_t count, struct err *err)
{
    const struct page_sink *sink = r->sink;
    r->untouched += count;
    if (count == 0 || r->spare_holes)
        return 0;
    return sink->ops->zero(sink->ctx, (uint64_t)first * GUEST_PAGE, (uint64_t)count * GUEST_PAGE,
                           err);
}

static int tell_range(struct round *r, size_t at, size_t end, struct err *err)
{
    int rc = 0;
    while (rc == 0 && at < end) {
        size_t begin, stop;
        rc = next_used(r, at, end, &begin, &stop, err);
        if (rc == 0)
            rc = tell_hole(r, at, begin - at, err);
        if (rc < 0 || begin == end)
            return rc;
        rc = pages_tell(r->sink, begin, stop - begin, r->guest->ram + begin * GUEST_PAGE,
                        r->sink->starts_zero, &r->told, err);
        at = stop;
    }
    return rc;
}

int round_sweep(struct round *r, struct err *err)
{
    size_t end = guest_pages(r->guest);
    int rc = 0;
    for (size_t at = 0, span = 0; rc == 0 && at < end; at += span) {
        rc = span_at(r, at, end, &span, err);
        if (rc == 0)
            rc = take_range(r, at, span, err);
        uint64_t before = guest_now_ns(r->guest);
        if (rc == 0)
            rc = tell_range(r, at, at + span, err);
        r->sink_ns += guest_now_ns(r->guest) - before;
        if (rc == 0)
            rc = step(r, span, err);
    }
    return rc;
}

int round_tell(struct round *r, struct err *err)
{
    uint64_t pages = r->stash.pages, before = guest_now_ns(r->guest);
    int rc = stash_tell(&r->stash, r->guest->ram, r->sink, &r->told, err);
    r->sink_ns += guest_now_ns(r->guest) - before;
    stash_clear(&r->stash);
    return rc < 0 || pages == 0 ? rc : step(r, pages, err);
}

/* Fills the stash with the next marked pages; `*more` when the bitmap is not at its end. */
static int fill(struct round *r, size_t *word, enum round_way way, bool *more, struct err *err)
{
    uint64_t before = guest_now_ns(r->guest);
    size_t limit = way == ROUND_COPY_ASIDE ? r->stash.capacity : r->chunk;
    *more = stash_take(&r->stash, r->pages, r->taken, word, limit);
    int rc = r->rearm ? stash_rearm(&r->stash, r->guest, err) : 0;
    if (rc == 0 && way != ROUND_DIRECT)
        stash_copy(&r->stash, r->guest->ram);
    r->copy_ns += guest_now_ns(r->guest) - before;
    return rc;
}

int round_dirty(struct round *r, enum round_way way, struct err *err)
{
    size_t word = 0;
    int rc = 0;
    for (bool more = true; rc == 0 && more;) {
        rc = fill(r, &word, way, &more, err);
        if (rc == 0 && (more || way != ROUND_COPY_ASIDE))
            rc = round_tell(r, err);
    }
    return rc;
}

int round_end(struct round *r, unsigned number, bool last, struct err *err)
{
    const struct page_sink *sink = r->sink;
    struct page_round stats = {
        .number = number,
        .last = last,
        .pages = r->told.pages,
        .zero_pages = r->told.zero_pages,
        .ns = guest_now_ns(r->guest) - r->began_ns,
    };
    return sink->ops->round_end ? sink->ops->round_end(sink->ctx, &stats, err) : 0;
}
