/* Against a plain array of bools, and with threads that set while another harvests. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <pthread.h>
#include <sched.h>

#include "base/bitmap.h"

static void make(struct bitmap *b, size_t bits)
{
    struct err err;
    assert_int_equal(bitmap_init(b, bits, &err), 0);
}

static void check(const struct bitmap *b, const bool *expected)
{
    size_t count = 0, next = bitmap_next(b, 0);
    for (size_t i = 0; i < b->bits; i++) {
        assert_int_equal(bitmap_test(b, i), expected[i]);
        if (!expected[i])
            continue;
        assert_int_equal(next, i);
        next = bitmap_next(b, i + 1);
        count++;
    }
    assert_int_equal(next, b->bits);
    assert_int_equal(bitmap_count(b), count);
}

static void test_set_ranges_against_a_model(void **state)
{
    static const size_t sizes[] = {1, 63, 64, 65, 127, 128, 129, 200};
    for (unsigned s = 0; s < sizeof(sizes) / sizeof(sizes[0]); s++) {
        for (size_t first = 0; first <= sizes[s]; first++) {
            size_t counts[] = {0, 1, 2, 63, 64, 65, sizes[s] - first, SIZE_MAX};
            for (unsigned c = 0; c < sizeof(counts) / sizeof(counts[0]); c++) {
                struct bitmap b;
                bool model[200] = {false};
                make(&b, sizes[s]);
                bitmap_set_range(&b, first, counts[c]);
                for (size_t i = first; i < sizes[s] && i - first < counts[c]; i++)
                    model[i] = true;
                check(&b, model);
                bitmap_fini(&b);
            }
        }
    }
}

static void test_outside_is_ignored(void **state)
{
    struct bitmap b;
    make(&b, 70);
    bitmap_set(&b, 70);
    bitmap_set(&b, SIZE_MAX);
    bitmap_set_range(&b, 70, 1);
    bitmap_set_range(&b, SIZE_MAX, SIZE_MAX);
    bitmap_or_word(&b, 2, ~0ull);
    assert_int_equal(bitmap_count(&b), 0);
    assert_false(bitmap_test(&b, 70));
    assert_int_equal(bitmap_take_word(&b, 2), 0);
    assert_int_equal(bitmap_next(&b, 70), 70);
    assert_int_equal(bitmap_next(&b, SIZE_MAX), 70);
    bitmap_or_word(&b, 1, ~0ull); /* the bits behind the end are dropped */
    assert_int_equal(bitmap_count(&b), 6);
    bitmap_fini(&b);
}

static void test_empty(void **state)
{
    struct bitmap b;
    make(&b, 0);
    bitmap_set(&b, 0);
    bitmap_set_range(&b, 0, 5);
    assert_int_equal(bitmap_count(&b), 0);
    assert_int_equal(bitmap_next(&b, 0), 0);
    bitmap_fini(&b);
}

static void test_absurd_size_is_refused(void **state)
{
    struct bitmap b;
    struct err err;
    assert_int_equal(bitmap_init(&b, SIZE_MAX, &err), -ENOMEM);
    assert_non_null(strstr(err.text, "cannot allocate a bitmap of 18446744073709551615 bits"));
    bitmap_fini(&b);
}

static void test_take_and_give_back(void **state)
{
    struct bitmap a, b;
    make(&a, 130);
    make(&b, 130);
    bitmap_set(&a, 0);
    bitmap_set(&a, 64);
    bitmap_set(&a, 129);
    bitmap_set(&b, 1);
    bitmap_set(&b, 64);
    assert_int_equal(bitmap_move(&b, &a), 3);
    assert_int_equal(bitmap_count(&a), 0);
    assert_int_equal(bitmap_count(&b), 4);
    assert_int_equal(bitmap_move(&b, &a), 0);
    assert_int_equal(bitmap_take_word(&b, 0), 3);
    assert_int_equal(bitmap_take_word(&b, 0), 0);
    bitmap_or_word(&b, 0, 3);
    assert_int_equal(bitmap_count(&b), 4);
    bitmap_fini(&a);
    bitmap_fini(&b);
}

#define RACE_ROUNDS 30000u

/* Each on a cache line of its own, or the race would hardly ever be run. */
struct race {
    struct bitmap dirty;
    _Alignas(64) _Atomic uint32_t page;
    _Alignas(64) _Atomic uint32_t round; /* the writer writes when it grows */
    _Alignas(64) _Atomic uint32_t written;
};

static void await(_Atomic uint32_t *counter, uint32_t value)
{
    for (unsigned spins = 1; atomic_load(counter) < value; spins++)
        if (spins % 1000 == 0)
            sched_yield();
}

/* As machine/mem writes: the page first, then its bit. Relaxed, as guest memory is. */
static void *race_write(void *ctx)
{
    struct race *r = ctx;
    for (uint32_t i = 1; i <= RACE_ROUNDS; i++) {
        await(&r->round, i);
        atomic_store_explicit(&r->page, i, memory_order_relaxed);
        bitmap_set(&r->dirty, 5);
        atomic_store(&r->written, i);
    }
    return NULL;
}

/* The bit is set from before; writer and harvester go off together. Afterwards either the bit is
 * set again, or the harvester has seen the write. */
static void test_no_write_is_lost_to_a_harvest(void **state)
{
    static struct race r;
    pthread_t writer;
    unsigned lost = 0, seen = 0;
    make(&r.dirty, 64);
    assert_int_equal(pthread_create(&writer, NULL, race_write, &r), 0);
    for (uint32_t i = 1; i <= RACE_ROUNDS; i++) {
        uint32_t copy = 0;
        bitmap_set(&r.dirty, 5);
        atomic_store(&r.round, i);
        for (volatile unsigned later = i % 1024; later; later--)
            continue; /* so that the two meet at ever other moments */
        if (bitmap_take_word(&r.dirty, 0))
            copy = atomic_load_explicit(&r.page, memory_order_relaxed);
        await(&r.written, i);
        seen += copy == i;
        lost += copy != i && !bitmap_test(&r.dirty, 5);
    }
    pthread_join(writer, NULL);
    bitmap_fini(&r.dirty);
    print_message("%u of %u writes were in time for the harvest\n", seen, RACE_ROUNDS);
    assert_int_equal(lost, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_set_ranges_against_a_model),
        cmocka_unit_test(test_outside_is_ignored),
        cmocka_unit_test(test_empty),
        cmocka_unit_test(test_absurd_size_is_refused),
        cmocka_unit_test(test_take_and_give_back),
        cmocka_unit_test(test_no_write_is_lost_to_a_harvest),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
