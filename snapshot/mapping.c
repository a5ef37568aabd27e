/* See mapping.h. */
#include "snapshot/mapping.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>

#include "base/cleanup.h"

#define CHUNK SNAPSHOT_CHUNK_BYTES

static uint64_t next_chunk(const struct bitmap *fill, uint64_t from, bool filled)
{
    if (filled)
        return bitmap_next(fill, from);
    while (from < fill->bits && bitmap_test(fill, from))
        from++;
    return from;
}

/* counting --------------------------------------------------------------------------------------
 */

/* How many pieces begin in each chunk; what a packed layer has is marked at once. */
static void count_pieces(struct mapping *m, const struct reader *r, uint16_t *begins)
{
    struct reader_extent e;
    for (uint64_t at = 0; reader_next_extent(r, at, &e); at = e.offset + e.length) {
        uint64_t first = e.offset / CHUNK, last = (e.offset + e.length - 1) / CHUNK;
        begins[first]++;
        if (e.layer != READER_ZERO && r->layers[e.layer].packed)
            bitmap_set_range(&m->fill, first, last - first + 1);
    }
}

/* The largest number of pieces a chunk may have so that all chunks with as many or fewer have not
 * too many in all. */
static int choose_limit(const struct mapping *m, const uint16_t *begins)
{
    uint64_t pieces[SNAPSHOT_CHUNK_PAGES + 1] = {0}, sum = 0;
    for (uint64_t i = 0; i < m->fill.bits; i++)
        if (!bitmap_test(&m->fill, i))
            pieces[begins[i]] += begins[i];
    for (int limit = 0; limit <= (int)MAPPING_CHUNK_PIECES_MAX; limit++) {
        sum += pieces[limit];
        if (sum > MAPPING_PIECES_MAX)
            return limit - 1;
    }
    return MAPPING_CHUNK_PIECES_MAX;
}

static bool has_data(const struct reader *r, uint64_t chunk)
{
    struct reader_extent e;
    uint64_t end = (chunk + 1) * CHUNK;
    for (uint64_t at = chunk * CHUNK; reader_extent_before(r, at, end, &e);
         at = e.offset + e.length)
        if (e.layer != READER_ZERO)
            return true;
    return false;
}

static void fill_above(struct mapping *m, const uint16_t *begins, int limit)
{
    for (uint64_t i = 0; i < m->fill.bits; i++)
        if (begins[i] > limit)
            bitmap_set(&m->fill, i);
}

static void fill_all(struct mapping *m, const struct reader *r)
{
    for (uint64_t i = 0; i < m->fill.bits; i++)
        if (has_data(r, i))
            bitmap_set(&m->fill, i);
}

/* pieces ----------------------------------------------------------------------------------------
 */

static int add(struct mapping *m, struct mapping_piece piece, struct err *err)
{
    if (m->count == m->capacity) {
        size_t capacity = m->capacity ? 2 * m->capacity : 64;
        struct mapping_piece *grown = realloc(m->pieces, capacity * sizeof(*grown));
        if (!grown)
            return err_set(err, ENOMEM, "no memory for %zu pieces of memory", capacity);
        m->pieces = grown;
        m->capacity = capacity;
    }
    m->pieces[m->count++] = piece;
    return 0;
}

/* A run of chunks that are mapped: first the full image from its first to its last page there, as
 * one piece, then what lies over it. */
static int add_run(struct mapping *m, const struct reader *r, uint64_t from, uint64_t end,
                   struct err *err)
{
    struct reader_extent e;
    struct mapping_piece base = {0};
    size_t at = m->count;
    int rc = add(m, base, err);
    for (uint64_t next; rc == 0 && reader_extent_before(r, from, end, &e); from = next) {
        next = e.offset + e.length;
        if (e.layer == 0) {
            base.offset = base.bytes ? base.offset : e.offset;
            base.bytes = next - base.offset;
        } else if (e.layer != READER_ZERO || base.bytes) {
            rc = add(m, (struct mapping_piece){e.offset, e.length, e.layer}, err);
        }
    }
    if (rc == 0)
        m->pieces[at] = base;
    if (rc == 0 && base.bytes == 0) /* its place is given back */
        m->pieces[at] = m->pieces[--m->count];
    return rc;
}

static int add_runs(struct mapping *m, const struct reader *r, struct err *err)
{
    int rc = 0;
    uint64_t chunks = m->fill.bits;
    for (uint64_t first = 0, end; rc == 0 && first < chunks; first = end) {
        first = next_chunk(&m->fill, first, false);
        end = next_chunk(&m->fill, first, true);
        if (first < end)
            rc = add_run(m, r, first * CHUNK, end * CHUNK, err);
    }
    return rc;
}

int mapping_plan(struct mapping *m, const struct reader *r, struct err *err)
{
    *m = (struct mapping){0};
    uint64_t chunks = manifest_chunks(r->ram_bytes);
    CLEAN(clean_free) uint16_t *begins = calloc(chunks, sizeof(*begins));
    int rc = begins ? 0
                    : err_set(err, ENOMEM, "no memory to lay out %llu MiB of RAM",
                              (unsigned long long)chunks);
    if (rc == 0)
        rc = bitmap_init(&m->fill, chunks, err);
    if (rc == 0) {
        count_pieces(m, r, begins);
        fill_above(m, begins, choose_limit(m, begins));
        rc = add_runs(m, r, err);
    }
    if (rc == 0 && m->count > MAPPING_PIECES_MAX) { /* many short runs between filled chunks */
        m->count = 0;
        fill_all(m, r);
        rc = add_runs(m, r, err);
    }
    if (rc < 0)
        mapping_fini(m);
    return rc;
}

void mapping_drop_pieces(struct mapping *m)
{
    clean_free(&m->pieces);
    m->count = m->capacity = 0;
}

void mapping_fini(struct mapping *m)
{
    mapping_drop_pieces(m);
    bitmap_fini(&m->fill);
    *m = (struct mapping){0};
}
