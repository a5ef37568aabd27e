/* Of RAM that maps files privately: what they hold, and what left them. See pages.h. */
#include <errno.h>
#include <unistd.h>

#include "vmstate/pages.h"

/* An entry of the kernel's pagemap, as much of it as everybody may see. */
#define PAGEMAP_PRESENT (1ull << 63)
#define PAGEMAP_SWAPPED (1ull << 62)
#define PAGEMAP_OF_FILE (1ull << 61)
#define PAGEMAP_BLOCK 512u /* entries read at a time */
#define JOINED_PIECES_MAX 64u

static bool is_own_copy(uint64_t entry)
{
    return (entry & (PAGEMAP_PRESENT | PAGEMAP_SWAPPED)) && !(entry & PAGEMAP_OF_FILE);
}

/* A long run may come in several parts. */
int pages_next_own(const struct guest *g, int pagemap_fd, size_t from, size_t limit, size_t *begin,
                   size_t *end, struct err *err)
{
    uint64_t entries[PAGEMAP_BLOCK];
    size_t base = (size_t)((uintptr_t)g->ram / GUEST_PAGE);
    for (size_t at = from, n; at < limit; at += n) {
        n = limit - at < PAGEMAP_BLOCK ? limit - at : PAGEMAP_BLOCK;
        ssize_t got = pread(pagemap_fd, entries, n * 8, (off_t)(base + at) * 8);
        if (got != (ssize_t)(n * 8))
            return err_sys(err, got < 0 ? errno : EIO, "cannot read the pagemap of guest RAM");
        size_t i = 0;
        while (i < n && !is_own_copy(entries[i]))
            i++;
        if (i == n)
            continue;
        *begin = at + i;
        while (i < n && is_own_copy(entries[i]))
            i++;
        *end = at + i;
        return 0;
    }
    *begin = *end = limit;
    return 0;
}

/* The first piece that ends behind `page`. */
static size_t find_piece(const struct pages_piece *pieces, size_t count, size_t page)
{
    size_t low = 0, high = count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (pieces[middle].first + pieces[middle].count <= page)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* The next run in one piece, clipped to it and to [from, limit); false when there is none. */
static bool next_in_piece(const struct pages_piece *p, size_t from, size_t limit, size_t *begin,
                          size_t *end)
{
    size_t low = from > p->first ? from : p->first, high = p->first + p->count;
    if (high > limit)
        high = limit;
    if (low >= high)
        return false;
    pages_next_in_file(p->fd, p->at + (low - p->first), p->at + (high - p->first), begin, end);
    *begin = *begin - p->at + p->first;
    *end = *end - p->at + p->first;
    return *begin < high;
}

/* A run goes on over some of the pieces that begin where it ends: who wants all of it asks again.
 */
static void next_in_files(const struct pages_piece *pieces, size_t count, size_t from, size_t limit,
                          size_t *begin, size_t *end)
{
    size_t i = find_piece(pieces, count, from), more, stop;
    while (i < count && pieces[i].first < limit &&
           !next_in_piece(&pieces[i], from, limit, begin, end))
        i++;
    if (i == count || pieces[i].first >= limit) {
        *begin = *end = limit;
        return;
    }
    size_t last = i + JOINED_PIECES_MAX < count ? i + JOINED_PIECES_MAX : count;
    while (*end < limit && ++i < last && pieces[i].first == *end &&
           next_in_piece(&pieces[i], *end, limit, &more, &stop) && more == *end)
        *end = stop;
}

/* The files are asked first: what they hold they hold for good, as nothing writes to them. */
int pages_next_private(const struct guest *g, const struct pages_piece *pieces, size_t count,
                       int pagemap_fd, size_t from, size_t limit, size_t *begin, size_t *end,
                       struct err *err)
{
    size_t own = limit, own_end = limit;
    next_in_files(pieces, count, from, limit, begin, end);
    int rc = pages_next_own(g, pagemap_fd, from, *begin, &own, &own_end, err);
    if (rc == 0 && own < *begin) {
        *begin = own;
        *end = own_end;
    }
    return rc;
}
