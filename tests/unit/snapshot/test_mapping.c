/* How a chain's RAM is laid out: laid out again page by page it is what the chain says. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "snapshot/mapping.h"

#define PAGE PAGES_PAGE_BYTES
#define CHUNK_PAGES SNAPSHOT_CHUNK_PAGES
#define LAYERS_MAX 4
#define TO_FILL 100 /* as the layer of a page */

/* A reader without files: layer 0 is a raw full image, or as `packed` says. */
struct chain {
    struct reader reader;
    struct reader_layer layers[LAYERS_MAX];
};

static void chain_init(struct chain *c, unsigned layers, uint64_t npages, unsigned packed)
{
    struct err err = {0};
    memset(c, 0, sizeof(*c));
    c->reader = (struct reader){.layers = c->layers,
                                .count = layers,
                                .ram_bytes = npages * PAGE,
                                .npages = npages,
                                .cached_layer = -1};
    for (unsigned i = 0; i < layers; i++) {
        c->layers[i].packed = packed >> i & 1;
        c->layers[i].mapped = i > 0 || c->layers[i].packed;
        assert_int_equal(pages_init(&c->layers[i].pages, npages, &err), 0);
        if (i == 0)
            pages_fill_zero(&c->layers[i].pages);
    }
}

static void chain_fini(struct chain *c)
{
    for (unsigned i = 0; i < c->reader.count; i++)
        pages_fini(&c->layers[i].pages);
}

/* What is under each page when the pieces are mapped one after the other. */
static int *lay_out(const struct chain *c, const struct mapping *m)
{
    uint64_t npages = c->reader.npages;
    int *layer = malloc(npages * sizeof(*layer));
    assert_non_null(layer);
    for (uint64_t i = 0; i < npages; i++)
        layer[i] = READER_ZERO;
    for (size_t i = 0; i < m->count; i++) {
        const struct mapping_piece *p = &m->pieces[i];
        assert_true(p->bytes > 0 && p->offset % PAGE == 0 && p->bytes % PAGE == 0);
        assert_true(p->offset + p->bytes <= c->reader.ram_bytes);
        for (uint64_t at = p->offset / PAGE; at < (p->offset + p->bytes) / PAGE; at++) {
            assert_false(bitmap_test(&m->fill, at / CHUNK_PAGES));
            layer[at] = p->layer;
        }
    }
    for (uint64_t i = 0; i < npages; i++)
        if (bitmap_test(&m->fill, i / CHUNK_PAGES))
            layer[i] = TO_FILL;
    return layer;
}

/* Every page is what the chain says, or will be filled; returns how many chunks are. */
static size_t check(const struct chain *c, size_t *pieces)
{
    struct mapping m;
    struct err err = {0};
    struct reader_extent e;
    assert_int_equal(mapping_plan(&m, &c->reader, &err), 0);
    CLEAN(clean_free) int *layer = lay_out(c, &m);
    for (uint64_t at = 0; reader_next_extent(&c->reader, at, &e); at = e.offset + e.length)
        for (uint64_t page = e.offset / PAGE; page < (e.offset + e.length) / PAGE; page++)
            assert_true(layer[page] == TO_FILL || layer[page] == e.layer);
    size_t filled = bitmap_count(&m.fill);
    *pieces = m.count;
    assert_true(m.count <= MAPPING_PIECES_MAX);
    mapping_fini(&m);
    return filled;
}

static void a_full_image_is_one_piece(void **state)
{
    struct chain c;
    size_t pieces;
    chain_init(&c, 1, 10 * CHUNK_PAGES + 5, 0);
    assert_int_equal(check(&c, &pieces), 0);
    assert_int_equal(pieces, 1);
    chain_fini(&c);
}

static void diffs_lie_over_it(void **state)
{
    struct chain c;
    size_t pieces;
    chain_init(&c, 3, 10 * CHUNK_PAGES + 5, 0);
    pages_set(&c.layers[1].pages, 3, 4, PAGES_DATA);
    pages_set(&c.layers[1].pages, 2000, 300, PAGES_ZERO);
    pages_set(&c.layers[2].pages, 5, 1, PAGES_ZERO);
    pages_set(&c.layers[2].pages, 2100, 20, PAGES_DATA);
    assert_int_equal(check(&c, &pieces), 0);
    assert_int_equal(pieces, 1 + 3 + 3);
    chain_fini(&c);
}

