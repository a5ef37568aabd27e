/* The map of pages against a plain array, and the bytes that a file has. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "snapshot/pages.h"

static void test_bytes(void **state)
{
    struct pages p;
    struct err err;
    assert_int_equal(pages_init(&p, 6, &err), 0);
    assert_int_equal(p.size, 2);
    pages_set(&p, 1, 1, PAGES_DATA);
    pages_set(&p, 3, 2, PAGES_ZERO);
    static const uint8_t want[] = {0x84, 0x02};
    assert_memory_equal(p.bytes, want, 2);
    pages_fill_zero(&p);
    static const uint8_t full[] = {0xa6, 0x0a};
    assert_memory_equal(p.bytes, full, 2);
    pages_fini(&p);
}

static void test_against_an_array(void **state)
{
    enum { N = 1003 };
    static uint8_t plain[N];
    struct pages p;
    struct err err;
    assert_int_equal(pages_init(&p, N, &err), 0);
    srand(3);
    for (unsigned round = 0; round < 300; round++) {
        unsigned first = (unsigned)rand() % N, count = (unsigned)rand() % 300, kind = rand() % 3;
        pages_set(&p, first, count, kind);
        for (unsigned i = first; i < N && i < first + count; i++)
            plain[i] = (uint8_t)kind;
        unsigned at = (unsigned)rand() % N, end = at + 1 + (unsigned)rand() % (N - at), run = at;
        while (run < end && plain[run] == plain[at])
            run++;
        assert_int_equal(pages_run_end(&p, at, end), run);
        unsigned found = 0;
        for (unsigned i = at; i < end; i++)
            found += plain[i] == kind;
        assert_int_equal(pages_count(&p, at, end, kind), found);
    }
    for (unsigned i = 0; i < N; i++)
        assert_int_equal(pages_get(&p, i), plain[i]);
    pages_fini(&p);
}

static void test_clips(void **state)
{
    struct pages p;
    struct err err;
    assert_int_equal(pages_init(&p, 5, &err), 0);
    pages_set(&p, 4, UINT64_MAX, PAGES_DATA);
    pages_set(&p, 5, 1, PAGES_DATA);
    pages_set(&p, UINT64_MAX, 2, PAGES_DATA);
    assert_int_equal(pages_count(&p, 0, UINT64_MAX, PAGES_DATA), 1);
    assert_int_equal(pages_get(&p, 5), PAGES_PARENT);
    assert_int_equal(pages_check(&p, false, &err), 0);
    pages_fini(&p);
    assert_int_equal(pages_init(&p, 0, &err), -EINVAL);
    assert_int_equal(pages_init(&p, (1ull << 28) + 1, &err), -EINVAL);
    pages_fini(&p);
}

static void test_check(void **state)
{
    struct pages p;
    struct err err;
    assert_int_equal(pages_init(&p, 6, &err), 0);
    assert_int_equal(pages_check(&p, false, &err), 0);
    assert_int_equal(pages_check(&p, true, &err), -EBADMSG);
    assert_string_equal(err.text, "'pages' has state 0 for page 0 of a full image");
    p.bytes[1] = 0x0c;
    assert_int_equal(pages_check(&p, false, &err), -EBADMSG);
    assert_string_equal(err.text, "'pages' has state 3 for page 5");
    p.bytes[1] = 0x10;
    assert_int_equal(pages_check(&p, false, &err), -EBADMSG);
    assert_string_equal(err.text, "'pages' has bits behind its last page");
    pages_fini(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bytes),
        cmocka_unit_test(test_against_an_array),
        cmocka_unit_test(test_clips),
        cmocka_unit_test(test_check),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
