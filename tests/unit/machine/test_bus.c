/* Who answers at which address, and that nobody answers for another. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "machine/bus.h"

/* Remembers the last access, and reads as its letter. */
struct dev {
    char letter;
    uint64_t offset;
    unsigned len, reads, writes;
    uint8_t data[8];
};

static void dev_read(void *owner, uint64_t offset, uint8_t *data, unsigned len)
{
    struct dev *d = owner;
    d->offset = offset;
    d->len = len;
    d->reads++;
    memset(data, d->letter, len);
}

static void dev_write(void *owner, uint64_t offset, const uint8_t *data, unsigned len)
{
    struct dev *d = owner;
    d->offset = offset;
    d->len = len;
    d->writes++;
    memcpy(d->data, data, len);
}

static const struct bus_ops ops = {.read = dev_read, .write = dev_write};

static int add(struct bus *bus, uint64_t base, uint64_t len, struct dev *d)
{
    struct err err;
    return bus_add(bus, base, len, &ops, d, &err);
}

/* Which device a byte-wide read meets; 0 for none. */
static char who(const struct bus *bus, uint64_t addr)
{
    uint8_t data;
    if (!bus_read(bus, addr, &data, 1))
        return 0;
    return (char)data;
}

static void test_reads_and_writes_arrive(void **state)
{
    struct bus bus = {.count = 0};
    struct dev d = {.letter = 'd'};
    uint8_t data[8] = {1, 2, 3, 4, 5, 6, 7, 8};
    assert_int_equal(add(&bus, 0x3f8, 8, &d), 0);
    assert_true(bus_write(&bus, 0x3fa, data, 4));
    assert_int_equal(d.offset, 2);
    assert_int_equal(d.len, 4);
    assert_memory_equal(d.data, data, 4);
    assert_true(bus_read(&bus, 0x3f8, data, 8));
    assert_int_equal(d.offset, 0);
    assert_memory_equal(data, "dddddddd", 8);
    assert_int_equal(d.reads + d.writes, 2);
}

static void test_nobody_answers_with_ones(void **state)
{
    struct bus bus = {.count = 0};
    struct dev d = {.letter = 'd'};
    uint8_t data[8] = {0};
    assert_false(bus_read(&bus, 0, data, 8));
    assert_memory_equal(data, "\xff\xff\xff\xff\xff\xff\xff\xff", 8);
    assert_false(bus_write(&bus, 0, data, 8));
    assert_int_equal(add(&bus, 0x100, 4, &d), 0);
    static const struct {
        uint64_t addr;
        unsigned len;
    } outside[] = {{0xff, 1},  {0x104, 1}, {0xff, 2},       {0x103, 2},      {0x102, 4},
                   {0x100, 8}, {0xfe, 8},  {UINT64_MAX, 1}, {UINT64_MAX, 8}, {UINT64_MAX - 3, 8}};
    for (unsigned i = 0; i < sizeof(outside) / sizeof(outside[0]); i++) {
        memset(data, 0, sizeof(data));
        assert_false(bus_read(&bus, outside[i].addr, data, outside[i].len));
        for (unsigned b = 0; b < 8; b++)
            assert_int_equal(data[b], b < outside[i].len ? 0xff : 0);
        assert_false(bus_write(&bus, outside[i].addr, data, outside[i].len));
    }
    assert_int_equal(d.reads + d.writes, 0);
}

static void test_overlaps_are_refused(void **state)
{
    struct bus bus = {.count = 0};
    struct dev a = {.letter = 'a'}, b = {.letter = 'b'};
    assert_int_equal(add(&bus, 100, 10, &a), 0);
    static const uint64_t overlaps[][2] = {{100, 10}, {95, 6},  {95, 20}, {100, 1},
                                           {109, 1},  {109, 9}, {104, 2}, {0, UINT64_MAX}};
    struct err err;
    for (unsigned i = 0; i < sizeof(overlaps) / sizeof(overlaps[0]); i++)
        assert_int_equal(add(&bus, overlaps[i][0], overlaps[i][1], &b), -EEXIST);
    assert_int_equal(bus_add(&bus, 109, 1, &ops, &b, &err), -EEXIST);
    assert_string_equal(err.text, "bus range at 0x6d overlaps another");
    assert_int_equal(bus.count, 1);
    assert_int_equal(add(&bus, 95, 5, &b), 0); /* side by side is fine */
    assert_int_equal(add(&bus, 110, 1, &b), 0);
    assert_true(who(&bus, 99) == 'b' && who(&bus, 100) == 'a' && who(&bus, 109) == 'a' &&
                who(&bus, 110) == 'b' && who(&bus, 111) == 0);
}

static void test_empty_and_wrapping_ranges_are_refused(void **state)
{
    struct bus bus = {.count = 0};
    struct dev d = {.letter = 'd'};
    assert_int_equal(add(&bus, 5, 0, &d), -EINVAL);
    assert_int_equal(add(&bus, UINT64_MAX, 2, &d), -EINVAL);
    assert_int_equal(add(&bus, 1, UINT64_MAX, &d), 0); /* up to the last address */
    assert_int_equal(who(&bus, UINT64_MAX), 'd');
    assert_int_equal(who(&bus, 0), 0);
    assert_int_equal(add(&bus, 0, 1, &d), 0);
}

static void test_full_bus_in_any_order(void **state)
{
    struct bus bus = {.count = 0};
    static struct dev devs[BUS_RANGES_MAX];
    for (unsigned i = 0; i < BUS_RANGES_MAX; i++) {
        unsigned at = i * 37 % BUS_RANGES_MAX; /* every number once */
        devs[at].letter = (char)(at + 1);
        assert_int_equal(add(&bus, at * 16, 8, &devs[at]), 0);
    }
    for (unsigned i = 0; i < BUS_RANGES_MAX; i++)
        for (unsigned b = 0; b < 16; b++)
            assert_int_equal(who(&bus, i * 16 + b), b < 8 ? (char)(i + 1) : 0);
    assert_int_equal(add(&bus, 1 << 20, 1, &devs[0]), -ENOSPC);
    assert_int_equal(bus.count, BUS_RANGES_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reads_and_writes_arrive),
        cmocka_unit_test(test_nobody_answers_with_ones),
        cmocka_unit_test(test_overlaps_are_refused),
        cmocka_unit_test(test_empty_and_wrapping_ranges_are_refused),
        cmocka_unit_test(test_full_bus_in_any_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
