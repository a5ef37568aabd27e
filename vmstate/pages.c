/* See pages.h. */
#include "vmstate/pages.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#define ZERO_HEAD 16u

/* An entry of the kernel's pagemap, as much of it as everybody may see. */
#define PAGEMAP_PRESENT (1ull << 63)
#define PAGEMAP_SWAPPED (1ull << 62)
#define PAGEMAP_OF_FILE (1ull << 61)
#define PAGEMAP_BLOCK 512u /* entries read at a time */

/* A page that equals itself moved by some bytes repeats its head; memcmp picks the widest
 * instructions of the CPU that it runs on. Most pages that are not zero end at the first look. */
bool pages_all_zero(const uint8_t *page)
{
    uint64_t head[ZERO_HEAD / 8];
    memcpy(head, page, ZERO_HEAD);
    return (head[0] | head[1]) == 0 && memcmp(page, page + ZERO_HEAD, GUEST_PAGE - ZERO_HEAD) == 0;
}

size_t pages_run(const uint8_t *data, size_t count, bool *zero)
{
    *zero = pages_all_zero(data);
    size_t n = 1;
    while (n < count && pages_all_zero(data + n * GUEST_PAGE) == *zero)
        n++;
    return n;
}

/* By SEEK_DATA; what cannot be asked is data. */
static void next_by_fd(int fd, size_t from, size_t limit, size_t *begin, size_t *end)
{
    *begin = from;
    *end = limit;
    if (fd < 0)
        return;
    off_t data = lseek(fd, (off_t)from * GUEST_PAGE, SEEK_DATA);
    if (data < 0) {
        *begin = errno == ENXIO ? limit : from;
        return;
    }
    *begin = (size_t)data / GUEST_PAGE;
    if (*begin >= limit) {
        *begin = limit;
        return;
    }
    off_t hole = lseek(fd, data, SEEK_HOLE);
    size_t stop = hole < 0 ? limit : ((size_t)hole + GUEST_PAGE - 1) / GUEST_PAGE;
    /* A hole that was made between the two questions must not stop the caller from going on. */
    stop = stop <= *begin ? *begin + 1 : stop;
    *end = stop < limit ? stop : limit;
}

int pages_next(const struct guest *g, size_t from, size_t limit, size_t *begin, size_t *end,
               struct err *err)
{
    if (!g->ops->ram_next) {
        next_by_fd(g->ram_fd, from, limit, begin, end);
        return 0;
    }
    int rc = g->ops->ram_next(g->ctx, from, limit, begin, end, err);
    if (rc < 0)
        return rc;
    if (*begin < from || *begin > limit || (*begin < limit && (*end <= *begin || *end > limit)))
        return err_set(err, EINVAL, "the guest's map of used memory gives pages %zu to %zu for %zu",
                       *begin, *end, from);
    return 0;
}

static bool is_own_copy(uint64_t entry)
{
    return (entry & (PAGEMAP_PRESENT | PAGEMAP_SWAPPED)) && !(entry & PAGEMAP_OF_FILE);
}

/* The first run of pages in [from, limit) that are the process's own; a long one may come in
 * several parts. */
static int next_own(const struct guest *g, int pagemap_fd, size_t from, size_t limit, size_t *begin,
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

/* The file is asked first: what it holds it holds for good, as nothing writes to it. */
int pages_next_private(const struct guest *g, int file_fd, int pagemap_fd, size_t from,
                       size_t limit, size_t *begin, size_t *end, struct err *err)
{
    size_t own = limit, own_end = limit;
    next_by_fd(file_fd, from, limit, begin, end);
    int rc = next_own(g, pagemap_fd, from, *begin, &own, &own_end, err);
    if (rc == 0 && own < *begin) {
        *begin = own;
        *end = own_end;
    }
    return rc;
}

static int tell_run(const struct page_sink *sink, size_t first, size_t count, const uint8_t *data,
                    bool zero, bool spare_zero, struct pages_told *told, struct err *err)
{
    uint64_t offset = (uint64_t)first * GUEST_PAGE;
    if (!zero) {
        told->pages += count;
        return sink->ops->pages(sink->ctx, offset, data, count * GUEST_PAGE, err);
    }
    told->zero_pages += count;
    return spare_zero ? 0 : sink->ops->zero(sink->ctx, offset, (uint64_t)count * GUEST_PAGE, err);
}

int pages_tell(const struct page_sink *sink, size_t first, size_t count, const uint8_t *data,
               bool spare_zero, struct pages_told *told, struct err *err)
{
    int rc = 0;
    while (rc == 0 && count > 0) {
        bool zero = false;
        size_t n = sink->wants_zero_scan ? pages_run(data, count, &zero) : count;
        rc = tell_run(sink, first, n, data, zero, spare_zero, told, err);
        first += n;
        data += n * GUEST_PAGE;
        count -= n;
    }
    return rc;
}
