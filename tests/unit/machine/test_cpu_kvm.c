/* The judge of a CPU profile is KVM: it takes the leaves on a real vCPU, or says no. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "machine/cpu_features.h"
#include "machine/cpu_profile.h"

struct host {
    int kvm, vm, vcpu;
    struct cpuid_set supported;
};

static struct host host = {.kvm = -1, .vm = -1, .vcpu = -1};

static int setup(void **state)
{
    struct err err;
    host.kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
    if (host.kvm < 0)
        return 0;
    host.vm = ioctl(host.kvm, KVM_CREATE_VM, 0);
    if (host.vm < 0 || ioctl(host.vm, KVM_CREATE_IRQCHIP, 0) < 0)
        return -1;
    host.vcpu = ioctl(host.vm, KVM_CREATE_VCPU, 3);
    return host.vcpu < 0 || cpuid_supported(host.kvm, &host.supported, &err) < 0 ? -1 : 0;
}

static int teardown(void **state)
{
    clean_fd(&host.vcpu);
    clean_fd(&host.vm);
    clean_fd(&host.kvm);
    return 0;
}

static void need_kvm(void)
{
    if (host.kvm < 0) {
        print_message("/dev/kvm cannot be opened\n");
        skip();
    }
}

static int give(const struct cpuid_set *set)
{
    size_t bytes = set->count * sizeof(set->entries[0]);
    CLEAN(clean_free) struct kvm_cpuid2 *list = calloc(1, sizeof(*list) + bytes);
    assert_non_null(list);
    list->nent = set->count;
    memcpy(list->entries, set->entries, bytes);
    return ioctl(host.vcpu, KVM_SET_CPUID2, list) < 0 ? -errno : 0;
}

static void take(struct cpuid_set *set)
{
    size_t bytes = CPUID_ENTRIES_MAX * sizeof(set->entries[0]);
    CLEAN(clean_free) struct kvm_cpuid2 *list = calloc(1, sizeof(*list) + bytes);
    assert_non_null(list);
    list->nent = CPUID_ENTRIES_MAX;
    assert_int_equal(ioctl(host.vcpu, KVM_GET_CPUID2, list), 0);
    *set = (struct cpuid_set){.count = list->nent};
    memcpy(set->entries, list->entries, list->nent * sizeof(set->entries[0]));
}

/* A paravirtual KVM runs guest code natively, so it cannot hide the CPU's own feature bits, and
 * says so in leaves 1 and 7. */
static bool shows_native_bits(const struct cpuid_set *given, const struct cpuid_set *taken)
{
    uint32_t more = cpuid_get(taken, 1, 0, CPUID_ECX) & ~cpuid_get(given, 1, 0, CPUID_ECX);
    return more & ~(1u << 27); /* osxsave follows CR4 */
}

/* KVM changes what follows the guest's own registers, and nothing else. */
static void check_taken(const struct cpuid_set *given)
{
    struct cpuid_set taken;
    take(&taken);
    bool native = shows_native_bits(given, &taken);
    if (native)
        print_message("this KVM shows the CPU's own bits in leaves 1, 7 and 0xd\n");
    else
        assert_int_equal(taken.count, given->count);
    for (uint32_t i = 0; i < given->count; i++) {
        const struct kvm_cpuid_entry2 *g = &given->entries[i];
        const struct kvm_cpuid_entry2 *t = cpuid_look(&taken, g->function, g->index);
        assert_non_null(t);
        if (native && (g->function == 1 || g->function == 7 || g->function == 0xd))
            continue;
        assert_int_equal(g->eax, t->eax);
        if (g->function != 0xd) /* sizes follow XCR0 */
            assert_int_equal(g->ebx, t->ebx);
        assert_int_equal(g->ecx, t->ecx);
        if (g->function != 1) /* apic follows the APIC base */
            assert_int_equal(g->edx, t->edx);
    }
}

static void test_kvm_reports_a_usable_cpu(void **state)
{
    need_kvm();
    static const char *const always[] = {"fpu", "lm", "nx", "sse2", "hypervisor", "arat"};
    for (unsigned i = 0; i < sizeof(always) / sizeof(always[0]); i++) {
        int f = cpu_features_find(always[i], strlen(always[i]));
        assert_true(cpu_features_has(&host.supported, &cpu_features[f]));
    }
    bool deadline = ioctl(host.kvm, KVM_CHECK_EXTENSION, KVM_CAP_TSC_DEADLINE_TIMER) > 0;
    assert_true(!deadline || cpuid_get(&host.supported, 1, 0, CPUID_ECX) & 1u << 24);
    for (uint32_t i = 1; i < host.supported.count; i++) {
        const struct kvm_cpuid_entry2 *a = &host.supported.entries[i - 1], *b = a + 1;
        assert_true(a->function < b->function ||
                    (a->function == b->function && a->index < b->index));
    }
}

static void accept_or_name(const char *profile, bool must)
{
    struct cpuid_set set;
    struct err err = {0};
    char names[200];
    int rc = cpu_profile_build(profile, &host.supported, &set, &err);
    if (rc < 0) {
        assert_false(must);
        assert_int_equal(rc, -ENOTSUP);
        assert_non_null(strstr(err.text, "this host does not offer: "));
        print_message("%s\n", err.text);
        return;
    }
    if (cpu_profile_missing(&set, &host.supported, names, sizeof(names)) != 0)
        fail_msg("%s: the host it was made on lacks %s", profile, names);
    assert_int_equal(cpu_profile_set_tsc(&set, 2000000), 0);
    cpu_profile_set_cpu(&set, 3, 6);
    assert_int_equal(give(&set), 0);
    check_taken(&set);
}

static void test_kvm_takes_the_profiles(void **state)
{
    need_kvm();
    accept_or_name("host", true);
    accept_or_name("v1", true);
    accept_or_name("v2", false);
    accept_or_name("v3", false);
    accept_or_name("v4", false);
    accept_or_name("host,-hypervisor", true);
    accept_or_name("host,-xsave", true);
    accept_or_name("host,-avx512f,-pku", true);
    accept_or_name("v1,-sse2", true);
}

static void test_kvm_takes_host_without_any_one_feature(void **state)
{
    need_kvm();
    unsigned taken = 0;
    for (unsigned i = 0; i < cpu_features_count; i++) {
        const struct cpu_feature *f = &cpu_features[i];
        char profile[64];
        struct cpuid_set set;
        struct err err;
        snprintf(profile, sizeof(profile), "host,-%s", f->name);
        if (!cpu_features_has(&host.supported, f) ||
            cpu_profile_build(profile, &host.supported, &set, &err) < 0)
            continue;
        cpu_profile_set_cpu(&set, 3, 4);
        assert_int_equal(give(&set), 0);
        assert_false(cpu_features_has(&set, f));
        taken++;
    }
    assert_true(taken > 20);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_kvm_reports_a_usable_cpu),
        cmocka_unit_test(test_kvm_takes_the_profiles),
        cmocka_unit_test(test_kvm_takes_host_without_any_one_feature),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
