/* Profiles on CPUs made by hand: whole results as a person wrote them down, and every refusal. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "machine/cpu_features.h"
#include "machine/cpu_profile.h"
#include "tests/unit/machine/cpu_samples.h"

static struct cpuid_set intel, amd;

static int setup(void **state)
{
    CPU_SAMPLE_FILL(&intel, cpu_sample_intel);
    CPU_SAMPLE_FILL(&amd, cpu_sample_amd);
    return 0;
}

static bool has(const struct cpuid_set *set, const char *name)
{
    return cpu_features_has(set, &cpu_features[cpu_features_find(name, strlen(name))]);
}

static void build(const char *profile, const struct cpuid_set *from, struct cpuid_set *out)
{
    struct err err = {0};
    if (cpu_profile_build(profile, from, out, &err) < 0)
        fail_msg("%s: %s", profile ? profile : "(none)", err.text);
}

static void check_golden(const struct cpuid_set *set, const char *expected)
{
    char text[4000];
    cpu_sample_print(set, text, sizeof(text));
    assert_string_equal(text, expected);
}

static void test_golden_v2_on_intel(void **state)
{
    struct cpuid_set set;
    build("v2", &intel, &set);
    cpu_profile_set_cpu(&set, 2, 4);
    check_golden(&set,
                 "00000000.0 0000000b 756e6547 6c65746e 49656e69\n" /* maximum, vendor */
                 "00000001.0 00050654 02040800 81b82201 178bfbfd\n" /* model; id 2 of 4; features */
                 "00000002.0 00feff01 000000f0 00000000 00000000\n" /* cache descriptors */
                 "00000004.0 0c000121 01c0003f 0000003f 00000000\n" /* L1d, 4 core ids */
                 "00000004.1 0c000122 01c0003f 0000003f 00000000\n" /* L1i */
                 "00000004.2 0c000143 03c0003f 000003ff 00000000\n" /* L2 */
                 "00000004.3 0c00c163 02c0003f 000057ff 00000004\n" /* L3, shared by 4 */
                 "00000006.0 00000004 00000000 00000000 00000000\n" /* arat */
                 "00000007.0 00000000 00000002 00000000 00000000\n" /* tsc_adjust */
                 "0000000b.0 00000000 00000001 00000100 00000002\n" /* one thread */
                 "0000000b.1 00000002 00000004 00000201 00000002\n" /* 4 cores, 2 bits */
                 "0000000b.2 00000000 00000000 00000002 00000002\n" /* end */
                 "40000000.0 40000001 4b4d564b 564b4d56 0000004d\n" /* KVMKVMKVM */
                 "40000001.0 010008cb 00000000 00000000 00000000\n" /* clocks, EOI, kick, IPI */
                 "80000000.0 80000008 00000000 00000000 00000000\n"
                 "80000001.0 00000000 00000000 00000001 20100800\n" /* lahf; lm nx syscall */
                 "80000002.0 72726546 38782079 34362d36 2032762d\n" /* Ferry x86-64-v2 */
                 "80000003.0 74726976 206c6175 00555043 00000000\n" /* virtual CPU */
                 "80000006.0 00000000 00000000 01006040 00000000\n" /* L2 */
                 "80000008.0 0000302e 00000000 00000000 00000000\n" /* 48 and 46 bits */
    );
}

static void test_golden_v3_on_amd(void **state)
{
    struct cpuid_set set;
    build("x86-64-v3", &amd, &set);
    cpu_profile_set_cpu(&set, 5, 6);
    check_golden(&set,
                 "00000000.0 0000000d 68747541 444d4163 69746e65\n"
                 "00000001.0 00a20f10 05060800 b5f83201 178bfbfd\n"
                 "00000006.0 00000004 00000000 00000000 00000000\n"
                 "00000007.0 00000000 0000012a 00000000 00000000\n" /* tsc_adjust bmi1 avx2 bmi2 */
                 "0000000b.0 00000000 00000001 00000100 00000005\n"
                 "0000000b.1 00000003 00000006 00000201 00000005\n"
                 "0000000b.2 00000000 00000000 00000002 00000005\n"
                 "0000000d.0 00000007 00000340 00000340 00000000\n" /* x87 sse avx: 832 bytes */
                 "0000000d.2 00000100 00000240 00000000 00000000\n"
                 "40000000.0 40000001 4b4d564b 564b4d56 0000004d\n"
                 "40000001.0 010008cb 00000000 00000000 00000000\n"
                 "80000000.0 80000008 68747541 444d4163 69746e65\n"
                 "80000001.0 00a20f10 00000000 00000023 2193fbfd\n" /* lahf, cmp_legacy, abm */
                 "80000002.0 72726546 38782079 34362d36 2033762d\n"
                 "80000003.0 74726976 206c6175 00555043 00000000\n"
                 "80000005.0 ff40ff40 ff40ff40 20080140 20080140\n"
                 "80000006.0 48002200 68004200 02006140 01009140\n"
                 "80000008.0 0000302e 00000000 00003005 00000000\n" /* 6 cores, 3 id bits */
    );
}

