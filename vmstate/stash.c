/* See stash.h. */
#include "vmstate/stash.h"

#include <errno.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23 /* Linux 5.14; headers may be older */
#endif

/*
 * Runs closer to each other than this are re-armed by one call. A call interrupts every vCPU, while
 * pages without a bit cost a look at their words: 64 MiB of them are 256 words. Re-arming a page
 * that was not taken is harmless: it is read later all the same.
 */
#define REARM_GAP 16384u

static void *map(size_t bytes)
{
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                   -1, 0);
    return p == MAP_FAILED ? NULL : p;
}

static void populate(void *at, size_t bytes)
{
    if (bytes == 0 || madvise(at, bytes, MADV_POPULATE_WRITE) == 0)
        return;
    for (volatile uint8_t *p = at; bytes > 0; bytes -= bytes < GUEST_PAGE ? bytes : GUEST_PAGE) {
        *p = 0;
        p += GUEST_PAGE;
    }
}

int stash_init(struct stash *s, size_t pages, bool copies, struct err *err)
{
    *s = (struct stash){0};
    size_t words = pages / STASH_WORD + (pages % STASH_WORD != 0);
    s->capacity = words ? words * STASH_WORD : STASH_WORD;
    size_t runs = s->capacity * sizeof(*s->runs);
    s->runs = map(runs);
    s->data = s->runs && copies ? map(s->capacity * GUEST_PAGE) : NULL;
    if (!s->runs || (copies && !s->data)) {
        stash_fini(s);
        return err_set(err, ENOMEM, "no memory for a buffer of %zu pages", pages);
    }
    populate(s->runs, runs);
    return 0;
}

void stash_fini(struct stash *s)
{
    if (s->runs)
        munmap(s->runs, s->capacity * sizeof(*s->runs));
    if (s->data)
        munmap(s->data, s->capacity * GUEST_PAGE);
    *s = (struct stash){0};
}

void stash_prepare(struct stash *s, size_t pages)
{
    if (pages > s->capacity)
        pages = s->capacity;
    if (!s->data || pages <= s->prepared)
        return;
    populate(s->data + s->prepared * GUEST_PAGE, (pages - s->prepared) * GUEST_PAGE);
    s->prepared = pages;
}

static void add_run(struct stash *s, size_t first, size_t count)
{
    struct stash_run *last = s->nruns ? &s->runs[s->nruns - 1] : NULL;
    if (last && last->first + last->count == first)
        last->count += count;
    else
        s->runs[s->nruns++] = (struct stash_run){.first = first, .count = count};
    s->pages += count;
}

static void add_word(struct stash *s, size_t first, uint64_t bits)
{
    while (bits) {
        unsigned skip = (unsigned)__builtin_ctzll(bits);
        uint64_t rest = ~(bits >> skip);
        unsigned count = rest ? (unsigned)__builtin_ctzll(rest) : STASH_WORD;
        add_run(s, first + skip, count);
        if (skip + count >= STASH_WORD)
            return;
        bits &= ~0ull << (skip + count);
    }
}

bool stash_take(struct stash *s, struct bitmap *from, struct bitmap *taken, size_t *word,
                size_t limit)
{
    if (limit > s->capacity)
        limit = s->capacity;
    for (; *word < from->nwords && s->pages + STASH_WORD <= limit; ++*word) {
        uint64_t bits = bitmap_take_word(from, *word);
        if (bits == 0)
            continue;
        if (taken)
            bitmap_or_word(taken, *word, bits);
        add_word(s, *word * STASH_WORD, bits);
    }
    return *word < from->nwords;
}

int stash_rearm(const struct stash *s, const struct guest *guest, struct err *err)
{
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < s->nruns;) {
        size_t first = s->runs[i].first, end = first;
        for (; i < s->nruns && s->runs[i].first <= end + REARM_GAP; i++)
            end = s->runs[i].first + s->runs[i].count;
        rc = guest->ops->dirty_rearm(guest->ctx, first, end - first, err);
    }
    return rc;
}

void stash_copy(struct stash *s, const uint8_t *ram)
{
    uint8_t *to = s->data;
    for (size_t i = 0; i < s->nruns; i++) {
        size_t bytes = s->runs[i].count * GUEST_PAGE;
        memcpy(to, ram + s->runs[i].first * GUEST_PAGE, bytes);
        to += bytes;
    }
    s->copied = true;
}

int stash_tell(const struct stash *s, const uint8_t *ram, const struct page_sink *sink,
               struct pages_told *told, struct err *err)
{
    int rc = 0;
    const uint8_t *copy = s->data;
    for (size_t i = 0; rc == 0 && i < s->nruns; i++) {
        size_t first = s->runs[i].first, count = s->runs[i].count;
        const uint8_t *data = s->copied ? copy : ram + first * GUEST_PAGE;
        rc = pages_tell(sink, first, count, data, false, told, err);
        copy = s->copied ? copy + count * GUEST_PAGE : NULL;
    }
    return rc;
}

void stash_clear(struct stash *s)
{
    s->nruns = s->pages = 0;
    s->copied = false;
}
