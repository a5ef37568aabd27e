/* The table of features: that it is sound, and how names are found in it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "machine/cpu_features.h"
#include "tests/unit/machine/cpu_samples.h"

static int find(const char *name)
{
    return cpu_features_find(name, strlen(name));
}

static void test_names_and_bits_are_there_once(void **state)
{
    for (unsigned i = 0; i < cpu_features_count; i++) {
        const struct cpu_feature *a = &cpu_features[i];
        assert_true(a->bit < 32 && a->level <= 4 && strlen(a->name) <= 32);
        assert_string_equal(cpu_features_name(a->leaf, a->subleaf, a->reg, a->bit), a->name);
        for (unsigned j = i + 1; j < cpu_features_count; j++) {
            const struct cpu_feature *b = &cpu_features[j];
            assert_string_not_equal(a->name, b->name);
            assert_false(a->leaf == b->leaf && a->subleaf == b->subleaf && a->reg == b->reg &&
                         a->bit == b->bit);
        }
    }
}

static void test_every_feature_lies_in_a_known_word(void **state)
{
    for (unsigned i = 0; i < cpu_features_count; i++) {
        const struct cpu_feature *f = &cpu_features[i];
        unsigned found = 0;
        for (unsigned w = 0; w < cpu_features_words_count; w++)
            found += cpu_features_words[w].leaf == f->leaf &&
                     cpu_features_words[w].subleaf == f->subleaf &&
                     cpu_features_words[w].reg == f->reg;
        assert_int_equal(found, 1);
    }
}

/* A baseline must stand by itself: what it holds needs nothing of a later one. */
static void test_needs_exist_and_fit_the_baselines(void **state)
{
    for (unsigned i = 0; i < cpu_features_count; i++) {
        const struct cpu_feature *f = &cpu_features[i];
        for (unsigned n = 0; n < CPU_FEATURE_NEEDS && f->needs[n]; n++) {
            int need = find(f->needs[n]);
            assert_true(need >= 0 && (unsigned)need != i);
            if (f->level)
                assert_true(cpu_features[need].level && cpu_features[need].level <= f->level);
        }
    }
}

static unsigned depth_of(unsigned i, unsigned depth)
{
    unsigned deepest = depth;
    assert_true(depth < 20); /* a circle would never end */
    for (unsigned n = 0; n < CPU_FEATURE_NEEDS && cpu_features[i].needs[n]; n++) {
        unsigned d = depth_of((unsigned)find(cpu_features[i].needs[n]), depth + 1);
        if (d > deepest)
            deepest = d;
    }
    return deepest;
}

static void test_needs_have_no_circle(void **state)
{
    for (unsigned i = 0; i < cpu_features_count; i++)
        assert_true(depth_of(i, 0) < 20);
}

static void test_psabi_levels(void **state)
{
    static const char *const levels[4][16] = {
        {"cmov", "cx8", "fpu", "fxsr", "mmx", "syscall", "sse", "sse2"},
        {"cx16", "lahf_lm", "popcnt", "pni", "sse4_1", "sse4_2", "ssse3"},
        {"avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "abm", "movbe", "xsave"},
        {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"},
    };
    static const unsigned counts[4] = {0, 7, 9, 5};
    for (unsigned level = 0; level < 4; level++) {
        unsigned count = 0;
        for (unsigned n = 0; levels[level][n]; n++)
            assert_int_equal(cpu_features[find(levels[level][n])].level, level + 1);
        for (unsigned i = 0; i < cpu_features_count; i++)
            count += cpu_features[i].level == level + 1;
        if (counts[level]) /* above the first nothing is added to the psABI's own */
            assert_int_equal(count, counts[level]);
    }
}

static void test_dependants_follow_through_several_steps(void **state)
{
    bool gone[CPU_FEATURES_MAX] = {false};
    gone[find("xsave")] = true;
    cpu_features_add_dependants(gone);
    static const char *const go[] = {"avx",     "avx2",     "fma",         "f16c",
                                     "avx512f", "avx512vl", "avx512_bf16", "pku",
                                     "xsaves",  "amx_int8", "vaes"};
    static const char *const stay[] = {"sse4_2", "aes", "bmi1", "lm", "pclmulqdq", "gfni"};
    for (unsigned i = 0; i < sizeof(go) / sizeof(go[0]); i++)
        assert_true(gone[find(go[i])]);
    for (unsigned i = 0; i < sizeof(stay) / sizeof(stay[0]); i++)
        assert_false(gone[find(stay[i])]);
}

static void test_other_spellings(void **state)
{
    assert_int_equal(find("sse3"), find("pni"));
    assert_int_equal(find("lzcnt"), find("abm"));
    assert_int_equal(find("sse4.2"), find("sse4_2"));
    assert_int_equal(find("invtsc"), find("nonstop_tsc"));
    assert_int_equal(find("kvmclock"), find("kvm_clocksource2"));
    assert_int_equal(find("AVX"), -1);
    assert_int_equal(find(""), -1);
    assert_int_equal(cpu_features_find("avx2", 3), find("avx"));
    assert_int_equal(cpu_features_find("a\0x", 3), -1);
}

static void test_nearest(void **state)
{
    static const char *const pairs[][2] = {
        {"avx51f", "avx512f"},
        {"aess", "aes"},
        {"AVX2", "avx2"},
        {"sse4-2", "sse4_2"},
        {"popcount", "popcnt"},
        {"pclmuldqd", "pclmulqdq"},
        {"monitr", NULL},
        {"frobnicate", NULL},
        {"zz", NULL},
        {"", NULL},
        {"a-name-far-longer-than-any-feature-could-have", NULL},
    };
    for (unsigned i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++) {
        const char *near = cpu_features_nearest(pairs[i][0], strlen(pairs[i][0]));
        if (pairs[i][1])
            assert_string_equal(near ? near : "nothing", pairs[i][1]);
        else
            assert_null(near);
    }
}

static void test_usable_wants_the_registers_saved(void **state)
{
    struct cpuid_set set;
    CPU_SAMPLE_FILL(&set, cpu_sample_intel);
    const struct cpu_feature *f = &cpu_features[find("avx512f")];
    assert_true(cpu_features_has(&set, f) && cpu_features_usable(&set, f));
    cpuid_patch(&set, 0xd, 0, CPUID_EAX, 1u << 6, 0);
    assert_true(cpu_features_has(&set, f) && !cpu_features_usable(&set, f));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names_and_bits_are_there_once),
        cmocka_unit_test(test_every_feature_lies_in_a_known_word),
        cmocka_unit_test(test_needs_exist_and_fit_the_baselines),
        cmocka_unit_test(test_needs_have_no_circle),
        cmocka_unit_test(test_psabi_levels),
        cmocka_unit_test(test_dependants_follow_through_several_steps),
        cmocka_unit_test(test_other_spellings),
        cmocka_unit_test(test_nearest),
        cmocka_unit_test(test_usable_wants_the_registers_saved),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
