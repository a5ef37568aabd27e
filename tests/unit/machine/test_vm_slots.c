/* RAM in pieces for KVM: all of it, once, in order, and no piece over the hole. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "machine/vm.h"

#define MIB (1ull << 20)
#define GIB (1ull << 30)

static void check(uint64_t size, unsigned most)
{
    struct mem mem = {0};
    struct err err;
    uint64_t offset = 0;
    assert_int_equal(mem_init(&mem, size, &err), 0);
    struct vm vm = {.mem = &mem};
    unsigned slots = vm_slots(&vm);
    assert_in_range(slots, 1, most);
    for (unsigned i = 0; i < slots; i++) {
        struct mem_region r = vm_slot(&vm, i);
        assert_int_equal(r.offset, offset);
        assert_int_equal(r.gpa, offset < mem.regions[0].size
                                    ? offset
                                    : mem.regions[1].gpa + offset - mem.regions[0].size);
        assert_true(r.size > 0 && r.size % MEM_PAGE == 0 && r.offset % (64 * MEM_PAGE) == 0);
        offset += r.size;
    }
    assert_int_equal(offset, size);
    mem_fini(&mem);
}

static void pieces_are_all_of_it(void **state)
{
    static const struct {
        uint64_t size;
        unsigned most;
    } rows[] = {
        {16 * MIB, 1}, {256 * MIB, 1},           {257 * MIB, 2}, {600 * MIB, 3},  {3 * GIB, 12},
        {5 * GIB, 20}, {5 * GIB + 12 * MIB, 21}, {64 * GIB, 65}, {200 * GIB, 66}, {1024 * GIB, 66},
    };
    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        check(rows[i].size, rows[i].most);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(pieces_are_all_of_it)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