static void test_golden_host_on_amd(void **state)
{
    struct cpuid_set set;
    build("host", &amd, &set);
    cpu_profile_set_cpu(&set, 1, 2);
    check_golden(&set, "00000000.0 0000000d 68747541 444d4163 69746e65\n"
                       "00000001.0 00a20f10 01020800 f7fa3203 178bfbff\n"
                       "00000006.0 00000004 00000000 00000000 00000000\n"
                       "00000007.0 00000000 219c07ab 0040060c 00000010\n"
                       "0000000b.0 00000000 00000001 00000100 00000001\n"
                       "0000000b.1 00000001 00000002 00000201 00000001\n"
                       "0000000b.2 00000000 00000000 00000002 00000001\n"
                       "0000000d.0 00000207 00000988 00000988 00000000\n"
                       "0000000d.1 0000000f 00000348 00000000 00000000\n" /* 576 + 256 + 8 */
                       "0000000d.2 00000100 00000240 00000000 00000000\n"
                       "0000000d.9 00000008 00000980 00000000 00000000\n"
                       "40000000.0 40000001 4b4d564b 564b4d56 0000004d\n"
                       "40000001.0 010008cb 00000000 00000000 00000000\n"
                       "80000000.0 80000021 68747541 444d4163 69746e65\n"
                       "80000001.0 00a20f10 20000000 004003f7 2fd3fbff\n"
                       "80000005.0 ff40ff40 ff40ff40 20080140 20080140\n"
                       "80000006.0 48002200 68004200 02006140 01009140\n"
                       "80000007.0 00000000 00000000 00000000 00000100\n"
                       "80000008.0 00003030 01011205 00001001 00010000\n"
                       "8000000a.0 00000001 00000008 00000000 000119b9\n"
                       "8000001d.0 00000121 01c0003f 0000003f 00000000\n"
                       "8000001d.1 00000122 01c0003f 0000003f 00000000\n"
                       "8000001d.2 00000143 01c0003f 000003ff 00000002\n"
                       "8000001d.3 00004163 03c0003f 00007fff 00000001\n" /* L3 shared by 2 */
                       "8000001e.0 00000001 00000001 00000000 00000000\n"
                       "80000021.0 00000045 00000000 00000000 00000000\n");
}

static void test_empty_means_host(void **state)
{
    struct cpuid_set a, b;
    build("host", &intel, &a);
    build("", &intel, &b);
    assert_memory_equal(&a, &b, sizeof(a));
    build(NULL, &intel, &b);
    assert_memory_equal(&a, &b, sizeof(a));
    build("-sgx", &intel, &b); /* which no guest gets anyway */
    assert_memory_equal(&a, &b, sizeof(a));
}

static void test_host_leaves_out_what_makes_no_sense(void **state)
{
    static const char *const out[] = {"monitor", "osxsave", "ospke", "sgx", "intel_pt"};
    static const uint32_t gone[] = {5, 0x12, 0x14, 0x16, 0x8000001f};
    struct cpuid_set set;
    build("host", &intel, &set);
    for (unsigned i = 0; i < sizeof(out) / sizeof(out[0]); i++)
        assert_false(has(&set, out[i]));
    for (unsigned i = 0; i < sizeof(gone) / sizeof(gone[0]); i++)
        assert_null(cpuid_look(&set, gone[i], 0));
    assert_int_equal(cpuid_get(&set, 1, 0, CPUID_ECX), 0xf7fa3203);
    assert_int_equal(cpuid_get(&set, 7, 0, CPUID_EBX), 0xd19f4fbb);
    assert_int_equal(cpuid_get(&set, 7, 0, CPUID_ECX), 0x0000000c);
    assert_int_equal(cpuid_get(&set, 7, 0, CPUID_EDX), 0xac000400);
    assert_int_equal(cpuid_get(&set, 7, 0, CPUID_EAX), 0); /* 7.1 is empty, 7.2 was not there */
    assert_int_equal(cpuid_get(&set, 6, 0, CPUID_EAX), 4);
    assert_int_equal(cpuid_get(&set, 0xa, 0, CPUID_EAX), 0x07300402);
    assert_int_equal(cpuid_get(&set, 0x80000002, 0, CPUID_EAX), 0x74736554);
    assert_int_equal(cpuid_get(&set, 0x80000008, 0, CPUID_EAX), 0x3034);
    build("v4", &intel, &set);
    assert_null(cpuid_look(&set, 0xa, 0)); /* counters differ between models */
}

