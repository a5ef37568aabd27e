/* See cpu_features.h. */
#include "machine/cpu_features.h"

#include <string.h>

#define SOFT CPU_FEATURE_SOFT
#define NEVER CPU_FEATURE_NEVER
#define TOPOLOGY CPU_FEATURE_TOPOLOGY
#define ESSENTIAL CPU_FEATURE_ESSENTIAL
#define X(n) (1u << (n))
#define NEEDS(...) .needs = {__VA_ARGS__}

/* A baseline holds what the psABI lists for it, and what every x86-64 kernel takes for granted. */
// clang-format off
const struct cpu_feature cpu_features[] = {
    /*                     leaf        sub reg        bit level */
    {"fpu",                1,          0, CPUID_EDX,  0, 1},
    {"vme",                1,          0, CPUID_EDX,  1},
    {"de",                 1,          0, CPUID_EDX,  2, 1},
    {"pse",                1,          0, CPUID_EDX,  3, 1},
    {"tsc",                1,          0, CPUID_EDX,  4, 1},
    {"msr",                1,          0, CPUID_EDX,  5, 1, ESSENTIAL},
    {"pae",                1,          0, CPUID_EDX,  6, 1, ESSENTIAL},
    {"mce",                1,          0, CPUID_EDX,  7, 1},
    {"cx8",                1,          0, CPUID_EDX,  8, 1},
    {"apic",               1,          0, CPUID_EDX,  9, 1, ESSENTIAL},
    {"sep",                1,          0, CPUID_EDX, 11, 1},
    {"mtrr",               1,          0, CPUID_EDX, 12, 1},
    {"pge",                1,          0, CPUID_EDX, 13, 1},
    {"mca",                1,          0, CPUID_EDX, 14, 1, NEEDS("mce")},
    {"cmov",               1,          0, CPUID_EDX, 15, 1},
    {"pat",                1,          0, CPUID_EDX, 16, 1},
    {"pse36",              1,          0, CPUID_EDX, 17, 1, NEEDS("pse")},
    {"clflush",            1,          0, CPUID_EDX, 19, 1},
    {"mmx",                1,          0, CPUID_EDX, 23, 1, NEEDS("fpu")},
    {"fxsr",               1,          0, CPUID_EDX, 24, 1, NEEDS("fpu")},
    {"sse",                1,          0, CPUID_EDX, 25, 1, NEEDS("fxsr")},
    {"sse2",               1,          0, CPUID_EDX, 26, 1, NEEDS("sse")},
    {"ss",                 1,          0, CPUID_EDX, 27},
    {"ht",                 1,          0, CPUID_EDX, 28, 0, TOPOLOGY},

    {"pni",                1,          0, CPUID_ECX,  0, 2, NEEDS("sse2")},
    {"pclmulqdq",          1,          0, CPUID_ECX,  1, 0, NEEDS("sse2")},
    {"monitor",            1,          0, CPUID_ECX,  3, 0, NEVER},
    {"vmx",                1,          0, CPUID_ECX,  5},
    {"ssse3",              1,          0, CPUID_ECX,  9, 2, NEEDS("pni")},
    {"fma",                1,          0, CPUID_ECX, 12, 3, NEEDS("avx")},
    {"cx16",               1,          0, CPUID_ECX, 13, 2, NEEDS("cx8")},
    {"pdcm",               1,          0, CPUID_ECX, 15},
    {"pcid",               1,          0, CPUID_ECX, 17, 0, NEEDS("lm")},
    {"sse4_1",             1,          0, CPUID_ECX, 19, 2, NEEDS("ssse3")},
    {"sse4_2",             1,          0, CPUID_ECX, 20, 2, NEEDS("sse4_1")},
    {"x2apic",             1,          0, CPUID_ECX, 21, 1, SOFT, NEEDS("apic")},
    {"movbe",              1,          0, CPUID_ECX, 22, 3},
    {"popcnt",             1,          0, CPUID_ECX, 23, 2},
    {"tsc_deadline_timer", 1,          0, CPUID_ECX, 24, 1, SOFT, NEEDS("apic", "tsc")},
    {"aes",                1,          0, CPUID_ECX, 25, 0, NEEDS("sse2")},
    {"xsave",              1,          0, CPUID_ECX, 26, 3},
    {"osxsave",            1,          0, CPUID_ECX, 27, 0, NEVER}, /* KVM follows CR4 */
    {"avx",                1,          0, CPUID_ECX, 28, 3, 0, X(2), {"xsave", "sse4_2"}},
    {"f16c",               1,          0, CPUID_ECX, 29, 3, NEEDS("avx")},
    {"rdrand",             1,          0, CPUID_ECX, 30},
    {"hypervisor",         1,          0, CPUID_ECX, 31, 1, SOFT},

    {"arat",               6,          0, CPUID_EAX,  2, 1, SOFT, NEEDS("apic")},

    {"fsgsbase",           7,          0, CPUID_EBX,  0},
    {"tsc_adjust",         7,          0, CPUID_EBX,  1, 1, SOFT, NEEDS("tsc")},
    {"sgx",                7,          0, CPUID_EBX,  2, 0, NEVER},
    {"bmi1",               7,          0, CPUID_EBX,  3, 3},
    {"hle",                7,          0, CPUID_EBX,  4},
    {"avx2",               7,          0, CPUID_EBX,  5, 3, NEEDS("avx")},
    {"fdp_excptn_only",    7,          0, CPUID_EBX,  6},
    {"smep",               7,          0, CPUID_EBX,  7},
    {"bmi2",               7,          0, CPUID_EBX,  8, 3},
    {"erms",               7,          0, CPUID_EBX,  9},
    {"invpcid",            7,          0, CPUID_EBX, 10, 0, NEEDS("pcid")},
    {"rtm",                7,          0, CPUID_EBX, 11},
    {"zero_fcs_fds",       7,          0, CPUID_EBX, 13},
    {"mpx",                7,          0, CPUID_EBX, 14, 0, 0, X(3) | X(4), {"xsave"}},
    {"avx512f",            7,          0, CPUID_EBX, 16, 4, 0, X(5) | X(6) | X(7), {"avx2"}},
    {"avx512dq",           7,          0, CPUID_EBX, 17, 4, NEEDS("avx512f")},
    {"rdseed",             7,          0, CPUID_EBX, 18},
    {"adx",                7,          0, CPUID_EBX, 19},
    {"smap",               7,          0, CPUID_EBX, 20},
    {"avx512ifma",         7,          0, CPUID_EBX, 21, 0, NEEDS("avx512f")},
    {"clflushopt",         7,          0, CPUID_EBX, 23},
    {"clwb",               7,          0, CPUID_EBX, 24},
    {"intel_pt",           7,          0, CPUID_EBX, 25, 0, NEVER, X(8)},
    {"avx512pf",           7,          0, CPUID_EBX, 26, 0, NEEDS("avx512f")},
    {"avx512er",           7,          0, CPUID_EBX, 27, 0, NEEDS("avx512f")},
    {"avx512cd",           7,          0, CPUID_EBX, 28, 4, NEEDS("avx512f")},
    {"sha_ni",             7,          0, CPUID_EBX, 29, 0, NEEDS("sse2")},
    {"avx512bw",           7,          0, CPUID_EBX, 30, 4, NEEDS("avx512f")},
    {"avx512vl",           7,          0, CPUID_EBX, 31, 4, NEEDS("avx512f")},

    {"avx512vbmi",         7,          0, CPUID_ECX,  1, 0, NEEDS("avx512f")},
    {"umip",               7,          0, CPUID_ECX,  2},
    {"pku",                7,          0, CPUID_ECX,  3, 0, 0, X(9), {"xsave"}},
    {"ospke",              7,          0, CPUID_ECX,  4, 0, NEVER}, /* KVM follows CR4 */
    {"waitpkg",            7,          0, CPUID_ECX,  5},
    {"avx512_vbmi2",       7,          0, CPUID_ECX,  6, 0, NEEDS("avx512vl")},
    {"shstk",              7,          0, CPUID_ECX,  7, 0, NEVER, X(11) | X(12)}, /* SSP is in no MSR */
    {"gfni",               7,          0, CPUID_ECX,  8, 0, NEEDS("sse2")},
    {"vaes",               7,          0, CPUID_ECX,  9, 0, NEEDS("avx", "aes")},
    {"vpclmulqdq",         7,          0, CPUID_ECX, 10, 0, NEEDS("avx", "pclmulqdq")},
    {"avx512_vnni",        7,          0, CPUID_ECX, 11, 0, NEEDS("avx512vl")},
    {"avx512_bitalg",      7,          0, CPUID_ECX, 12, 0, NEEDS("avx512vl")},
    {"avx512_vpopcntdq",   7,          0, CPUID_ECX, 14, 0, NEEDS("avx512f")},
    {"la57",               7,          0, CPUID_ECX, 16, 0, NEEDS("lm")},
    {"rdpid",              7,          0, CPUID_ECX, 22},
    {"bus_lock_detect",    7,          0, CPUID_ECX, 24},
    {"cldemote",           7,          0, CPUID_ECX, 25},
    {"movdiri",            7,          0, CPUID_ECX, 27},
    {"movdir64b",          7,          0, CPUID_ECX, 28},
    {"sgx_lc",             7,          0, CPUID_ECX, 30, 0, NEVER},

    {"avx512_4vnniw",      7,          0, CPUID_EDX,  2, 0, NEEDS("avx512f")},
    {"avx512_4fmaps",      7,          0, CPUID_EDX,  3, 0, NEEDS("avx512f")},
    {"fsrm",               7,          0, CPUID_EDX,  4},
    {"avx512_vp2intersect",7,          0, CPUID_EDX,  8, 0, NEEDS("avx512vl")},
    {"md_clear",           7,          0, CPUID_EDX, 10},
    {"serialize",          7,          0, CPUID_EDX, 14},
    {"tsxldtrk",           7,          0, CPUID_EDX, 16, 0, NEEDS("rtm")},
    {"ibt",                7,          0, CPUID_EDX, 20, 0, NEVER},
    {"amx_bf16",           7,          0, CPUID_EDX, 22, 0, NEEDS("amx_tile")},
    {"avx512_fp16",        7,          0, CPUID_EDX, 23, 0, NEEDS("avx512bw")},
    {"amx_tile",           7,          0, CPUID_EDX, 24, 0, 0, X(17) | X(18), {"xsave"}},
    {"amx_int8",           7,          0, CPUID_EDX, 25, 0, NEEDS("amx_tile")},
    {"spec_ctrl",          7,          0, CPUID_EDX, 26},
    {"stibp",              7,          0, CPUID_EDX, 27},
    {"flush_l1d",          7,          0, CPUID_EDX, 28},
    {"arch_capabilities",  7,          0, CPUID_EDX, 29},
    {"core_capabilities",  7,          0, CPUID_EDX, 30},
    {"ssbd",               7,          0, CPUID_EDX, 31},

    {"sha512",             7,          1, CPUID_EAX,  0, 0, NEEDS("avx2")},
    {"sm3",                7,          1, CPUID_EAX,  1, 0, NEEDS("avx")},
    {"sm4",                7,          1, CPUID_EAX,  2, 0, NEEDS("avx")},
    {"avx_vnni",           7,          1, CPUID_EAX,  4, 0, NEEDS("avx2")},
    {"avx512_bf16",        7,          1, CPUID_EAX,  5, 0, NEEDS("avx512vl")},
    {"cmpccxadd",          7,          1, CPUID_EAX,  7},
    {"fzrm",               7,          1, CPUID_EAX, 10},
    {"fsrs",               7,          1, CPUID_EAX, 11},
    {"fsrc",               7,          1, CPUID_EAX, 12},
    {"amx_fp16",           7,          1, CPUID_EAX, 21, 0, NEEDS("amx_tile")},
    {"avx_ifma",           7,          1, CPUID_EAX, 23, 0, NEEDS("avx2")},
    {"lam",                7,          1, CPUID_EAX, 26, 0, NEEDS("lm")},
    {"avx_vnni_int8",      7,          1, CPUID_EDX,  4, 0, NEEDS("avx2")},
    {"avx_ne_convert",     7,          1, CPUID_EDX,  5, 0, NEEDS("avx2")},
    {"amx_complex",        7,          1, CPUID_EDX,  8, 0, NEEDS("amx_tile")},
    {"avx_vnni_int16",     7,          1, CPUID_EDX, 10, 0, NEEDS("avx2")},
    {"prefetchi",          7,          1, CPUID_EDX, 14},
    {"avx10",              7,          1, CPUID_EDX, 19, 0, NEEDS("avx512vl")},
    {"psfd",               7,          2, CPUID_EDX,  0},
    {"ipred_ctrl",         7,          2, CPUID_EDX,  1},
    {"rrsba_ctrl",         7,          2, CPUID_EDX,  2},
    {"ddpd_u",             7,          2, CPUID_EDX,  3},
    {"bhi_ctrl",           7,          2, CPUID_EDX,  4},
    {"mcdt_no",            7,          2, CPUID_EDX,  5},

    {"xsaveopt",           0xd,        1, CPUID_EAX,  0, 0, NEEDS("xsave")},
    {"xsavec",             0xd,        1, CPUID_EAX,  1, 0, NEEDS("xsave")},
    {"xgetbv1",            0xd,        1, CPUID_EAX,  2, 0, NEEDS("xsave")},
    {"xsaves",             0xd,        1, CPUID_EAX,  3, 0, NEEDS("xsavec")},

    {"kvm_clocksource",        0x40000001, 0, CPUID_EAX,  0, 1, SOFT, NEEDS("hypervisor")},
    {"kvm_nop_io_delay",       0x40000001, 0, CPUID_EAX,  1, 1, SOFT, NEEDS("hypervisor")},
    {"kvm_clocksource2",       0x40000001, 0, CPUID_EAX,  3, 1, SOFT, NEEDS("hypervisor")},
    {"kvm_pv_eoi",             0x40000001, 0, CPUID_EAX,  6, 1, SOFT, NEEDS("hypervisor", "apic")},
    {"kvm_pv_unhalt",          0x40000001, 0, CPUID_EAX,  7, 1, SOFT, NEEDS("hypervisor", "apic")},
    {"kvm_pv_send_ipi",        0x40000001, 0, CPUID_EAX, 11, 1, SOFT, NEEDS("hypervisor", "apic")},
    {"kvm_clocksource_stable", 0x40000001, 0, CPUID_EAX, 24, 1, SOFT, NEEDS("kvm_clocksource2")},

    {"lahf_lm",            0x80000001, 0, CPUID_ECX,  0, 2, NEEDS("lm")},
    {"cmp_legacy",         0x80000001, 0, CPUID_ECX,  1, 0, TOPOLOGY},
    {"svm",                0x80000001, 0, CPUID_ECX,  2},
    {"extapic",            0x80000001, 0, CPUID_ECX,  3, 0, NEEDS("apic")},
    {"cr8_legacy",         0x80000001, 0, CPUID_ECX,  4},
    {"abm",                0x80000001, 0, CPUID_ECX,  5, 3},
    {"sse4a",              0x80000001, 0, CPUID_ECX,  6, 0, NEEDS("pni")},
    {"misalignsse",        0x80000001, 0, CPUID_ECX,  7, 0, NEEDS("sse")},
    {"3dnowprefetch",      0x80000001, 0, CPUID_ECX,  8},
    {"osvw",               0x80000001, 0, CPUID_ECX,  9},
    {"xop",                0x80000001, 0, CPUID_ECX, 11, 0, NEEDS("avx")},
    {"fma4",               0x80000001, 0, CPUID_ECX, 16, 0, NEEDS("avx")},
    {"tbm",                0x80000001, 0, CPUID_ECX, 21},
    {"topoext",            0x80000001, 0, CPUID_ECX, 22},
    {"perfctr_core",       0x80000001, 0, CPUID_ECX, 23},
    {"syscall",            0x80000001, 0, CPUID_EDX, 11, 1},
    {"nx",                 0x80000001, 0, CPUID_EDX, 20, 1},
    {"mmxext",             0x80000001, 0, CPUID_EDX, 22, 0, NEEDS("mmx")},
    {"fxsr_opt",           0x80000001, 0, CPUID_EDX, 25, 0, NEEDS("fxsr")},
    {"pdpe1gb",            0x80000001, 0, CPUID_EDX, 26, 0, NEEDS("lm")},
    {"rdtscp",             0x80000001, 0, CPUID_EDX, 27, 0, NEEDS("tsc")},
    {"lm",                 0x80000001, 0, CPUID_EDX, 29, 1, ESSENTIAL, NEEDS("pae")},
    {"3dnowext",           0x80000001, 0, CPUID_EDX, 30, 0, NEEDS("3dnow")},
    {"3dnow",              0x80000001, 0, CPUID_EDX, 31, 0, NEEDS("mmx")},
    {"nonstop_tsc",        0x80000007, 0, CPUID_EDX,  8, 0, NEEDS("tsc")},
    {"clzero",             0x80000008, 0, CPUID_EBX,  0},
    {"xsaveerptr",         0x80000008, 0, CPUID_EBX,  2, 0, NEEDS("xsave")},
    {"wbnoinvd",           0x80000008, 0, CPUID_EBX,  9},
    {"ibpb",               0x80000008, 0, CPUID_EBX, 12},
    {"ibrs",               0x80000008, 0, CPUID_EBX, 14},
    {"amd_stibp",          0x80000008, 0, CPUID_EBX, 15},
    {"stibp_always_on",    0x80000008, 0, CPUID_EBX, 17},
    {"amd_ssbd",           0x80000008, 0, CPUID_EBX, 24},
    {"virt_ssbd",          0x80000008, 0, CPUID_EBX, 25},
    {"amd_ssb_no",         0x80000008, 0, CPUID_EBX, 26},
    {"amd_psfd",           0x80000008, 0, CPUID_EBX, 28},
    {"btc_no",             0x80000008, 0, CPUID_EBX, 29},
    {"ibpb_ret",           0x80000008, 0, CPUID_EBX, 30},
    {"no_nested_data_bp",  0x80000021, 0, CPUID_EAX,  0},
    {"lfence_rdtsc",       0x80000021, 0, CPUID_EAX,  2},
    {"null_sel_clr_base",  0x80000021, 0, CPUID_EAX,  6},
    {"autoibrs",           0x80000021, 0, CPUID_EAX,  8},
    {"sbpb",               0x80000021, 0, CPUID_EAX, 27},
    {"ibpb_brtype",        0x80000021, 0, CPUID_EAX, 28},
    {"srso_no",            0x80000021, 0, CPUID_EAX, 29},
};
// clang-format on
const unsigned cpu_features_count = sizeof(cpu_features) / sizeof(cpu_features[0]);
_Static_assert(sizeof(cpu_features) / sizeof(cpu_features[0]) <= CPU_FEATURES_MAX, "too many");

