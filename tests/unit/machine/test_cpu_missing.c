/* What one CPU lacks of another, named for the operator. */
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

static void build(const char *profile, const struct cpuid_set *from, struct cpuid_set *out)
{
    struct err err = {0};
    if (cpu_profile_build(profile, from, out, &err) < 0)
        fail_msg("%s: %s", profile ? profile : "(none)", err.text);
}

static void test_missing(void **state)
{
    struct cpuid_set need, have = intel;
    char names[200];
    build("host", &intel, &need);
    cpu_profile_set_cpu(&need, 1, 4); /* topology and KVM's own bits are no feature of a host */
    assert_int_equal(cpu_profile_missing(&need, &have, names, sizeof(names)), 0);
    assert_string_equal(names, "");
    cpuid_patch(&have, 7, 0, CPUID_EBX, 1u << 4 | 1u << 11, 0);
    cpuid_patch(&have, 7, 0, CPUID_EDX, 1u << 10, 0);
    assert_int_equal(cpu_profile_missing(&need, &have, names, sizeof(names)), 3);
    assert_string_equal(names, "hle, rtm, md_clear");
    cpuid_patch(&need, 7, 1, CPUID_ECX, 0, 1u << 9); /* no such leaf: nothing */
    cpuid_patch(&need, 7, 0, CPUID_EDX, 0, 1u << 9);
    assert_int_equal(cpu_profile_missing(&need, &have, names, sizeof(names)), 4);
    assert_string_equal(names, "hle, rtm, cpuid 0x7.0 edx bit 9, md_clear");
}

static void test_missing_state_and_addresses(void **state)
{
    struct cpuid_set need, have = intel;
    char names[200];
    build("v4", &intel, &need);
    assert_int_equal(cpu_profile_missing(&need, &have, names, sizeof(names)), 0);
    cpuid_patch(&have, 0xd, 5, CPUID_EBX, ~0u, 0x340);
    cpuid_patch(&have, 0xd, 0, CPUID_EAX, 1u << 7, 0);
    cpuid_patch(&have, 0x80000008, 0, CPUID_EAX, 0xff, 39);
    cpu_profile_missing(&need, &have, names, sizeof(names));
    assert_string_equal(names, "xsave component 5 in its place, xsave component 7, "
                               "46 physical address bits");
}

static void test_missing_on_another_vendor(void **state)
{
    struct cpuid_set need;
    char names[200];
    build("v3", &amd, &need);
    assert_int_equal(cpu_profile_missing(&need, &intel, names, sizeof(names)), 1);
    assert_string_equal(names, "vendor AuthenticAMD");
    cpuid_patch(&need, 0, 0, CPUID_EBX, ~0u, 0x0a1b0007);
    cpu_profile_missing(&need, &intel, names, sizeof(names));
    assert_string_equal(names, "vendor ????enticAMD");
}

static void test_missing_is_cut_to_the_room(void **state)
{
    char names[64];
    memset(names, 'x', sizeof(names));
    size_t count = cpu_profile_missing(&intel, &amd, names, sizeof(names));
    assert_true(count > 20 && strlen(names) < sizeof(names));
    const char *tail = strstr(names, " and ");
    unsigned more = 0, shown = 1;
    assert_non_null(tail);
    assert_int_equal(sscanf(tail, " and %u more", &more), 1);
    for (const char *c = names; c < tail; c++)
        shown += *c == ',';
    assert_int_equal(shown + more, count);
    assert_int_equal(cpu_profile_missing(&intel, &amd, NULL, 0), count);
    char tiny[4];
    assert_int_equal(cpu_profile_missing(&intel, &amd, tiny, sizeof(tiny)), count);
    assert_true(strlen(tiny) < sizeof(tiny));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_missing),
        cmocka_unit_test(test_missing_state_and_addresses),
        cmocka_unit_test(test_missing_on_another_vendor),
        cmocka_unit_test(test_missing_is_cut_to_the_room),
    };
    return cmocka_run_group_tests(tests, setup, NULL);
}