static void test_xsave_follows_the_features(void **state)
{
    static const struct {
        const char *profile;
        uint32_t components, standard, compacted; /* compacted: 0 without xsavec and xsaves */
    } cases[] = {
        /* 576+256+64+64+64+512+1024+8; the tracer is not for guests, nor is its component 8 */
        {"host,-intel_pt", 0x2ff, 0xa88, 0xa08},
        {"host,-pku", 0x0ff, 0xa80, 0xa00},
        {"host,-avx512f", 0x21f, 0xa88, 0x3c8},
        {"host,-mpx", 0x2e7, 0xa88, 0x988},
        {"host,-avx", 0x21b, 0xa88, 0x2c8},
        {"host,-xsavec", 0x2ff, 0xa88, 0},
        {"v3", 0x007, 0x340, 0},
        {"v4", 0x0e7, 0xa80, 0},
        {"v4,+pku", 0x2e7, 0xa88, 0},
        {"v4,-avx512f", 0x007, 0x340, 0},
        {"v2,+xsave", 0x003, 0x240, 0},
    };
    for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct cpuid_set set;
        build(cases[i].profile, &intel, &set);
        print_message("%s\n", cases[i].profile);
        assert_int_equal(cpuid_get(&set, 0xd, 0, CPUID_EAX), cases[i].components);
        assert_int_equal(cpuid_get(&set, 0xd, 0, CPUID_EBX), cases[i].standard);
        assert_int_equal(cpuid_get(&set, 0xd, 0, CPUID_ECX), cases[i].standard);
        assert_int_equal(cpuid_get(&set, 0xd, 1, CPUID_EBX), cases[i].compacted);
        for (unsigned n = 2; n < 32; n++)
            assert_int_equal(cpuid_look(&set, 0xd, n) != NULL, cases[i].components >> n & 1);
    }
}

static void test_supervisor_components_need_xsaves(void **state)
{
    struct cpuid_set host = intel, set;
    static const uint32_t regs[] = {0x18, 0, 1, 0};
    cpuid_patch(&host, 0xd, 1, CPUID_ECX, 0, 1u << 15);
    assert_int_equal(cpuid_put(&host, 0xd, 15, regs), 0);
    build("host", &host, &set);
    assert_int_equal(cpuid_get(&set, 0xd, 1, CPUID_ECX), 1u << 15);
    build("host,-xsaves", &host, &set);
    assert_int_equal(cpuid_get(&set, 0xd, 1, CPUID_ECX), 0);
    assert_null(cpuid_look(&set, 0xd, 15));
}

/* A paravirtual KVM saves registers of code that it runs natively, though it announces nothing. */
static void test_unannounced_state_stays_for_host_only(void **state)
{
    struct cpuid_set host = amd, set;
    cpuid_patch(&host, 1, 0, CPUID_ECX, 0xffffffff, 0x81202000);
    cpuid_patch(&host, 7, 0, CPUID_EBX, 0xffffffff, 2);
    cpuid_patch(&host, 7, 0, CPUID_ECX, 0xffffffff, 0);
    build("host", &host, &set);
    assert_int_equal(cpuid_get(&set, 0xd, 0, CPUID_EAX), 0x207);
    build("v1", &host, &set);
    assert_null(cpuid_look(&set, 0xd, 0));
    build("host,-xsave", &host, &set); /* not announced: nothing to remove */
    assert_int_equal(cpuid_get(&set, 0xd, 0, CPUID_EAX), 0x207);
}

