/* Guest memory: every range on every border, and every write in the dirty bitmap. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "machine/mem.h"

#define MIB (1ull << 20)
#define GIB (1ull << 30)

static struct mem mem;

static int make(uint64_t size)
{
    struct err err;
    return mem_init(&mem, size, &err);
}

static int setup(void **state)
{
    return make(MEM_MIN);
}

/* Large, but untouched: it costs nothing. Below the hole and above it. */
static int setup_split(void **state)
{
    return make(5 * GIB);
}

static int teardown(void **state)
{
    mem_fini(&mem);
    return 0;
}

/* Exactly these pages are marked. */
static void check_written(uint64_t first, uint64_t count)
{
    assert_int_equal(bitmap_count(&mem.written), count);
    for (uint64_t i = 0; i < count; i++)
        assert_true(bitmap_test(&mem.written, first + i));
    for (size_t w = 0; w < mem.written.nwords; w++)
        bitmap_take_word(&mem.written, w);
}

static void test_sizes(void **state)
{
    static const uint64_t bad[] = {0,
                                   1,
                                   MEM_MIN - 1,
                                   MEM_MIN - MIB,
                                   MEM_MIN + 1,
                                   MEM_MAX + 1,
                                   MEM_MAX + MIB,
                                   UINT64_MAX,
                                   1ull << 63,
                                   UINT64_MAX - MIB + 1};
    struct mem m;
    struct err err;
    for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_int_equal(mem_init(&m, bad[i], &err), -EINVAL);
        mem_fini(&m); /* does no harm after a failure */
    }
    assert_string_equal(err.text,
                        "memory must be 16M to 1T in whole MiB, not 18446744073708503040 bytes");
    assert_int_equal(mem_init(&m, MEM_MIN + MIB, &err), 0);
    mem_fini(&m);
}

static void test_layout(void **state)
{
    static const struct {
        uint64_t size;
        unsigned regions;
    } rows[] = {{MEM_MIN, 1}, {3 * GIB, 1}, {3 * GIB + MIB, 2}, {MEM_MAX, 2}};
    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct mem m;
        struct err err;
        if (mem_init(&m, rows[i].size, &err) < 0) {
            print_message("%s\n", err.text); /* a host may refuse to promise a terabyte */
            assert_true(rows[i].size == MEM_MAX);
            continue;
        }
        assert_int_equal(m.nregions, rows[i].regions);
        assert_int_equal(m.regions[0].gpa, 0);
        assert_int_equal(m.regions[0].offset, 0);
        if (m.nregions == 2) {
            assert_true(m.regions[0].size == MEM_LOW_MAX && m.regions[1].gpa == MEM_HIGH_BASE);
            assert_true(m.regions[1].offset == MEM_LOW_MAX);
            assert_true(m.regions[0].size + m.regions[1].size == rows[i].size);
        }
        mem_fini(&m);
    }
}

