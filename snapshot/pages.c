/* See pages.h. */
#include "snapshot/pages.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#define PAGES_MAX (1ull << 28)

int pages_init(struct pages *p, uint64_t count, struct err *err)
{
    *p = (struct pages){0};
    if (count == 0 || count > PAGES_MAX)
        return err_set(err, EINVAL, "%llu pages of RAM are too many or none",
                       (unsigned long long)count);
    size_t size = (size_t)((count + 3) / 4);
    void *at = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (at == MAP_FAILED)
        return err_sys(err, errno, "no memory for a map of %llu pages", (unsigned long long)count);
    *p = (struct pages){.bytes = at, .count = count, .size = size};
    return 0;
}

void pages_fini(struct pages *p)
{
    if (p->bytes)
        munmap(p->bytes, p->size);
    *p = (struct pages){0};
}

static void set_one(struct pages *p, uint64_t page, enum pages_state state)
{
    unsigned shift = 2 * (page & 3);
    uint8_t *byte = &p->bytes[page >> 2];
    *byte = (uint8_t)((*byte & ~(3u << shift)) | (unsigned)state << shift);
}

void pages_set(struct pages *p, uint64_t first, uint64_t count, enum pages_state state)
{
    if (first >= p->count)
        return;
    uint64_t end = count < p->count - first ? first + count : p->count;
    for (; first < end && first & 3; first++)
        set_one(p, first, state);
    if (end - first >= 4) {
        memset(p->bytes + (first >> 2), (int)state * 0x55, (size_t)((end - first) >> 2));
        first += (end - first) & ~3ull;
    }
    for (; first < end; first++)
        set_one(p, first, state);
}

enum pages_state pages_get(const struct pages *p, uint64_t page)
{
    return page < p->count ? p->bytes[page >> 2] >> (2 * (page & 3)) & 3 : PAGES_PARENT;
}

uint64_t pages_run_end(const struct pages *p, uint64_t from, uint64_t end)
{
    enum pages_state state = pages_get(p, from);
    const uint64_t same = (uint64_t)state * 0x5555555555555555u;
    uint64_t at = from + 1, word;
    if (end > p->count)
        end = p->count;
    while (at < end) {
        if ((at & 31) == 0 && end - at >= 32) {
            memcpy(&word, p->bytes + (at >> 2), sizeof(word));
            if (word == same) {
                at += 32;
                continue;
            }
        }
        if (pages_get(p, at) != state)
            break;
        at++;
    }
    return at < end ? at : end;
}

uint64_t pages_count(const struct pages *p, uint64_t first, uint64_t end, enum pages_state state)
{
    uint64_t found = 0;
    for (uint64_t next; first < end && first < p->count; first = next) {
        next = pages_run_end(p, first, end);
        if (pages_get(p, first) == state)
            found += next - first;
    }
    return found;
}

void pages_fill_zero(struct pages *p)
{
    for (uint64_t at = 0, next; at < p->count; at = next) {
        next = pages_run_end(p, at, p->count);
        if (pages_get(p, at) == PAGES_PARENT)
            pages_set(p, at, next - at, PAGES_ZERO);
    }
}

int pages_check(const struct pages *p, bool full, struct err *err)
{
    for (uint64_t at = 0; at < p->count; at = pages_run_end(p, at, p->count)) {
        unsigned state = pages_get(p, at);
        if (state > PAGES_ZERO || (full && state == PAGES_PARENT))
            return err_set(err, EBADMSG, "'pages' has state %u for page %llu%s", state,
                           (unsigned long long)at, full ? " of a full image" : "");
    }
    if (p->count & 3 && p->bytes[p->size - 1] >> (2 * (p->count & 3)))
        return err_set(err, EBADMSG, "'pages' has bits behind its last page");
    return 0;
}