static void test_feature_without_its_registers_is_not_given(void **state)
{
    struct cpuid_set host = intel, set;
    struct err err;
    cpuid_patch(&host, 7, 0, CPUID_EDX, 0, 1u << 24);
    build("host", &host, &set);
    assert_false(has(&set, "amx_tile"));
    assert_int_equal(cpu_profile_build("host,+amx_tile", &host, &set, &err), -ENOTSUP);
    assert_string_equal(err.text, "CPU profile 'host,+amx_tile' needs what this host does not "
                                  "offer: amx_tile");
}

static void test_baselines_are_the_same_on_both_vendors(void **state)
{
    static const char *const profiles[] = {"v1", "v2", "v3", "v3,+aes,-fma,+smep"};
    for (unsigned i = 0; i < sizeof(profiles) / sizeof(profiles[0]); i++) {
        struct cpuid_set a, b;
        build(profiles[i], &intel, &a);
        build(profiles[i], &amd, &b);
        for (unsigned w = 0; w < cpu_features_words_count; w++) {
            const struct cpu_word *word = &cpu_features_words[w];
            bool repeats = word->leaf == 0x80000001 && word->reg == CPUID_EDX;
            uint32_t mask = repeats ? ~CPU_FEATURES_AMD_ALIASES : ~0u;
            assert_int_equal(cpuid_get(&a, word->leaf, word->subleaf, word->reg) & mask,
                             cpuid_get(&b, word->leaf, word->subleaf, word->reg) & mask);
        }
        assert_int_equal(cpuid_get(&a, 0xd, 0, CPUID_ECX), cpuid_get(&b, 0xd, 0, CPUID_ECX));
        assert_int_equal(cpuid_get(&a, 0x80000008, 0, CPUID_EAX),
                         cpuid_get(&b, 0x80000008, 0, CPUID_EAX));
    }
}

static void test_aliases_follow_leaf_1(void **state)
{
    struct cpuid_set set;
    build("host,-mmx", &amd, &set);
    assert_false(has(&set, "mmx") || has(&set, "mmxext"));
    assert_int_equal(cpuid_get(&set, 0x80000001, 0, CPUID_EDX) & 1u << 23, 0);
    build("host", &intel, &set);
    assert_int_equal(cpuid_get(&set, 0x80000001, 0, CPUID_EDX), 0x2c100800);
}

static void test_removing_takes_dependants_along(void **state)
{
    struct cpuid_set set;
    build("v4,-avx2", &intel, &set);
    assert_false(has(&set, "avx2") || has(&set, "avx512f") || has(&set, "avx512vl"));
    assert_true(has(&set, "avx") && has(&set, "fma") && has(&set, "bmi2"));
    build("host,-xsave", &intel, &set);
    assert_false(has(&set, "avx") || has(&set, "pku") || has(&set, "xsaves") || has(&set, "fma"));
    assert_null(cpuid_look(&set, 0xd, 0));
    assert_int_equal(cpuid_get(&set, 0, 0, CPUID_EAX), 0xb);
    build("v2,-sse3", &intel, &set);
    assert_false(has(&set, "ssse3") || has(&set, "sse4_2"));
    assert_true(has(&set, "popcnt") && has(&set, "cx16"));
}

/* For every feature: without it the result has neither it nor anything that needs it. */
static void test_every_single_removal_leaves_a_sound_cpu(void **state)
{
    const struct cpuid_set *hosts[] = {&intel, &amd};
    unsigned removed = 0;
    for (unsigned h = 0; h < 2; h++) {
        for (unsigned i = 0; i < cpu_features_count; i++) {
            const struct cpu_feature *f = &cpu_features[i];
            char profile[64];
            struct cpuid_set set;
            struct err err;
            snprintf(profile, sizeof(profile), "host,-%s", f->name);
            int rc = cpu_profile_build(profile, hosts[h], &set, &err);
            if (f->flags & (CPU_FEATURE_TOPOLOGY | CPU_FEATURE_ESSENTIAL)) {
                assert_int_equal(rc, -EINVAL);
                continue;
            }
            if (rc < 0) /* something that the machine boots with needs it */
                continue;
            removed++;
            assert_false(cpu_features_has(&set, f));
            for (unsigned j = 0; j < cpu_features_count; j++)
                for (unsigned n = 0; n < CPU_FEATURE_NEEDS && cpu_features[j].needs[n]; n++)
                    if (strcmp(cpu_features[j].needs[n], f->name) == 0)
                        assert_false(cpu_features_has(&set, &cpu_features[j]));
        }
    }
    assert_int_equal(removed, 2 * (cpu_features_count - 2 - 4));
}

