/* Dirty pages by runs: what is taken, re-armed and copied, and in which order it is told. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "vmstate/stash.h"

#define PAGES 40000u

static void make(struct stash *s, struct bitmap *b, size_t capacity, bool copies)
{
    struct err err = {0};
    assert_int_equal(stash_init(s, capacity, copies, &err), 0);
    assert_int_equal(bitmap_init(b, PAGES, &err), 0);
}

static void drop(struct stash *s, struct bitmap *b)
{
    stash_fini(s);
    bitmap_fini(b);
}

static void test_runs_cross_words(void **state)
{
    struct stash s;
    struct bitmap b, taken;
    struct err err = {0};
    make(&s, &b, 1000, false);
    assert_int_equal(bitmap_init(&taken, PAGES, &err), 0);
    bitmap_set(&b, 0);
    bitmap_set_range(&b, 62, 70); /* three words */
    bitmap_set_range(&b, 192, 64);
    bitmap_set(&b, PAGES - 1);
    size_t word = 0;
    assert_false(stash_take(&s, &b, &taken, &word, 1000));
    static const struct stash_run want[] = {{0, 1}, {62, 70}, {192, 64}, {PAGES - 1, 1}};
    assert_int_equal(s.nruns, 4);
    assert_memory_equal(s.runs, want, sizeof(want));
    assert_int_equal(s.pages, 136);
    assert_int_equal(bitmap_count(&b), 0);
    assert_int_equal(bitmap_count(&taken), 136);
    bitmap_fini(&taken);
    drop(&s, &b);
}

/* Every pattern of runs in a word gives back the word. */
static void test_words(void **state)
{
    struct stash s;
    struct bitmap b;
    make(&s, &b, 64, false);
    uint64_t bits = 1;
    for (unsigned i = 0; i < 20000; i++) {
        bits = i < 64 ? ~0ull << i : i < 128 ? ~0ull >> (i - 64) : bits * 6364136223846793005u + 1;
        size_t word = 3;
        uint64_t seen = 0;
        bitmap_or_word(&b, 3, bits);
        stash_take(&s, &b, NULL, &word, 64);
        for (size_t r = 0; r < s.nruns; r++)
            for (size_t p = 0; p < s.runs[r].count; p++)
                seen |= 1ull << (s.runs[r].first + p - 192);
        assert_true(seen == bits);
        assert_int_equal(s.pages, __builtin_popcountll(bits));
        stash_clear(&s);
    }
    drop(&s, &b);
}

static void test_limit(void **state)
{
    struct stash s;
    struct bitmap b;
    make(&s, &b, 200, false);
    assert_int_equal(s.capacity, 256);
    bitmap_set_range(&b, 0, PAGES);
    size_t word = 0, all = 0;
    for (bool more = true; more;) {
        more = stash_take(&s, &b, NULL, &word, all % 3 ? 100000 : 128);
        assert_in_range(s.pages, 1, s.capacity);
        assert_int_equal(s.nruns, 1);
        all += s.pages;
        stash_clear(&s);
    }
    assert_int_equal(all, PAGES);
    drop(&s, &b);
}

struct rearms {
    struct stash_run runs[8];
    unsigned count, fail_at;
};

static int on_rearm(void *ctx, size_t first, size_t count, struct err *err)
{
    struct rearms *r = ctx;
    assert_true(r->count < 8);
    r->runs[r->count++] = (struct stash_run){first, count};
    return r->count == r->fail_at ? err_set(err, EIO, "no") : 0;
}

/* Near ones by one call, far ones by one each, and all of them. */
static void test_rearm_joins_what_is_near(void **state)
{
    static const struct guest_ops ops = {.dirty_rearm = on_rearm};
    struct rearms r = {.count = 0};
    struct guest g = {.ops = &ops, .ctx = &r};
    struct stash s;
    struct bitmap b;
    struct err err = {0};
    make(&s, &b, 640, false);
    bitmap_set_range(&b, 3, 5);
    bitmap_set(&b, 900);
    bitmap_set_range(&b, 20000, 10);
    bitmap_set(&b, PAGES - 1);
    size_t word = 0;
    stash_take(&s, &b, NULL, &word, 640);
    assert_int_equal(stash_rearm(&s, &g, &err), 0);
    static const struct stash_run want[] = {{3, 898}, {20000, 10}, {PAGES - 1, 1}};
    assert_int_equal(r.count, 3);
    assert_memory_equal(r.runs, want, sizeof(want));
    r = (struct rearms){.fail_at = 2};
    assert_int_equal(stash_rearm(&s, &g, &err), -EIO);
    assert_int_equal(r.count, 2);
    drop(&s, &b);
}

struct told {
    uint8_t *image;
    size_t bytes;
};

static int on_pages(void *ctx, uint64_t offset, const uint8_t *data, size_t bytes, struct err *err)
{
    struct told *t = ctx;
    memcpy(t->image + offset, data, bytes);
    t->bytes += bytes;
    return 0;
}

/* Copies are what memory was when it was copied; without, it is memory as it is when told. */
static void test_copies_are_stable(void **state)
{
    static const struct page_sink_ops ops = {.pages = on_pages};
    for (unsigned copies = 0; copies < 2; copies++) {
        struct stash s;
        struct bitmap b;
        struct err err = {0};
        struct told t = {.image = calloc(300, GUEST_PAGE)};
        uint8_t *ram = calloc(300, GUEST_PAGE);
        assert_true(ram && t.image);
        make(&s, &b, 128, copies);
        for (size_t i = 0; i < 300; i++)
            memset(ram + i * GUEST_PAGE, (int)(i % 251), GUEST_PAGE);
        bitmap_set_range(&b, 60, 10);
        bitmap_set_range(&b, 299, 1);
        size_t word = 0;
        stash_take(&s, &b, NULL, &word, 128);
        stash_prepare(&s, 5);
        stash_prepare(&s, 100000);
        assert_int_equal(s.prepared, copies ? 128 : 0);
        if (copies)
            stash_copy(&s, ram);
        memset(ram, 0xff, 300 * (size_t)GUEST_PAGE);
        struct page_sink sink = {.ops = &ops, .ctx = &t};
        struct pages_told told = {0};
        assert_int_equal(stash_tell(&s, ram, &sink, &told, &err), 0);
        assert_int_equal(told.pages, 11);
        assert_int_equal(t.bytes, 11 * GUEST_PAGE);
        for (size_t i = 0; i < 300; i++) {
            bool marked = (i >= 60 && i < 70) || i == 299;
            unsigned want = !marked ? 0 : copies ? (unsigned)i % 251 : 0xff;
            assert_int_equal(t.image[i * GUEST_PAGE], want);
            assert_int_equal(t.image[i * GUEST_PAGE + GUEST_PAGE - 1], want);
        }
        free(ram);
        free(t.image);
        drop(&s, &b);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_runs_cross_words),
        cmocka_unit_test(test_words),
        cmocka_unit_test(test_limit),
        cmocka_unit_test(test_rearm_joins_what_is_near),
        cmocka_unit_test(test_copies_are_stable),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
