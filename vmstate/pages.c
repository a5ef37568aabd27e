/* See pages.h. */
#include "vmstate/pages.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#define ZERO_HEAD 16u

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

void pages_next_in_file(int fd, size_t from, size_t limit, size_t *begin, size_t *end)
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
        pages_next_in_file(g->ram_fd, from, limit, begin, end);
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
