/* See vcpu_state.h. */
#include "machine/vcpu_state.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <x86intrin.h>

#include "machine/vcpu_timer.h"

#define NESTED_HEAD_BYTES 128u
#define CAP_APIC_BUS_CYCLES_NS                                                                     \
    237 /* KVM_CAP_X86_APIC_BUS_CYCLES_NS, since kernel 6.10; 1 before                             \
         */

static int check(int rc, const struct vcpu *v, const char *what, struct err *err)
{
    return rc < 0 ? err_sys(err, -rc, "vCPU %u: KVM refuses %s", v->index, what) : 0;
}

static int has_cap(const struct vcpu *v, long cap)
{
    int rc = ioctl(v->env->vm->fd, KVM_CHECK_EXTENSION, cap);
    return rc > 0 ? rc : 0;
}

/* Kernels before 5.11 have only the older form, which lacks flags and PDPTRs. */
static int get_sregs(struct vcpu *v, struct kvm_sregs2 *to)
{
    struct kvm_sregs old;
    if (has_cap(v, KVM_CAP_SREGS2))
        return kvm_ioctl(v->fd, KVM_GET_SREGS2, to);
    int rc = kvm_ioctl(v->fd, KVM_GET_SREGS, &old);
    memset(to, 0, sizeof(*to));
    memcpy(to, &old, offsetof(struct kvm_sregs2, flags)); /* the same up to there, by the ABI */
    return rc;
}

static int set_sregs(struct vcpu *v, const struct kvm_sregs2 *from)
{
    struct kvm_sregs old = {0};
    struct kvm_sregs2 all = *from;
    if (has_cap(v, KVM_CAP_SREGS2))
        return kvm_ioctl(v->fd, KVM_SET_SREGS2, &all);
    memcpy(&old, from, offsetof(struct kvm_sregs2, flags));
    return kvm_ioctl(v->fd, KVM_SET_SREGS, &old);
}

_Static_assert(offsetof(struct kvm_sregs2, flags) == offsetof(struct kvm_sregs, interrupt_bitmap),
               "sregs and sregs2 begin alike");

static int get_xsave(struct vcpu *v, struct vcpu_state *s, struct err *err)
{
    int bytes = has_cap(v, KVM_CAP_XSAVE2);
    if (bytes > (int)sizeof(s->xsave))
        return err_set(err, EOVERFLOW, "vCPU %u: KVM's XSAVE area of %d bytes is too large",
                       v->index, bytes);
    s->xsave_words = (bytes ? (uint32_t)bytes : (uint32_t)sizeof(struct kvm_xsave)) / 4;
    return check(kvm_ioctl(v->fd, bytes ? KVM_GET_XSAVE2 : KVM_GET_XSAVE, s->xsave), v,
                 "to give its XSAVE area", err);
}

/* The offset of the guest's TSC to the host's, where KVM tells it. */
static int tsc_offset(struct vcpu *v, unsigned long request, uint64_t *offset)
{
    struct kvm_device_attr attr = {
        .group = KVM_VCPU_TSC_CTRL, .attr = KVM_VCPU_TSC_OFFSET, .addr = (uintptr_t)offset};
    return kvm_ioctl(v->fd, request, &attr);
}

static int get_nested(struct vcpu *v, struct vcpu_state *s, struct err *err)
{
    struct kvm_nested_state *nested = (struct kvm_nested_state *)s->nested;
    int max = has_cap(v, KVM_CAP_NESTED_STATE);
    s->nested_bytes = 0;
    if (max == 0)
        return 0;
    if (max > (int)sizeof(s->nested))
        return err_set(err, EOVERFLOW, "vCPU %u: KVM's nested state of %d bytes is too large",
                       v->index, max);
    nested->size = (uint32_t)max;
    int rc =
        check(kvm_ioctl(v->fd, KVM_GET_NESTED_STATE, nested), v, "to give its nested state", err);
    if (rc == 0)
        s->nested_bytes = nested->size;
    return rc;
}

static int set_nested(struct vcpu *v, const struct vcpu_state *s, struct err *err)
{
    uint64_t copy[VCPU_NESTED_BYTES / 8] = {0};
    struct kvm_nested_state *nested = (struct kvm_nested_state *)copy;
    if (s->nested_bytes == 0)
        return 0;
    memcpy(copy, s->nested, s->nested_bytes);
    if (s->nested_bytes < NESTED_HEAD_BYTES || nested->size != s->nested_bytes)
        return err_set(err, EBADMSG, "vCPU %u: the size of the nested state makes no sense",
                       v->index);
    return check(kvm_ioctl(v->fd, KVM_SET_NESTED_STATE, copy), v, "the nested state", err);
}