static const struct {
    const char *other, *name;
} spellings[] = {
    {"sse3", "pni"},
    {"sse4.1", "sse4_1"},
    {"sse4.2", "sse4_2"},
    {"cmpxchg16b", "cx16"},
    {"pclmul", "pclmulqdq"},
    {"lzcnt", "abm"},
    {"lahf", "lahf_lm"},
    {"sha", "sha_ni"},
    {"invtsc", "nonstop_tsc"},
    {"constant_tsc", "nonstop_tsc"},
    {"tsc_deadline", "tsc_deadline_timer"},
    {"kvmclock", "kvm_clocksource2"},
};

const struct cpu_word cpu_features_words[] = {
    {1, 0, CPUID_ECX, false},          {1, 0, CPUID_EDX, false},
    {6, 0, CPUID_EAX, true},           {7, 0, CPUID_EBX, false},
    {7, 0, CPUID_ECX, false},          {7, 0, CPUID_EDX, false},
    {7, 1, CPUID_EAX, false},          {7, 1, CPUID_ECX, false},
    {7, 1, CPUID_EDX, false},          {7, 2, CPUID_EDX, false},
    {0xd, 1, CPUID_EAX, false},        {0x40000001, 0, CPUID_EAX, true},
    {0x80000001, 0, CPUID_ECX, false}, {0x80000001, 0, CPUID_EDX, false},
    {0x80000007, 0, CPUID_EDX, true},  {0x80000008, 0, CPUID_EBX, false},
    {0x8000000a, 0, CPUID_EDX, false}, {0x80000021, 0, CPUID_EAX, false},
    {0x80000021, 0, CPUID_ECX, false},
};
const unsigned cpu_features_words_count =
    sizeof(cpu_features_words) / sizeof(cpu_features_words[0]);