/* For every feature: added to the smallest base it is there, or refused in a sentence naming it. */
static void test_every_single_addition_is_given_or_refused_by_name(void **state)
{
    unsigned given = 0, refused = 0;
    for (unsigned i = 0; i < cpu_features_count; i++) {
        char profile[64];
        struct cpuid_set set;
        struct err err;
        snprintf(profile, sizeof(profile), "v1,+%s", cpu_features[i].name);
        if (cpu_profile_build(profile, &intel, &set, &err) == 0) {
            assert_true(cpu_features_has(&set, &cpu_features[i]));
            given++;
        } else {
            assert_non_null(strstr(err.text, cpu_features[i].name));
            refused++;
        }
    }
    assert_true(given > 50 && refused > 50);
}

static void test_refusals(void **state)
{
    static const struct {
        const char *profile;
        int code;
        const char *text;
    } cases[] = {
        {"v5", EINVAL,
         "unknown CPU profile 'v5': use host, v1, v2, v3 or v4, then features such as +aes or "
         "-avx"},
        {"Host", EINVAL,
         "unknown CPU profile 'Host': use host, v1, v2, v3 or v4, then features such as +aes or "
         "-avx"},
        {"aes", EINVAL, "CPU feature 'aes' needs a sign: +aes or -aes"},
        {"v2,aes", EINVAL, "CPU profile item 'aes' needs a sign: write +aes or -avx"},
        {"v2,v3", EINVAL, "CPU profile item 'v3' needs a sign: write +aes or -avx"},
        {"v2,+avx51f", EINVAL, "unknown CPU feature 'avx51f': did you mean 'avx512f'?"},
        {"v2,-frobnicate", EINVAL, "unknown CPU feature 'frobnicate'"},
        {"v2,+cx16,-cx16", EINVAL, "CPU feature 'cx16' is named twice"},
        {"v2,-sse3,-pni", EINVAL, "CPU feature 'pni' is named twice"},
        {"v2,+ht", EINVAL, "CPU feature 'ht' follows from the number of CPUs"},
        {"v2,+monitor", EINVAL, "CPU feature 'monitor' cannot be given to a guest"},
        {"v2,-lm", EINVAL, "CPU feature 'lm' cannot be removed: the machine boots with it"},
        {"v2,", EINVAL, "CPU profile 'v2,' has an empty item"},
        {",v2", EINVAL, "CPU profile ',v2' has an empty item"},
        {"v2,,+aes", EINVAL, "CPU profile 'v2,,+aes' has an empty item"},
        {"v2,+", EINVAL, "CPU profile 'v2,+' has an empty item"},
        {"-", EINVAL, "CPU profile '-' has an empty item"},
        {"v2, +aes", EINVAL, "CPU profile item ' +aes' needs a sign: write +aes or -avx"},
        {"v2,+avx", EINVAL, "CPU feature 'avx' needs xsave, which the profile does not have"},
        {"v1,+avx", EINVAL,
         "CPU feature 'avx' needs xsave, sse4_2, which the profile does not have"},
        {"v3,-avx,+avx2", EINVAL, "CPU feature 'avx2' needs avx, which the profile does not have"},
        {"v4", ENOTSUP,
         "CPU profile 'v4' needs what this host does not offer: avx512f, avx512dq, avx512cd, "
         "avx512bw, avx512vl"},
        {"v3,+rtm,+hle", ENOTSUP,
         "CPU profile 'v3,+rtm,+hle' needs what this host does not offer: hle, rtm"},
    };
    for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct cpuid_set set;
        struct err err = {0};
        assert_int_equal(cpu_profile_build(cases[i].profile, &amd, &set, &err), -cases[i].code);
        assert_string_equal(err.text, cases[i].text);
    }
}

static void test_removed_feature_need_not_be_on_the_host(void **state)
{
    struct cpuid_set host = intel, set;
    struct err err;
    cpuid_patch(&host, 1, 0, CPUID_ECX, 1u << 13, 0);
    assert_int_equal(cpu_profile_build("v2", &host, &set, &err), -ENOTSUP);
    assert_string_equal(err.text, "CPU profile 'v2' needs what this host does not offer: cx16");
    build("v2,-cx16", &host, &set);
}

