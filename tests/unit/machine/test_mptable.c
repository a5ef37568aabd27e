/* The MP table, found and read the way a kernel does. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "base/le.h"
#include "machine/boot/mptable.h"

static struct mem mem;
static struct err err;

static int setup(void **state)
{
    return mem_init(&mem, 16 << 20, &err);
}

static int teardown(void **state)
{
    mem_fini(&mem);
    return 0;
}

static uint8_t sum(const uint8_t *bytes, size_t len)
{
    uint8_t s = 0;
    for (size_t i = 0; i < len; i++)
        s = (uint8_t)(s + bytes[i]);
    return s;
}

/* Searches the end of base memory at 16-byte steps; the configuration goes to `table`. */
static size_t find(uint8_t table[4096])
{
    for (uint64_t gpa = 0x9fc00; gpa < 0xa0000; gpa += 16) {
        uint8_t p[16];
        assert_int_equal(mem_read(&mem, gpa, p, 16, &err), 0);
        if (memcmp(p, "_MP_", 4) != 0)
            continue;
        assert_int_equal(p[8], 1);
        assert_int_equal(p[9], 4);
        assert_int_equal(p[11], 0); /* no default configuration: there is a table */
        assert_int_equal(sum(p, 16), 0);
        assert_int_equal(mem_read(&mem, le_get(p + 4, 4), table, 4096, &err), 0);
        size_t len = le_get(table + 4, 2);
        assert_in_range(len, 44, 4096);
        assert_memory_equal(table, "PCMP", 4);
        assert_int_equal(sum(table, len), 0);
        assert_int_equal(le_get(table + 36, 4), 0xfee00000);
        return len;
    }
    fail_msg("no floating pointer");
    return 0;
}

struct found {
    unsigned cpus, boot_cpus, buses, ioapics, lines, nmis, extints;
};

static void count(const uint8_t *e, struct found *f)
{
    switch (e[0]) {
    case 0:
        assert_int_equal(e[1], f->cpus);
        assert_int_equal(e[3] & 1, 1);
        f->boot_cpus += e[3] >> 1 & 1;
        f->cpus++;
        break;
    case 1:
        assert_memory_equal(e + 2, "ISA   ", 6);
        f->buses++;
        break;
    case 2:
        assert_int_equal(le_get(e + 4, 4), 0xfec00000);
        assert_int_equal(e[1], f->cpus); /* no CPU has its id */
        f->ioapics++;
        break;
    case 3:
        assert_int_equal(e[1], 0);
        assert_int_equal(e[6], f->cpus);
        assert_int_equal(e[7], e[5] == 0 ? 2 : e[5]);
        assert_int_not_equal(e[5], 2);
        f->lines++;
        break;
    case 4:
        f->nmis += e[1] == 1 && e[7] == 1;
        f->extints += e[1] == 3 && e[7] == 0;
        break;
    default:
        fail_msg("unknown entry %u", e[0]);
    }
}

static void tells_all(void **state)
{
    static const unsigned counts[] = {1, 2, 64};
    for (size_t i = 0; i < 3; i++) {
        uint8_t table[4096];
        struct found f = {0};
        unsigned entries = 0;
        assert_int_equal(mptable_write(&mem, counts[i], &err), 0);
        size_t len = find(table), at = 44;
        for (; at < len; at += table[at] == 0 ? 20 : 8, entries++)
            count(table + at, &f);
        assert_int_equal(at, len);
        assert_int_equal(entries, le_get(table + 34, 2));
        assert_int_equal(f.cpus, counts[i]);
        assert_int_equal(f.boot_cpus, 1);
        assert_int_equal(f.buses, 1);
        assert_int_equal(f.ioapics, 1);
        assert_int_equal(f.lines, 15);
        assert_int_equal(f.nmis, 1);
        assert_int_equal(f.extints, 1);
    }
}

static void refuses_other_counts(void **state)
{
    assert_int_equal(mptable_write(&mem, 0, &err), -EINVAL);
    assert_int_equal(mptable_write(&mem, 65, &err), -EINVAL);
    assert_non_null(strstr(err.text, "65 CPUs"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tells_all),
        cmocka_unit_test(refuses_other_counts),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
