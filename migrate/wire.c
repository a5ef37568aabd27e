/* See wire.h. */
#include "migrate/wire.h"

#include <errno.h>

#include "base/crc32c.h"
#include "base/le.h"

#define MESSAGE_MAX 4096u
#define PAGES_META_MAX (WIRE_RUNS_MAX * 8u + WIRE_PAGES_MAX * 4u)

/* What a frame of each kind may hold. */
// clang-format off
static const struct {
    const char *name;
    uint32_t meta_min, meta_max;
    bool data;
} kinds[WIRE_KINDS] = {
    [WIRE_ALIVE]     = {"ALIVE",     0,  0, false},
    [WIRE_CANCEL]    = {"CANCEL",    0,  MESSAGE_MAX, false},
    [WIRE_START]     = {"START",     1,  MESSAGE_MAX, false},
    [WIRE_EXPECT]    = {"EXPECT",    16, WIRE_RANGES_MAX * 16u, false},
    [WIRE_PAGES]     = {"PAGES",     12, PAGES_META_MAX, true},
    [WIRE_ZERO]      = {"ZERO",      16, WIRE_RANGES_MAX * 16u, false},
    [WIRE_CARGO]     = {"CARGO",     1,  WIRE_CARGO_MAX, false},
    [WIRE_ROUND_END] = {"ROUND_END", 0,  0, false},
    [WIRE_STATE]     = {"STATE",     1,  WIRE_CHUNK_MAX, false},
    [WIRE_COMPLETE]  = {"COMPLETE",  1,  MESSAGE_MAX, false},
    [WIRE_HANDOFF]   = {"HANDOFF",   0,  0, false},
    [WIRE_ACK]       = {"ACK",       0,  0, false},
    [WIRE_READY]     = {"READY",     0,  MESSAGE_MAX, false},
    [WIRE_RUNNING]   = {"RUNNING",   0,  MESSAGE_MAX, false},
    [WIRE_PACKED]    = {"PACKED",    12, PAGES_META_MAX, true},
};
// clang-format on

const char *wire_kind_name(unsigned kind)
{
    return kind < WIRE_KINDS && kinds[kind].name ? kinds[kind].name : "unknown";
}

void wire_head_put(const struct wire_head *h, uint8_t to[WIRE_HEAD_BYTES])
{
    le_put(to, WIRE_MAGIC, 2);
    to[2] = h->kind;
    to[3] = h->flags;
    le_put(to + 4, h->meta_bytes, 4);
    le_put(to + 8, h->data_bytes, 8);
    le_put(to + 16, h->value, 8);
    le_put(to + 24, h->meta_crc, 4);
    le_put(to + 28, crc32c(0, to, 28), 4);
}

static int check(const struct wire_head *h, struct err *err)
{
    if (h->kind >= WIRE_KINDS || !kinds[h->kind].name)
        return err_set(err, EBADMSG, "a frame has the unknown kind %u", h->kind);
    const char *name = kinds[h->kind].name;
    if (h->flags & ~(h->kind == WIRE_ROUND_END ? WIRE_LAST : 0u))
        return err_set(err, EBADMSG, "a frame %s has the unknown flags 0x%x", name, h->flags);
    if (h->meta_bytes < kinds[h->kind].meta_min || h->meta_bytes > kinds[h->kind].meta_max)
        return err_set(err, EBADMSG, "a frame %s has a meta part of %u bytes", name, h->meta_bytes);
    if (h->data_bytes > (kinds[h->kind].data ? (uint64_t)WIRE_PAGES_MAX * WIRE_PAGE : 0))
        return err_set(err, EBADMSG, "a frame %s has %llu bytes of data", name,
                       (unsigned long long)h->data_bytes);
    return 0;
}

int wire_head_get(const uint8_t from[WIRE_HEAD_BYTES], struct wire_head *h, struct err *err)
{
    if (le_get(from, 2) != WIRE_MAGIC)
        return err_set(err, EBADMSG, "a frame has the wrong magic");
    if (le_get(from + 28, 4) != crc32c(0, from, 28))
        return err_set(err, EBADMSG, "the head of a frame has the wrong checksum");
    *h = (struct wire_head){
        .kind = from[2],
        .flags = from[3],
        .meta_bytes = (uint32_t)le_get(from + 4, 4),
        .data_bytes = le_get(from + 8, 8),
        .value = le_get(from + 16, 8),
        .meta_crc = (uint32_t)le_get(from + 24, 4),
    };
    return check(h, err);
}