static bool same(const char *known, const char *name, size_t len)
{
    return strlen(known) == len && memcmp(known, name, len) == 0;
}

int cpu_features_find(const char *name, size_t len)
{
    for (unsigned i = 0; i < sizeof(spellings) / sizeof(spellings[0]); i++) {
        if (same(spellings[i].other, name, len)) {
            name = spellings[i].name;
            len = strlen(name);
            break;
        }
    }
    for (unsigned i = 0; i < cpu_features_count; i++)
        if (same(cpu_features[i].name, name, len))
            return (int)i;
    return -1;
}

#define NEAR_MAX 32

/* Case and the sign between words are no difference. */
static char plain(char c)
{
    if (c >= 'A' && c <= 'Z')
        return (char)(c - 'A' + 'a');
    return (char)(c == '-' || c == '.' ? '_' : c);
}

/* Edit distance: how many letters to add, drop or change. Both have at most NEAR_MAX letters. */
static unsigned distance(const char *a, size_t alen, const char *b, size_t blen)
{
    uint8_t row[NEAR_MAX + 1];
    for (size_t j = 0; j <= blen; j++)
        row[j] = (uint8_t)j;
    for (size_t i = 1; i <= alen; i++) {
        uint8_t corner = row[0];
        row[0] = (uint8_t)i;
        for (size_t j = 1; j <= blen; j++) {
            uint8_t best = corner + (plain(a[i - 1]) != plain(b[j - 1]));
            corner = row[j];
            if (row[j] + 1 < best)
                best = row[j] + 1;
            if (row[j - 1] + 1 < best)
                best = row[j - 1] + 1;
            row[j] = best;
        }
    }
    return row[blen];
}

