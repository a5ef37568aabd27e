/* See bitmap.h. */
#include "base/bitmap.h"

#include <errno.h>
#include <sys/mman.h>

int bitmap_init(struct bitmap *b, size_t bits, struct err *err)
{
    *b = (struct bitmap){.bits = bits, .nwords = bits / 64 + (bits % 64 != 0)};
    if (b->nwords == 0)
        return 0;
    void *p = mmap(NULL, b->nwords * 8, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED)
        return err_sys(err, errno, "cannot allocate a bitmap of %zu bits", bits);
    b->words = p;
    return 0;
}

void bitmap_fini(struct bitmap *b)
{
    if (b->words)
        munmap((void *)b->words, b->nwords * 8);
    *b = (struct bitmap){0};
}

void bitmap_set(struct bitmap *b, size_t bit)
{
    /* Always a full barrier, also when the bit is set already: a plain look first could pass the
     * caller's write to the page, see the bit just before a harvest takes it, and lose the page. */
    if (bit < b->bits)
        atomic_fetch_or(&b->words[bit / 64], 1ull << (bit % 64));
}

static uint64_t mask_of(const struct bitmap *b, size_t word)
{
    if (word + 1 == b->nwords && b->bits % 64)
        return (1ull << (b->bits % 64)) - 1;
    return ~0ull;
}

void bitmap_or_word(struct bitmap *b, size_t word, uint64_t bits)
{
    if (word < b->nwords && bits)
        atomic_fetch_or(&b->words[word], bits & mask_of(b, word));
}

void bitmap_set_range(struct bitmap *b, size_t first, size_t count)
{
    if (first >= b->bits || count == 0)
        return;
    if (count > b->bits - first)
        count = b->bits - first;
    size_t last = first + count - 1;
    for (size_t w = first / 64; w <= last / 64; w++) {
        uint64_t mask = ~0ull;
        if (w == first / 64)
            mask &= ~0ull << (first % 64);
        if (w == last / 64)
            mask &= ~0ull >> (63 - last % 64);
        atomic_fetch_or(&b->words[w], mask);
    }
}

void bitmap_clear(struct bitmap *b, size_t bit)
{
    if (bit < b->bits)
        atomic_fetch_and(&b->words[bit / 64], ~(1ull << (bit % 64)));
}

bool bitmap_test(const struct bitmap *b, size_t bit)
{
    return bit < b->bits && (atomic_load(&b->words[bit / 64]) >> (bit % 64) & 1);
}

uint64_t bitmap_take_word(struct bitmap *b, size_t word)
{
    if (word >= b->nwords || atomic_load_explicit(&b->words[word], memory_order_relaxed) == 0)
        return 0;
    return atomic_exchange(&b->words[word], 0);
}

size_t bitmap_move(struct bitmap *to, struct bitmap *from)
{
    size_t taken = 0;
    for (size_t w = 0; w < from->nwords; w++) {
        uint64_t bits = bitmap_take_word(from, w);
        bitmap_or_word(to, w, bits);
        taken += (size_t)__builtin_popcountll(bits);
    }
    return taken;
}

size_t bitmap_next(const struct bitmap *b, size_t from)
{
    if (from >= b->bits)
        return b->bits;
    size_t w = from / 64;
    uint64_t bits = atomic_load(&b->words[w]) & ~0ull << (from % 64);
    while (bits == 0) {
        if (++w == b->nwords)
            return b->bits;
        bits = atomic_load(&b->words[w]);
    }
    return w * 64 + (size_t)__builtin_ctzll(bits);
}

size_t bitmap_count(const struct bitmap *b)
{
    size_t n = 0;
    for (size_t w = 0; w < b->nwords; w++)
        n += (size_t)__builtin_popcountll(atomic_load(&b->words[w]));
    return n;
}
