/*
 * One frame of a migration, as a peer that means harm sends it: 32 bytes of head, then the meta
 * part. The checksums are put right here, or nothing would get behind them. What is taken is put
 * again as the same bytes, and never names memory that the guest does not have.
 */
#include <stdlib.h>
#include <string.h>

#include "base/crc32c.h"
#include "base/le.h"
#include "migrate/wire.h"

#define RAM_BYTES (64ull << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct wire_range ranges[WIRE_RANGES_MAX];
static struct wire_run runs[WIRE_RUNS_MAX];
static uint32_t crcs[WIRE_PAGES_MAX];
static uint8_t again[WIRE_META_MAX];

static void must(bool holds)
{
    if (!holds)
        abort();
}

static void try_ranges(const uint8_t *meta, size_t bytes)
{
    struct err err = {0};
    int n = wire_ranges_get(meta, bytes, RAM_BYTES, ranges, &err);
    if (n < 0) {
        must(err.code == -n && err.text[0]);
        return;
    }
    for (int i = 0; i < n; i++)
        must(ranges[i].bytes && ranges[i].offset < RAM_BYTES &&
             ranges[i].bytes <= RAM_BYTES - ranges[i].offset);
    must(wire_ranges_put(ranges, (size_t)n, again) == bytes && memcmp(again, meta, bytes) == 0);
}

static void try_runs(const struct wire_head *h, const uint8_t *meta)
{
    struct err err = {0};
    uint64_t pages = 0;
    int n = wire_runs_get(h, meta, RAM_BYTES, runs, crcs, &err);
    if (n < 0) {
        must(err.code == -n && err.text[0]);
        return;
    }
    for (int i = 0; i < n; i++) {
        must(runs[i].pages && runs[i].offset + runs[i].pages * (uint64_t)WIRE_PAGE <= RAM_BYTES);
        pages += runs[i].pages;
    }
    must(pages <= WIRE_PAGES_MAX && h->data_bytes <= pages * WIRE_PAGE);
    must(wire_runs_put(runs, (size_t)n, crcs, pages, again) == h->meta_bytes &&
         memcmp(again, meta, h->meta_bytes) == 0);
}

static void try_frame(const uint8_t *head, const uint8_t *meta, size_t have)
{
    struct wire_head h;
    struct err err = {0};
    uint8_t put[WIRE_HEAD_BYTES];
    if (wire_head_get(head, &h, &err) < 0) {
        must(err.code > 0 && err.text[0]);
        return;
    }
    wire_head_put(&h, put);
    must(memcmp(put, head, sizeof(put)) == 0 && h.meta_bytes <= WIRE_META_MAX);
    if (h.meta_bytes > have)
        return;
    if (h.kind == WIRE_EXPECT || h.kind == WIRE_ZERO)
        try_ranges(meta, h.meta_bytes);
    if (h.kind == WIRE_PAGES || h.kind == WIRE_PACKED)
        try_runs(&h, meta);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t head[WIRE_HEAD_BYTES];
    if (size < sizeof(head))
        return 0;
    memcpy(head, data, sizeof(head));
    try_frame(head, data + sizeof(head), size - sizeof(head)); /* as it is */
    le_put(head, WIRE_MAGIC, 2);
    le_put(head + 28, crc32c(0, head, 28), 4);
    size_t bytes = size - sizeof(head);
    uint8_t *meta = malloc(bytes ? bytes : 1); /* a read behind its end is seen */
    if (!meta)
        return 0;
    if (bytes)
        memcpy(meta, data + sizeof(head), bytes);
    try_frame(head, meta, bytes);
    free(meta);
    return 0;
}
