/*
 * Which pages an image holds: two bits a page, page i in byte i / 4 at bit 2 * (i % 4).
 *
 *     0 in the parent    1 in this image    2 zero    3 never
 *
 * In memory as in the file `pages`. A hole of the memory file cannot tell the first from the last,
 * and filesystems and copying tools make and fill holes as they like.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define PAGES_PAGE_BYTES 4096u

enum pages_state { PAGES_PARENT = 0, PAGES_DATA = 1, PAGES_ZERO = 2 };

struct pages {
    uint8_t *bytes; /* owned; untouched parts cost no memory */
    uint64_t count;
    size_t size; /* of bytes; what the file has */
};

/* All in the parent. At most what 1 TiB of RAM has. */
int pages_init(struct pages *p, uint64_t count, struct err *err);
void pages_fini(struct pages *p);

/* Clipped to the map. */
void pages_set(struct pages *p, uint64_t first, uint64_t count, enum pages_state state);
enum pages_state pages_get(const struct pages *p, uint64_t page);

/* The end of the run of pages that are as `from` is, at most `end`; `from` lies before it. */
uint64_t pages_run_end(const struct pages *p, uint64_t from, uint64_t end);

/* How many of [first, end) are so. */
uint64_t pages_count(const struct pages *p, uint64_t first, uint64_t end, enum pages_state state);

/* What nobody wrote is zero: so a full image has nothing in a parent. */
void pages_fill_zero(struct pages *p);

/* Refuses what no writer makes: the fourth state, bits behind the end, a parent's page in a full
 * image. */
int pages_check(const struct pages *p, bool full, struct err *err);