size_t wire_ranges_put(const struct wire_range *ranges, size_t count, uint8_t *to)
{
    for (size_t i = 0; i < count; i++) {
        le_put(to + i * 16, ranges[i].offset, 8);
        le_put(to + i * 16 + 8, ranges[i].bytes, 8);
    }
    return count * 16;
}

int wire_ranges_get(const uint8_t *meta, size_t bytes, uint64_t ram_bytes,
                    struct wire_range ranges[WIRE_RANGES_MAX], struct err *err)
{
    size_t count = bytes / 16;
    if (bytes % 16 || count == 0 || count > WIRE_RANGES_MAX)
        return err_set(err, EBADMSG, "a table of ranges has %zu bytes", bytes);
    for (size_t i = 0; i < count; i++) {
        uint64_t offset = le_get(meta + i * 16, 8), len = le_get(meta + i * 16 + 8, 8);
        if ((offset | len) % WIRE_PAGE || len == 0 || offset > ram_bytes ||
            len > ram_bytes - offset)
            return err_set(err, EBADMSG, "the range 0x%llx with 0x%llx bytes is not of guest RAM",
                           (unsigned long long)offset, (unsigned long long)len);
        ranges[i] = (struct wire_range){offset, len};
    }
    return (int)count;
}

size_t wire_runs_put(const struct wire_run *runs, size_t count, const uint32_t *crcs, size_t pages,
                     uint8_t *to)
{
    uint8_t *at = to;
    for (size_t i = 0; i < count; i++, at += 8)
        le_put(at, runs[i].offset | (runs[i].pages - 1), 8);
    for (size_t i = 0; i < pages; i++, at += 4)
        le_put(at, crcs[i], 4);
    return (size_t)(at - to);
}

static int get_run(const uint8_t *at, uint64_t ram_bytes, struct wire_run *run, struct err *err)
{
    uint64_t word = le_get(at, 8), pages = word % WIRE_PAGE + 1;
    uint64_t offset = word - word % WIRE_PAGE;
    if (pages > WIRE_PAGES_MAX || offset > ram_bytes || pages * WIRE_PAGE > ram_bytes - offset)
        return err_set(err, EBADMSG, "%llu pages at 0x%llx are not of guest RAM",
                       (unsigned long long)pages, (unsigned long long)offset);
    *run = (struct wire_run){offset, (uint32_t)pages};
    return 0;
}

int wire_runs_get(const struct wire_head *h, const uint8_t *meta, uint64_t ram_bytes,
                  struct wire_run runs[WIRE_RUNS_MAX], uint32_t crcs[WIRE_PAGES_MAX],
                  struct err *err)
{
    uint64_t count = h->value, pages = 0;
    if (count == 0 || count > WIRE_RUNS_MAX || count * 8 > h->meta_bytes)
        return err_set(err, EBADMSG, "a frame %s has %llu runs", wire_kind_name(h->kind),
                       (unsigned long long)count);
    for (size_t i = 0; i < count; i++) {
        int rc = get_run(meta + i * 8, ram_bytes, &runs[i], err);
        if (rc < 0)
            return rc;
        pages += runs[i].pages;
    }
    bool fits = h->kind == WIRE_PACKED ? h->data_bytes && h->data_bytes < pages * WIRE_PAGE
                                       : h->data_bytes == pages * WIRE_PAGE;
    if (pages > WIRE_PAGES_MAX || h->meta_bytes != count * 8 + pages * 4 || !fits)
        return err_set(err, EBADMSG, "a frame %s has %llu pages in %llu bytes",
                       wire_kind_name(h->kind), (unsigned long long)pages,
                       (unsigned long long)h->data_bytes);
    for (size_t i = 0; i < pages; i++)
        crcs[i] = (uint32_t)le_get(meta + count * 8 + i * 4, 4);
    return (int)count;
}