/* The KVM of an older kernel offers less in software: a baseline does with what there is. */
static void test_baseline_does_not_require_what_kvm_makes(void **state)
{
    struct cpuid_set host = intel, set;
    cpuid_patch(&host, 0x40000001, 0, CPUID_EAX, ~0u, 1u << 3);
    cpuid_patch(&host, 1, 0, CPUID_ECX, 1u << 21 | 1u << 24, 0);
    build("v2", &host, &set);
    assert_int_equal(cpuid_get(&set, 0x40000001, 0, CPUID_EAX), 8);
    assert_false(has(&set, "x2apic") || has(&set, "tsc_deadline_timer"));
}

static void test_hidden_hypervisor(void **state)
{
    struct cpuid_set set;
    build("host,-hypervisor", &intel, &set);
    assert_false(has(&set, "hypervisor"));
    assert_null(cpuid_look(&set, 0x40000000, 0));
    assert_null(cpuid_look(&set, 0x40000001, 0));
    assert_int_equal(cpu_profile_set_tsc(&set, 2000000), 0);
    assert_null(cpuid_look(&set, 0x40000010, 0));
}

static void test_tsc_frequency(void **state)
{
    struct cpuid_set set;
    build("v2", &intel, &set);
    assert_int_equal(cpu_profile_set_tsc(&set, 2700000), 0);
    assert_int_equal(cpuid_get(&set, 0x40000000, 0, CPUID_EAX), 0x40000010);
    assert_int_equal(cpuid_get(&set, 0x40000010, 0, CPUID_EAX), 2700000);
    assert_int_equal(cpuid_get(&set, 0x40000010, 0, CPUID_EBX), 1000000);
    assert_int_equal(cpu_profile_set_tsc(&set, 0), 0);
    assert_int_equal(cpuid_get(&set, 0x40000000, 0, CPUID_EAX), 0x40000001);
    assert_null(cpuid_look(&set, 0x40000010, 0));
}

static void test_one_cpu_and_sixty_four(void **state)
{
    struct cpuid_set set;
    build("host", &intel, &set);
    cpu_profile_set_cpu(&set, 0, 1);
    assert_false(has(&set, "ht"));
    assert_int_equal(cpuid_get(&set, 1, 0, CPUID_EBX), 0x00010800);
    assert_int_equal(cpuid_get(&set, 0xb, 1, CPUID_EAX), 0);
    assert_int_equal(cpuid_get(&set, 4, 3, CPUID_EAX), 0x00000163);
    cpu_profile_set_cpu(&set, 63, 64); /* a set may be used for the next CPU */
    assert_true(has(&set, "ht"));
    assert_int_equal(cpuid_get(&set, 1, 0, CPUID_EBX), 0x3f400800);
    assert_int_equal(cpuid_get(&set, 0xb, 0, CPUID_EDX), 63);
    assert_int_equal(cpuid_get(&set, 0xb, 1, CPUID_EAX), 6);
    assert_int_equal(cpuid_get(&set, 0xb, 1, CPUID_EBX), 64);
    assert_int_equal(cpuid_get(&set, 4, 3, CPUID_EAX), 0xfc0fc163);
    assert_int_equal(cpuid_get(&set, 0x80000008, 0, CPUID_ECX), 0); /* reserved on Intel */
    build("v1", &amd, &set);
    cpu_profile_set_cpu(&set, 0, 1);
    assert_false(has(&set, "cmp_legacy"));
    assert_int_equal(cpuid_get(&set, 0x80000008, 0, CPUID_ECX), 0);
}

static void test_extended_topology_leaf(void **state)
{
    static const uint32_t regs[] = {1, 2, 0x100, 7};
    struct cpuid_set host = intel, set;
    assert_int_equal(cpuid_put(&host, 0x1f, 0, regs), 0);
    build("v1", &host, &set);
    cpu_profile_set_cpu(&set, 3, 4);
    assert_int_equal(cpuid_get(&set, 0, 0, CPUID_EAX), 0x1f);
    for (uint32_t i = 0; i < 3; i++)
        for (unsigned reg = CPUID_EAX; reg <= CPUID_EDX; reg++)
            assert_int_equal(cpuid_get(&set, 0x1f, i, reg), cpuid_get(&set, 0xb, i, reg));
}

