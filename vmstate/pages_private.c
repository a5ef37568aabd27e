/* Of RAM that began as an image: what that holds, and what was written since. See pages.h. */
#include <errno.h>
#include <unistd.h>

#include "vmstate/pages.h"

/* An entry of the kernel's pagemap, as much of it as everybody may see. */
#define PAGEMAP_PRESENT (1ull << 63)
#define PAGEMAP_SWAPPED (1ull << 62)
#define PAGEMAP_OF_FILE (1ull << 61)
#define PAGEMAP_BLOCK 512u /* entries read at a time */

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

/* The image is asked first: what it holds it holds for good. */
int pages_next_private(const struct guest *g, const struct pages_image *image, int pagemap_fd,
                       size_t from, size_t limit, size_t *begin, size_t *end, struct err *err)
{
    size_t own = limit, own_end = limit;
    image->next(image->ctx, from, limit, begin, end);
    int rc = pages_next_own(g, pagemap_fd, from, *begin, &own, &own_end, err);
    if (rc == 0 && own < *begin) {
        *begin = own;
        *end = own_end;
    }
    return rc;
}
