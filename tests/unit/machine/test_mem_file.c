/* Guest memory that begins as pieces of files. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "machine/mem.h"

#define RAM (16ull << 20)

/* A file of `pages` pages, each filled with its number plus `mark`. */
static int make_file(unsigned pages, uint8_t mark)
{
    uint8_t page[MEM_PAGE];
    int fd = memfd_create("layer", MFD_CLOEXEC);
    assert_true(fd >= 0);
    for (unsigned i = 0; i < pages; i++) {
        memset(page, (uint8_t)(i + mark), sizeof(page));
        assert_int_equal(pwrite(fd, page, sizeof(page), (off_t)i * MEM_PAGE), sizeof(page));
    }
    return fd;
}

static uint8_t byte_at(const struct mem *mem, uint64_t gpa)
{
    struct err err;
    uint8_t value = 0xee;
    assert_int_equal(mem_read(mem, gpa, &value, 1, &err), 0);
    return value;
}

static void layers_lie_beside_each_other(void **state)
{
    CLEAN(clean_fd) int low = make_file(8, 0x10);
    CLEAN(clean_fd) int high = make_file(8, 0x80);
    const struct mem_extent extents[] = {
        {.offset = 0, .bytes = 2 * MEM_PAGE, .fd = low, .at = 0},
        {.offset = 2 * MEM_PAGE, .bytes = MEM_PAGE, .fd = high, .at = 5 * MEM_PAGE},
        {.offset = RAM - MEM_PAGE, .bytes = MEM_PAGE, .fd = low, .at = 7 * MEM_PAGE},
    };
    struct mem mem;
    struct err err;
    assert_int_equal(mem_init_from(&mem, RAM, extents, 3, &err), 0);
    assert_int_equal(mem.fd, -1);
    assert_int_equal(byte_at(&mem, 0), 0x10);
    assert_int_equal(byte_at(&mem, MEM_PAGE + 9), 0x11);
    assert_int_equal(byte_at(&mem, 2 * MEM_PAGE), 0x85);
    assert_int_equal(byte_at(&mem, 3 * MEM_PAGE), 0); /* between the pieces */
    assert_int_equal(byte_at(&mem, RAM - 1), 0x17);
    mem_fini(&mem);
}

/* A diff over a full image: what comes later in the list is above. */
static void later_pieces_lie_over_earlier_ones(void **state)
{
    CLEAN(clean_fd) int low = make_file(8, 0x10);
    CLEAN(clean_fd) int high = make_file(8, 0x80);
    const struct mem_extent extents[] = {
        {.offset = 0, .bytes = 8 * MEM_PAGE, .fd = low, .at = 0},
        {.offset = 2 * MEM_PAGE, .bytes = 3 * MEM_PAGE, .fd = high, .at = 2 * MEM_PAGE},
        {.offset = 3 * MEM_PAGE, .bytes = MEM_PAGE, .fd = MEM_EXTENT_ZERO},
    };
    static const uint8_t want[] = {0x10, 0x11, 0x82, 0, 0x84, 0x15, 0x16, 0x17, 0};
    struct mem mem;
    struct err err;
    assert_int_equal(mem_init_from(&mem, RAM, extents, 3, &err), 0);
    for (unsigned i = 0; i < sizeof(want); i++)
        assert_int_equal(byte_at(&mem, i * MEM_PAGE), want[i]);
    mem_fini(&mem);
}

/* Clones write for themselves. */
static void files_are_never_written(void **state)
{
    CLEAN(clean_fd) int fd = make_file(2, 1);
    struct mem_extent whole = {.offset = 0, .bytes = 2 * MEM_PAGE, .fd = fd, .at = 0};
    struct mem a, b;
    struct err err;
    uint8_t value = 0x77;
    assert_int_equal(mem_init_from(&a, RAM, &whole, 1, &err), 0);
    assert_int_equal(mem_init_from(&b, RAM, &whole, 1, &err), 0);
    assert_int_equal(mem_write(&a, 100, &value, 1, &err), 0);
    assert_int_equal(byte_at(&a, 100), 0x77);
    assert_int_equal(byte_at(&b, 100), 1);
    assert_int_equal(pread(fd, &value, 1, 100), 1);
    assert_int_equal(value, 1);
    assert_true(bitmap_test(&a.written, 0));
    assert_false(bitmap_test(&b.written, 0));
    mem_fini(&a);
    mem_fini(&b);
}

static void wrong_pieces_are_refused(void **state)
{
    CLEAN(clean_fd) int fd = make_file(4, 0);
    const struct mem_extent bad[] = {
        {.offset = 1, .bytes = MEM_PAGE, .fd = fd},
        {.offset = 0, .bytes = MEM_PAGE + 1, .fd = fd},
        {.offset = 0, .bytes = MEM_PAGE, .fd = fd, .at = 17},
        {.offset = 0, .bytes = 0, .fd = fd},
        {.offset = RAM, .bytes = MEM_PAGE, .fd = fd},
        {.offset = RAM - MEM_PAGE, .bytes = 2 * MEM_PAGE, .fd = fd},
        {.offset = MEM_PAGE, .bytes = UINT64_MAX - MEM_PAGE + 1, .fd = fd},
        {.offset = 0, .bytes = 5 * MEM_PAGE, .fd = fd},                 /* behind its end */
        {.offset = 0, .bytes = MEM_PAGE, .fd = fd, .at = 4 * MEM_PAGE}, /* at its end */
        {.offset = 0, .bytes = MEM_PAGE, .fd = fd, .at = 1ull << 63},
        {.offset = 0, .bytes = MEM_PAGE, .fd = -1},
    };
    struct mem mem;
    struct err err;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_true(mem_init_from(&mem, RAM, &bad[i], 1, &err) < 0);
    assert_int_equal(mem_init_from(&mem, RAM, bad, MEM_EXTENTS_MAX + 1u, &err), -E2BIG);
    assert_int_equal(mem_init_from(&mem, RAM + 1, NULL, 0, &err), -EINVAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(layers_lie_beside_each_other),
        cmocka_unit_test(later_pieces_lie_over_earlier_ones),
        cmocka_unit_test(files_are_never_written),
        cmocka_unit_test(wrong_pieces_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