/* Timers before all, for what they still owe changes the rest. MP_STATE then: reading it makes KVM
 * take a waiting INIT or SIPI, which changes the registers. Events last: the reads before may still
 * queue some. */
int vcpu_state_save(struct vcpu *v, struct vcpu_state *s, struct err *err)
{
    struct kvm_mp_state mp = {0};
    struct vcpu_timer timer;
    s->cpuid.count = v->cpuid.count;
    memcpy(s->cpuid.entries, v->cpuid.entries, v->cpuid.count * sizeof(v->cpuid.entries[0]));
    int rc = vcpu_timer_begin(v, &timer, err);
    if (rc == 0)
        rc = check(kvm_ioctl(v->fd, KVM_GET_MP_STATE, &mp), v, "to give its MP state", err);
    s->mp_state = mp.mp_state;
    if (rc == 0)
        rc = check(kvm_ioctl(v->fd, KVM_GET_REGS, &s->regs), v, "to give its registers", err);
    if (rc == 0)
        rc = check(get_sregs(v, &s->sregs), v, "to give its system registers", err);
    if (rc == 0)
        rc = get_xsave(v, s, err);
    if (rc == 0)
        rc = check(kvm_ioctl(v->fd, KVM_GET_XCRS, &s->xcrs), v, "to give its XCRs", err);
    if (rc == 0)
        rc = check(kvm_ioctl(v->fd, KVM_GET_DEBUGREGS, &s->debugregs), v,
                   "to give its debug registers", err);
    if (rc == 0)
        rc = check(kvm_ioctl(v->fd, KVM_GET_LAPIC, &s->lapic), v, "to give its LAPIC", err);
    if (rc == 0)
        rc = msrs_save(v->fd, v->env->msrs, &s->msrs, err);
    if (rc == 0)
        rc = get_nested(v, s, err);
    if (rc < 0)
        return rc;
    s->tsc_deadline = vcpu_timer_deadline(v, &s->lapic);
    s->tsc_khz = v->tsc_khz;
    s->has_tsc_offset = tsc_offset(v, KVM_GET_DEVICE_ATTR, &s->tsc_offset) == 0;
    rc = check(kvm_ioctl(v->fd, KVM_GET_VCPU_EVENTS, &s->events), v, "to give its events", err);
    vcpu_timer_settle(&timer, &s->events, &s->lapic, &s->tsc_deadline);
    return rc;
}

/* A guest's clock must not run at another rate unseen: 250 ppm is what NTP tolerates. */
static int set_tsc_khz(struct vcpu *v, const struct vcpu_state *s, struct err *err)
{
    if (v->tsc_khz == 0 || s->tsc_khz == 0 || clock_same_rate(s->tsc_khz, v->tsc_khz))
        return 0;
    if (!has_cap(v, KVM_CAP_TSC_CONTROL))
        return err_set(err, ENOTSUP,
                       "vCPU %u: the guest's TSC runs at %u kHz, the host's at %u, and this host "
                       "cannot scale it",
                       v->index, s->tsc_khz, v->tsc_khz);
    int rc = check(kvm_ioctl(v->fd, KVM_SET_TSC_KHZ, (void *)(uintptr_t)s->tsc_khz), v,
                   "the guest's TSC rate", err);
    if (rc == 0)
        v->tsc_khz = s->tsc_khz;
    return rc;
}

static int set_xsave(struct vcpu *v, const struct vcpu_state *s, struct err *err)
{
    uint32_t words = (uint32_t)sizeof(struct kvm_xsave) / 4;
    int bytes = has_cap(v, KVM_CAP_XSAVE2);
    if (bytes)
        words = (uint32_t)bytes / 4;
    if (s->xsave_words > words &&
        memcmp(&s->xsave[words - 1], &s->xsave[words], (s->xsave_words - words) * 4) != 0)
        return err_set(err, ENOTSUP,
                       "vCPU %u: the saved XSAVE area has %u bytes, this host's only %u", v->index,
                       s->xsave_words * 4, words * 4);
    return check(kvm_ioctl(v->fd, KVM_SET_XSAVE, (void *)(uintptr_t)s->xsave), v,
                 "the saved XSAVE area", err);
}