static void packed_chunks_are_filled(void **state)
{
    struct chain c;
    size_t pieces;
    chain_init(&c, 2, 100 * CHUNK_PAGES, 2);
    pages_set(&c.layers[1].pages, 10 * CHUNK_PAGES - 1, 2, PAGES_DATA);
    pages_set(&c.layers[1].pages, 50 * CHUNK_PAGES, 1, PAGES_ZERO); /* nothing of it is packed */
    assert_int_equal(check(&c, &pieces), 2);
    assert_int_equal(pieces, 3);
    chain_fini(&c);
    chain_init(&c, 1, 100 * CHUNK_PAGES, 1);
    pages_set(&c.layers[0].pages, 700, 1, PAGES_DATA);
    assert_int_equal(check(&c, &pieces), 1); /* the rest is zero by itself */
    assert_int_equal(pieces, 0);
    chain_fini(&c);
}

/* 1 % of 8 GiB, in single pages: all of it is mapped. */
static void scattered_pages_are_mapped(void **state)
{
    struct chain c;
    size_t pieces;
    chain_init(&c, 2, 8192 * CHUNK_PAGES, 0);
    for (uint64_t page = 50; page < c.reader.npages; page += 200)
        pages_set(&c.layers[1].pages, page, 1, PAGES_DATA);
    assert_int_equal(check(&c, &pieces), 0);
    assert_int_equal(pieces, 1 + 8192 * CHUNK_PAGES / 200 + 1);
    chain_fini(&c);
}

/* More than can be mapped: the most scattered are filled. */
static void what_is_too_scattered_is_filled(void **state)
{
    struct chain c;
    size_t pieces;
    chain_init(&c, 2, 4096 * CHUNK_PAGES, 0);
    for (uint64_t chunk = 0; chunk < 4096; chunk++)
        for (uint64_t page = 0; page < chunk % 10; page++)
            pages_set(&c.layers[1].pages, chunk * CHUNK_PAGES + 20 * page + 3, 1, PAGES_DATA);
    pages_set(&c.layers[1].pages, 0, 256, PAGES_PARENT);
    for (uint64_t page = 0; page < 256; page += 2) /* one chunk that is all holes */
        pages_set(&c.layers[1].pages, page, 1, PAGES_DATA);
    size_t filled = check(&c, &pieces);
    assert_true(filled > 1 && filled < 4096);
    assert_true(pieces > 1000);
    chain_fini(&c);
}

/* So many runs between filled chunks that they cannot be mapped either. */
static void at_the_worst_all_is_filled(void **state)
{
    struct chain c;
    size_t pieces;
    uint64_t chunks = 70000;
    chain_init(&c, 2, chunks * CHUNK_PAGES, 2);
    for (uint64_t chunk = 0; chunk < chunks; chunk += 2)
        pages_set(&c.layers[1].pages, chunk * CHUNK_PAGES + 9, 1, PAGES_DATA);
    assert_int_equal(check(&c, &pieces), chunks);
    assert_int_equal(pieces, 0);
    chain_fini(&c);
}

static void chains_at_random(void **state)
{
    unsigned seed = 1;
    for (unsigned i = 0; i < 200; i++) {
        struct chain c;
        size_t pieces;
        chain_init(&c, 1 + i % LAYERS_MAX, 1 + (unsigned)rand_r(&seed) % 5000, i % 7);
        for (unsigned n = 0; n < 100; n++) {
            unsigned layer = (unsigned)rand_r(&seed) % c.reader.count;
            enum pages_state s = rand_r(&seed) % 2 ? PAGES_DATA : PAGES_ZERO;
            pages_set(&c.layers[layer].pages, (unsigned)rand_r(&seed) % 5000,
                      1 + (unsigned)rand_r(&seed) % (n % 4 ? 3 : 600), s);
        }
        check(&c, &pieces);
        chain_fini(&c);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_full_image_is_one_piece),
        cmocka_unit_test(diffs_lie_over_it),
        cmocka_unit_test(packed_chunks_are_filled),
        cmocka_unit_test(scattered_pages_are_mapped),
        cmocka_unit_test(what_is_too_scattered_is_filled),
        cmocka_unit_test(at_the_worst_all_is_filled),
        cmocka_unit_test(chains_at_random),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
