/* The set itself: order, sub-leaves, replacement, the bound. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/machine/cpu_samples.h"

static void test_entries_are_sorted_whatever_the_order(void **state)
{
    static const struct cpu_sample_leaf shuffled[] = {
        {0x80000001, 0, {9}}, {7, 1, {3}}, {0, 0, {1}}, {7, 0, {2}}, {0x40000000, 0, {8}},
    };
    struct cpuid_set set;
    char text[1000];
    CPU_SAMPLE_FILL(&set, shuffled);
    cpu_sample_print(&set, text, sizeof(text));
    assert_string_equal(text, "00000000.0 00000001 00000000 00000000 00000000\n"
                              "00000007.0 00000002 00000000 00000000 00000000\n"
                              "00000007.1 00000003 00000000 00000000 00000000\n"
                              "40000000.0 00000008 00000000 00000000 00000000\n"
                              "80000001.0 00000009 00000000 00000000 00000000\n");
}

static void test_index_counts_only_for_leaves_with_subleaves(void **state)
{
    struct cpuid_set set;
    CPU_SAMPLE_FILL(&set, cpu_sample_intel);
    assert_int_equal(cpuid_look(&set, 7, 0)->flags, KVM_CPUID_FLAG_SIGNIFCANT_INDEX);
    assert_int_equal(cpuid_look(&set, 1, 0)->flags, 0);
    assert_ptr_equal(cpuid_look(&set, 1, 99), cpuid_look(&set, 1, 0));
    assert_ptr_not_equal(cpuid_look(&set, 0xd, 2), cpuid_look(&set, 0xd, 0));
    assert_null(cpuid_look(&set, 0xd, 30));
    assert_null(cpuid_look(&set, 3, 0));
}

static void test_put_replaces(void **state)
{
    static const uint32_t regs[] = {1, 2, 3, 4};
    struct cpuid_set set;
    CPU_SAMPLE_FILL(&set, cpu_sample_intel);
    uint32_t count = set.count;
    assert_int_equal(cpuid_put(&set, 4, 2, regs), 0);
    assert_int_equal(cpuid_put(&set, 1, 5, regs), 0);
    assert_int_equal(set.count, count);
    assert_int_equal(cpuid_get(&set, 4, 2, CPUID_EDX), 4);
    assert_int_equal(cpuid_get(&set, 4, 1, CPUID_EBX), 0x01c0003f);
    assert_int_equal(cpuid_get(&set, 1, 0, CPUID_EAX), 1);
    assert_int_equal(cpuid_get(&set, 1, 0, CPUID_ECX), 3);
}

static void test_absent_leaf_reads_zero_and_takes_no_patch(void **state)
{
    struct cpuid_set set = {.count = 0};
    assert_int_equal(cpuid_get(&set, 1, 0, CPUID_ECX), 0);
    cpuid_patch(&set, 1, 0, CPUID_ECX, 0, 1);
    assert_int_equal(set.count, 0);
}

static void test_patch_clears_then_sets(void **state)
{
    struct cpuid_set set;
    CPU_SAMPLE_FILL(&set, cpu_sample_intel);
    cpuid_patch(&set, 4, 3, CPUID_EBX, 0x0000003f, 0x00000005);
    assert_int_equal(cpuid_get(&set, 4, 3, CPUID_EBX), 0x02c00005);
    cpuid_patch(&set, 4, 3, CPUID_ECX, ~0u, 7);
    assert_int_equal(cpuid_get(&set, 4, 3, CPUID_ECX), 7);
}

static void test_full_set_refuses(void **state)
{
    static const uint32_t regs[4] = {1, 1, 1, 1};
    struct cpuid_set set = {.count = 0};
    for (uint32_t i = 0; i < CPUID_ENTRIES_MAX; i++)
        assert_int_equal(cpuid_put(&set, 0xd, i, regs), 0);
    assert_int_equal(cpuid_put(&set, 0xd, CPUID_ENTRIES_MAX, regs), -ENOSPC);
    assert_int_equal(cpuid_put(&set, 0, 0, regs), -ENOSPC);
    assert_int_equal(cpuid_put(&set, 0xd, 7, regs), 0); /* a replacement needs no room */
    assert_int_equal(set.count, CPUID_ENTRIES_MAX);
}

static void test_remove_takes_all_subleaves(void **state)
{
    struct cpuid_set set;
    CPU_SAMPLE_FILL(&set, cpu_sample_intel);
    uint32_t count = set.count;
    cpuid_remove(&set, 4);
    assert_int_equal(set.count, count - 5);
    assert_null(cpuid_look(&set, 4, 0));
    assert_non_null(cpuid_look(&set, 6, 0));
    cpuid_remove(&set, 0x12345);
    assert_int_equal(set.count, count - 5);
}

static void test_vendor(void **state)
{
    static const struct cpu_sample_leaf hygon[] = {{0, 0, {0, 0x6f677948, 0x656e6975, 0x6e65476e}}};
    struct cpuid_set set;
    CPU_SAMPLE_FILL(&set, cpu_sample_intel);
    assert_false(cpuid_is_amd(&set));
    CPU_SAMPLE_FILL(&set, cpu_sample_amd);
    assert_true(cpuid_is_amd(&set));
    CPU_SAMPLE_FILL(&set, hygon);
    assert_true(cpuid_is_amd(&set));
    set.count = 0;
    assert_false(cpuid_is_amd(&set));
}

static void test_bad_descriptor_is_an_error(void **state)
{
    struct cpuid_set set;
    struct err err;
    assert_int_equal(cpuid_supported(-1, &set, &err), -EBADF);
    assert_string_equal(err.text, "KVM does not tell which CPU features it supports: "
                                  "Bad file descriptor");
    assert_int_equal(set.count, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_entries_are_sorted_whatever_the_order),
        cmocka_unit_test(test_index_counts_only_for_leaves_with_subleaves),
        cmocka_unit_test(test_put_replaces),
        cmocka_unit_test(test_absent_leaf_reads_zero_and_takes_no_patch),
        cmocka_unit_test(test_patch_clears_then_sets),
        cmocka_unit_test(test_full_set_refuses),
        cmocka_unit_test(test_remove_takes_all_subleaves),
        cmocka_unit_test(test_vendor),
        cmocka_unit_test(test_bad_descriptor_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