const char *cpu_features_nearest(const char *name, size_t len)
{
    const char *nearest = NULL;
    if (len == 0 || len > NEAR_MAX)
        return NULL;
    unsigned least = (unsigned)len / 3 + 2; /* farther than this is no slip of the hand */
    for (unsigned i = 0; i < cpu_features_count; i++) {
        const char *known = cpu_features[i].name;
        unsigned d = distance(name, len, known, strlen(known));
        if (d < least && d < len && !(cpu_features[i].flags & CPU_FEATURE_NEVER)) {
            least = d;
            nearest = known;
        }
    }
    return nearest;
}

const char *cpu_features_name(uint32_t leaf, uint32_t subleaf, enum cpuid_reg reg, unsigned bit)
{
    for (unsigned i = 0; i < cpu_features_count; i++) {
        const struct cpu_feature *f = &cpu_features[i];
        if (f->leaf == leaf && f->subleaf == subleaf && f->reg == reg && f->bit == bit)
            return f->name;
    }
    return NULL;
}

bool cpu_features_has(const struct cpuid_set *set, const struct cpu_feature *f)
{
    return cpuid_get(set, f->leaf, f->subleaf, f->reg) >> f->bit & 1;
}

bool cpu_features_usable(const struct cpuid_set *set, const struct cpu_feature *f)
{
    uint32_t components = cpuid_get(set, 0xd, 0, CPUID_EAX) | cpuid_get(set, 0xd, 1, CPUID_ECX);
    return cpu_features_has(set, f) && (components & f->xstate) == f->xstate;
}

static bool needs_any(const struct cpu_feature *f, const bool gone[CPU_FEATURES_MAX])
{
    for (unsigned n = 0; n < CPU_FEATURE_NEEDS && f->needs[n]; n++) {
        int i = cpu_features_find(f->needs[n], strlen(f->needs[n]));
        if (i >= 0 && gone[i])
            return true;
    }
    return false;
}

void cpu_features_add_dependants(bool gone[CPU_FEATURES_MAX])
{
    for (bool again = true; again;) {
        again = false;
        for (unsigned i = 0; i < cpu_features_count; i++) {
            if (!gone[i] && needs_any(&cpu_features[i], gone))
                gone[i] = again = true;
        }
    }
}