static void test_borders(void **state)
{
    static const struct {
        uint64_t gpa, len;
        int64_t offset; /* -1: refused */
    } rows[] = {
        {0, 1, 0},
        {0, 3 * GIB, 0},
        {0, 3 * GIB + 1, -1},
        {3 * GIB - 1, 1, 3 * GIB - 1},
        {3 * GIB - 1, 2, -1}, /* into the hole */
        {3 * GIB, 0, 3 * GIB},
        {3 * GIB, 1, -1},
        {3 * GIB + 1, 0, -1},
        {4 * GIB - 1, 1, -1},
        {4 * GIB - 1, 2, -1}, /* out of the hole */
        {4 * GIB, 1, 3 * GIB},
        {4 * GIB, 2 * GIB, 3 * GIB},
        {4 * GIB, 2 * GIB + 1, -1},
        {6 * GIB - 1, 1, 5 * GIB - 1},
        {6 * GIB, 1, -1},
        {0, 5 * GIB, -1}, /* as long as all of it, across the hole */
        {3 * GIB - 8, 2 * GIB, -1},
        {UINT64_MAX, 1, -1},
        {UINT64_MAX, UINT64_MAX, -1},
        {1, UINT64_MAX, -1}, /* wraps to 0 */
        {4 * GIB, UINT64_MAX - 4 * GIB + 1, -1},
        {0, UINT64_MAX, -1},
        {1ull << 63, 1ull << 63, -1},
    };
    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        uint64_t offset = 99;
        struct err err;
        int rc = mem_offset(&mem, rows[i].gpa, rows[i].len, &offset);
        if (rc != (rows[i].offset < 0 ? -1 : 0))
            fail_msg("0x%llx with 0x%llx bytes", (unsigned long long)rows[i].gpa,
                     (unsigned long long)rows[i].len);
        if (rc == 0) {
            assert_true(offset == (uint64_t)rows[i].offset);
            assert_ptr_equal(mem_borrow(&mem, rows[i].gpa, rows[i].len, false, &err),
                             mem.base + offset);
        } else { /* refused before a byte is touched: the buffer is not even there */
            assert_null(mem_borrow(&mem, rows[i].gpa, rows[i].len, true, &err));
            assert_int_equal(mem_read(&mem, rows[i].gpa, NULL, rows[i].len, &err), -EFAULT);
            assert_int_equal(mem_write(&mem, rows[i].gpa, NULL, rows[i].len, &err), -EFAULT);
            assert_int_equal(mem_zero(&mem, rows[i].gpa, rows[i].len, &err), -EFAULT);
            assert_int_equal(mem_write_from_fd(&mem, rows[i].gpa, -1, 0, rows[i].len, &err),
                             -EFAULT);
            mem_mark_written(&mem, rows[i].gpa, rows[i].len);
        }
    }
    check_written(0, 0);
}

static void test_refusal_names_the_range(void **state)
{
    struct err err;
    uint8_t byte = 0;
    assert_int_equal(mem_write(&mem, MEM_MIN, &byte, 1, &err), -EFAULT);
    assert_string_equal(err.text,
                        "guest address 0x1000000 with 1 bytes is outside of guest memory");
}

static void test_written_is_read_and_marked(void **state)
{
    static const struct {
        uint64_t gpa, len, first, pages;
    } rows[] = {
        {0, 1, 0, 1},
        {4095, 1, 0, 1},
        {4095, 2, 0, 2},
        {4096, 4096, 1, 1},
        {4096, 4097, 1, 2},
        {100, 3 * 4096, 0, 4},
        {64 * 4096 - 1, 2, 63, 2}, /* across words of the bitmap */
        {MEM_MIN - 1, 1, MEM_MIN / 4096 - 1, 1},
        {5000, 0, 0, 0},
        {MEM_MIN, 0, 0, 0},
    };
    static uint8_t out[4 * 4096], in[4 * 4096];
    struct err err;
    for (size_t i = 0; i < sizeof(out); i++)
        out[i] = (uint8_t)(i * 13 + 5);
    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        assert_int_equal(mem_write(&mem, rows[i].gpa, out, rows[i].len, &err), 0);
        check_written(rows[i].first, rows[i].pages);
        memset(in, 0, sizeof(in));
        assert_int_equal(mem_read(&mem, rows[i].gpa, in, rows[i].len, &err), 0);
        assert_memory_equal(in, out, rows[i].len);
        check_written(0, 0); /* reading marks nothing */
        assert_int_equal(mem_zero(&mem, rows[i].gpa, rows[i].len, &err), 0);
        check_written(rows[i].first, rows[i].pages);
        assert_int_equal(mem_read(&mem, rows[i].gpa, in, rows[i].len, &err), 0);
        for (uint64_t b = 0; b < rows[i].len; b++)
            assert_int_equal(in[b], 0);
        mem_mark_written(&mem, rows[i].gpa, rows[i].len);
        check_written(rows[i].first, rows[i].pages);
        assert_non_null(mem_borrow(&mem, rows[i].gpa, rows[i].len, true, &err));
        check_written(rows[i].first, rows[i].pages);
        assert_non_null(mem_borrow(&mem, rows[i].gpa, rows[i].len, false, &err));
        check_written(0, 0);
    }
}