static void test_unusable_supported_set(void **state)
{
    struct cpuid_set host = intel, set;
    struct err err;
    cpuid_remove(&host, 0x80000008);
    assert_int_equal(cpu_profile_build("host", &host, &set, &err), -ENOTSUP);
    assert_string_equal(err.text, "KVM reports no CPUID leaf 0x80000008");
    host.count = 0;
    assert_int_equal(cpu_profile_build("host", &host, &set, &err), -ENOTSUP);
    assert_string_equal(err.text, "KVM reports no CPUID leaf 0x0");
}

/* Any text gets an answer: every byte of a good profile replaced by every other byte. */
static void test_any_text_is_survived(void **state)
{
    static const char good[] = "v3,-fma,+aes";
    struct cpuid_set set;
    struct err err;
    for (size_t at = 0; at < sizeof(good) - 1; at++) {
        for (int c = 1; c < 256; c++) {
            char text[sizeof(good)];
            memcpy(text, good, sizeof(good));
            text[at] = (char)c;
            int rc = cpu_profile_build(text, &intel, &set, &err);
            assert_true(rc == 0 || (rc < 0 && err.text[0]));
        }
        char cut[sizeof(good)] = "";
        memcpy(cut, good, at);
        (void)cpu_profile_build(cut, &intel, &set, &err);
    }
    static char long_text[1 << 16];
    memset(long_text, 'x', sizeof(long_text) - 1);
    assert_int_equal(cpu_profile_build(long_text, &intel, &set, &err), -EINVAL);
    memset(long_text, ',', sizeof(long_text) - 1);
    assert_int_equal(cpu_profile_build(long_text, &intel, &set, &err), -EINVAL);
    long_text[0] = '+';
    memset(long_text + 1, 'a', sizeof(long_text) - 2);
    assert_int_equal(cpu_profile_build(long_text, &intel, &set, &err), -EINVAL);
}

static void test_names(void **state)
{
    struct cpuid_set set;
    struct buf names;
    struct err err;
    build("v1,-sse,+cx16", &intel, &set);
    buf_init(&names, 4096);
    assert_int_equal(cpu_profile_names(&set, &names, &err), 0);
    assert_int_equal(buf_append(&names, "", 1), 0);
    assert_string_equal((char *)names.data,
                        "fpu de pse tsc msr pae mce cx8 apic sep mtrr pge mca cmov pat pse36 "
                        "clflush mmx fxsr cx16 x2apic tsc_deadline_timer hypervisor arat "
                        "tsc_adjust kvm_clocksource kvm_nop_io_delay kvm_clocksource2 kvm_pv_eoi "
                        "kvm_pv_unhalt kvm_pv_send_ipi kvm_clocksource_stable syscall nx lm");
    buf_fini(&names);
    buf_init(&names, 10);
    assert_int_equal(cpu_profile_names(&set, &names, &err), -ENOSPC);
    buf_fini(&names);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_golden_v2_on_intel),
        cmocka_unit_test(test_golden_v3_on_amd),
        cmocka_unit_test(test_golden_host_on_amd),
        cmocka_unit_test(test_empty_means_host),
        cmocka_unit_test(test_host_leaves_out_what_makes_no_sense),
        cmocka_unit_test(test_xsave_follows_the_features),
        cmocka_unit_test(test_supervisor_components_need_xsaves),
        cmocka_unit_test(test_unannounced_state_stays_for_host_only),
        cmocka_unit_test(test_feature_without_its_registers_is_not_given),
        cmocka_unit_test(test_baselines_are_the_same_on_both_vendors),
        cmocka_unit_test(test_aliases_follow_leaf_1),
        cmocka_unit_test(test_removing_takes_dependants_along),
        cmocka_unit_test(test_every_single_removal_leaves_a_sound_cpu),
        cmocka_unit_test(test_every_single_addition_is_given_or_refused_by_name),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_removed_feature_need_not_be_on_the_host),
        cmocka_unit_test(test_baseline_does_not_require_what_kvm_makes),
        cmocka_unit_test(test_hidden_hypervisor),
        cmocka_unit_test(test_tsc_frequency),
        cmocka_unit_test(test_one_cpu_and_sixty_four),
        cmocka_unit_test(test_extended_topology_leaf),
        cmocka_unit_test(test_unusable_supported_set),
        cmocka_unit_test(test_any_text_is_survived),
        cmocka_unit_test(test_names),
    };
    return cmocka_run_group_tests(tests, setup, NULL);
}