/*
 * CPUID decides which of the rest is legal, so it is first. SREGS before NESTED_STATE (which checks
 * them) and before LAPIC (they hold its base); feature MSRs before both, as they are fixed once VMX
 * is on. REGS before EVENTS: setting registers drops pending exceptions.
 */
int vcpu_state_load(struct vcpu *v, const struct vcpu_state *s, uint64_t passed_ns, struct err *err)
{
    struct kvm_mp_state mp = {.mp_state = s->mp_state};
    struct kvm_regs regs = s->regs;
    struct kvm_xcrs xcrs = s->xcrs;
    struct kvm_lapic_state lapic = s->lapic;
    struct kvm_vcpu_events events = s->events;
    struct kvm_debugregs debugregs = s->debugregs;
    int cycle_ns = has_cap(v, CAP_APIC_BUS_CYCLES_NS);
    vcpu_timer_advance(&lapic, passed_ns, cycle_ns > 0 ? (uint32_t)cycle_ns : 1);
    int rc = vcpu_set_cpuid(v, &s->cpuid, err);
    if (rc == 0)
        rc = set_tsc_khz(v, s, err);
    if (rc == 0)
        rc = msrs_load_features(v->fd, &s->msrs, err);
    if (rc == 0)
        rc = check(set_sregs(v, &s->sregs), v, "the saved system registers", err);
    if (rc == 0)
        rc = set_nested(v, s, err);
    if (rc == 0)
        rc = check(kvm_ioctl(v->fd, KVM_SET_REGS, &regs), v, "the saved registers", err);
    if (rc == 0)
        rc = set_xsave(v, s, err);
    if (rc == 0)
        rc = check(kvm_ioctl(v->fd, KVM_SET_XCRS, &xcrs), v, "the saved XCRs", err);
    if (rc == 0)
        rc = check(kvm_ioctl(v->fd, KVM_SET_LAPIC, &lapic), v, "the saved LAPIC", err);
    if (rc == 0)
        rc = msrs_load(v->fd, &s->msrs, err);
    if (rc == 0)
        rc = check(kvm_ioctl(v->fd, KVM_SET_VCPU_EVENTS, &events), v, "the saved events", err);
    if (rc == 0)
        rc = check(kvm_ioctl(v->fd, KVM_SET_MP_STATE, &mp), v, "the saved MP state", err);
    if (rc == 0)
        rc = check(kvm_ioctl(v->fd, KVM_SET_DEBUGREGS, &debugregs), v, "the saved debug registers",
                   err);
    return rc;
}

/* Whether the guest's TSC is the host's own. */
static bool has_tsc_of_host(struct vcpu *v)
{
    uint64_t value = 0, before = __rdtsc();
    int rc = msrs_get(v->fd, MSR_TSC, &value);
    return rc == 0 && value >= before && value <= __rdtsc();
}

/* A KVM may take an offset and not heed it: what counts is what it gives back. */
static enum clock_tsc set_tsc(struct vcpu *v, uint64_t offset)
{
    uint64_t kept = ~offset;
    if (tsc_offset(v, KVM_SET_DEVICE_ATTR, &offset) == 0 &&
        tsc_offset(v, KVM_GET_DEVICE_ATTR, &kept) == 0 && kept == offset && offset != 0)
        return CLOCK_TSC_BY_OFFSET;
    return has_tsc_of_host(v) ? CLOCK_TSC_OF_HOST : CLOCK_TSC_BY_VALUE;
}

/* A deadline that lies in the past fires at once: late, where never would be worse. 0 is a timer
 * that is not armed; vcpu_timer.c saw to it that no interrupt was lost by it. */
int vcpu_state_load_time(struct vcpu *v, const struct vcpu_state *s, const uint64_t *offset,
                         enum clock_tsc *way, struct err *err)
{
    if (offset)
        *way = set_tsc(v, *offset);
    else
        *way = has_tsc_of_host(v) ? CLOCK_TSC_OF_HOST : CLOCK_TSC_BY_VALUE;
    if (s->tsc_deadline == 0)
        return 0;
    return check(msrs_set(v->fd, MSR_TSC_DEADLINE, s->tsc_deadline), v, "the TSC deadline", err);
}