static void test_marks_above_the_hole(void **state)
{
    uint64_t value = 7;
    struct err err;
    assert_int_equal(mem_write(&mem, 4 * GIB + 4096, &value, 8, &err), 0);
    check_written(3 * GIB / 4096 + 1, 1);
    value = 0;
    assert_int_equal(pread(mem.fd, &value, 8, (off_t)(3 * GIB + 4096)), 8); /* by RAM offset */
    assert_int_equal(value, 7);
}

static int file_of(size_t len)
{
    int fd = memfd_create("file", MFD_CLOEXEC);
    assert_true(fd >= 0);
    for (size_t i = 0; i < len; i++) {
        uint8_t byte = (uint8_t)(i * 7 + 3);
        assert_int_equal(pwrite(fd, &byte, 1, (off_t)i), 1);
    }
    return fd;
}

static void test_from_a_file(void **state)
{
    CLEAN(clean_fd) int fd = file_of(6000);
    struct err err;
    assert_int_equal(mem_write_from_fd(&mem, 8000, fd, 1000, 5000, &err), 0);
    check_written(1, 3);
    for (size_t i = 0; i < 5000; i++)
        assert_int_equal(mem.base[8000 + i], (uint8_t)((i + 1000) * 7 + 3));
    assert_int_equal(mem.base[7999], 0);
    assert_int_equal(mem.base[13000], 0);
    assert_int_equal(mem_write_from_fd(&mem, 0, fd, 0, 0, &err), 0);
    check_written(0, 0);
}

/* What came before the end is in memory, so it is marked. */
static void test_from_a_file_that_ends_early(void **state)
{
    CLEAN(clean_fd) int fd = file_of(6000);
    struct err err;
    assert_int_equal(mem_write_from_fd(&mem, 0, fd, 0, 20000, &err), -ENODATA);
    assert_string_equal(err.text, "the file ends early, at byte 6000");
    check_written(0, 2);
    assert_int_equal(mem_write_from_fd(&mem, 0, fd, 9999, 1, &err), -ENODATA);
    assert_int_equal(mem_write_from_fd(&mem, 0, fd, UINT64_MAX, 1, &err), -EINVAL);
    assert_int_equal(mem_write_from_fd(&mem, 0, -1, 0, 1, &err), -EBADF);
    check_written(0, 0);
}

static void test_clear(void **state)
{
    struct err err;
    uint64_t value = ~0ull;
    assert_int_equal(mem_write(&mem, 5 * GIB, &value, 8, &err), 0);
    assert_int_equal(mem_write(&mem, 12345, &value, 8, &err), 0);
    assert_int_equal(mem_clear(&mem, &err), 0);
    assert_int_equal(mem_read(&mem, 5 * GIB, &value, 8, &err), 0);
    assert_int_equal(value, 0);
    assert_int_equal(mem_read(&mem, 12345, &value, 8, &err), 0);
    assert_int_equal(value, 0);
    assert_true(bitmap_count(&mem.written) == mem.size / MEM_PAGE);
}

static void test_size_is_sealed(void **state)
{
    assert_int_equal(ftruncate(mem.fd, 4096), -1);
    assert_int_equal(errno, EPERM);
    assert_int_equal(ftruncate(mem.fd, 2 * MEM_MIN), -1);
    assert_int_equal(fcntl(mem.fd, F_ADD_SEALS, F_SEAL_WRITE), -1);
}

#define SMALL(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
#define SPLIT(test) cmocka_unit_test_setup_teardown(test, setup_split, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_layout),
        SPLIT(test_borders),
        SMALL(test_refusal_names_the_range),
        SMALL(test_written_is_read_and_marked),
        SPLIT(test_marks_above_the_hole),
        SMALL(test_from_a_file),
        SMALL(test_from_a_file_that_ends_early),
        SPLIT(test_clear),
        SMALL(test_size_is_sealed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
