/*
 * Pages by runs: which of them may hold something, which are zero, and telling a sink about them.
 *
 * The memory looked at may be a running guest's and change meanwhile. Any answer is then one of a
 * moment after the call began, and the dirty log has the page for a later round.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "vmstate/guest.h"
#include "vmstate/page_sink.h"

/* What a sink was told, or spared because it is zero. */
struct pages_told {
    uint64_t pages, zero_pages; /* `pages` went as data; `zero_pages` were found to be zero */
};

/* Are all GUEST_PAGE bytes zero? */
bool pages_all_zero(const uint8_t *page);

/* How many of the pages from `data` on are like the first, all zero or none; `count` is above 0. */
size_t pages_run(const uint8_t *data, size_t count, bool *zero);

/* struct guest_ops.ram_next, or the answer of ram_fd. */
int pages_next(const struct guest *g, size_t from, size_t limit, size_t *begin, size_t *end,
               struct err *err);

/* Pages of a file that may hold something, by SEEK_DATA; what cannot be asked does. */
void pages_next_in_file(int fd, size_t from, size_t limit, size_t *begin, size_t *end);

/* What an image under a guest's RAM holds: as ram_next, and it cannot fail. What is found once
 * holds for good. */
struct pages_image {
    void (*next)(void *ctx, size_t from, size_t limit, size_t *begin, size_t *end);
    void *ctx;
};

/*
 * The same for a guest whose RAM is private and began as an image (a clone): pages that the image
 * holds, whether they are there yet or not, and pages that were written since. `pagemap_fd` is
 * /proc/self/pagemap as opened by the process that maps the RAM. For a ram_next; borrowed.
 */
int pages_next_private(const struct guest *g, const struct pages_image *image, int pagemap_fd,
                       size_t from, size_t limit, size_t *begin, size_t *end, struct err *err);

/* Only the pages that the process has of its own: all others are as in the image. */
int pages_next_own(const struct guest *g, int pagemap_fd, size_t from, size_t limit, size_t *begin,
                   size_t *end, struct err *err);

/* Tells pages first..first+count-1, whose contents lie at `data`, as data and zero runs; zero runs
 * are found if the sink wants that, and counted but not told with `spare_zero`. */
int pages_tell(const struct page_sink *sink, size_t first, size_t count, const uint8_t *data,
               bool spare_zero, struct pages_told *told, struct err *err);
