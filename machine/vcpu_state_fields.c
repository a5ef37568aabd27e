/* What of a vCPU is saved: the tables behind vcpu_state.h, over KVM's own structs. */
#include "machine/vcpu_state.h"

// clang-format off
static const struct field regs[] = {
    FIELD(1, struct kvm_regs, rax),  FIELD(2, struct kvm_regs, rbx),  FIELD(3, struct kvm_regs, rcx),
    FIELD(4, struct kvm_regs, rdx),  FIELD(5, struct kvm_regs, rsi),  FIELD(6, struct kvm_regs, rdi),
    FIELD(7, struct kvm_regs, rsp),  FIELD(8, struct kvm_regs, rbp),  FIELD(9, struct kvm_regs, r8),
    FIELD(10, struct kvm_regs, r9),  FIELD(11, struct kvm_regs, r10), FIELD(12, struct kvm_regs, r11),
    FIELD(13, struct kvm_regs, r12), FIELD(14, struct kvm_regs, r13), FIELD(15, struct kvm_regs, r14),
    FIELD(16, struct kvm_regs, r15), FIELD(17, struct kvm_regs, rip), FIELD(18, struct kvm_regs, rflags),
    FIELD_END,
};

static const struct field segment[] = {
    FIELD(1, struct kvm_segment, base),
    FIELD(2, struct kvm_segment, limit),
    FIELD(3, struct kvm_segment, selector),
    FIELD(4, struct kvm_segment, type),
    FIELD(5, struct kvm_segment, present),
    FIELD(6, struct kvm_segment, dpl),
    FIELD(7, struct kvm_segment, db),
    FIELD(8, struct kvm_segment, s),
    FIELD(9, struct kvm_segment, l),
    FIELD(10, struct kvm_segment, g),
    FIELD(11, struct kvm_segment, avl),
    FIELD(12, struct kvm_segment, unusable),
    FIELD_END,
};

static const struct field table[] = {
    FIELD(1, struct kvm_dtable, base),
    FIELD(2, struct kvm_dtable, limit),
    FIELD_END,
};

static const struct field sregs[] = {
    FIELD_STRUCT(1, struct kvm_sregs2, cs, segment),
    FIELD_STRUCT(2, struct kvm_sregs2, ds, segment),
    FIELD_STRUCT(3, struct kvm_sregs2, es, segment),
    FIELD_STRUCT(4, struct kvm_sregs2, fs, segment),
    FIELD_STRUCT(5, struct kvm_sregs2, gs, segment),
    FIELD_STRUCT(6, struct kvm_sregs2, ss, segment),
    FIELD_STRUCT(7, struct kvm_sregs2, tr, segment),
    FIELD_STRUCT(8, struct kvm_sregs2, ldt, segment),
    FIELD_STRUCT(9, struct kvm_sregs2, gdt, table),
    FIELD_STRUCT(10, struct kvm_sregs2, idt, table),
    FIELD(11, struct kvm_sregs2, cr0),
    FIELD(12, struct kvm_sregs2, cr2),
    FIELD(13, struct kvm_sregs2, cr3),
    FIELD(14, struct kvm_sregs2, cr4),
    FIELD(15, struct kvm_sregs2, cr8),
    FIELD(16, struct kvm_sregs2, efer),
    FIELD(17, struct kvm_sregs2, apic_base),
    FIELD(18, struct kvm_sregs2, flags),
    FIELD_ARRAY(19, struct kvm_sregs2, pdptrs),
    FIELD_END,
};

static const struct field xcr[] = {
    FIELD(1, struct kvm_xcr, xcr),
    FIELD(2, struct kvm_xcr, value),
    FIELD_END,
};

static const struct field xcrs[] = {
    FIELD(1, struct kvm_xcrs, flags),
    FIELD_STRUCTS_USED(2, struct kvm_xcrs, xcrs, nr_xcrs, xcr),
    FIELD_END,
};

static const struct field debugregs[] = {
    FIELD_ARRAY(1, struct kvm_debugregs, db),
    FIELD(2, struct kvm_debugregs, dr6),
    FIELD(3, struct kvm_debugregs, dr7),
    FIELD(4, struct kvm_debugregs, flags),
    FIELD_END,
};

static const struct field lapic[] = {
    FIELD_ARRAY(1, struct kvm_lapic_state, regs),
    FIELD_END,
};

static const struct field leaf[] = {
    FIELD(1, struct kvm_cpuid_entry2, function),
    FIELD(2, struct kvm_cpuid_entry2, index),
    FIELD(3, struct kvm_cpuid_entry2, flags),
    FIELD(4, struct kvm_cpuid_entry2, eax),
    FIELD(5, struct kvm_cpuid_entry2, ebx),
    FIELD(6, struct kvm_cpuid_entry2, ecx),
    FIELD(7, struct kvm_cpuid_entry2, edx),
    FIELD_END,
};

static const struct field cpuid[] = {
    FIELD_STRUCTS_USED(1, struct cpuid_set, entries, count, leaf),
    FIELD_END,
};

static const struct field msr[] = {
    FIELD(1, struct msr, index),
    FIELD(2, struct msr, value),
    FIELD_END,
};

static const struct field msrs[] = {
    FIELD_STRUCTS_USED(1, struct msrs, list, count, msr),
    FIELD_END,
};

static const struct field events[] = {
    FIELD(1, struct kvm_vcpu_events, exception.injected),
    FIELD(2, struct kvm_vcpu_events, exception.nr),
    FIELD(3, struct kvm_vcpu_events, exception.has_error_code),
    FIELD(4, struct kvm_vcpu_events, exception.pending),
    FIELD(5, struct kvm_vcpu_events, exception.error_code),
    FIELD(6, struct kvm_vcpu_events, interrupt.injected),
    FIELD(7, struct kvm_vcpu_events, interrupt.nr),
    FIELD(8, struct kvm_vcpu_events, interrupt.soft),
    FIELD(9, struct kvm_vcpu_events, interrupt.shadow),
    FIELD(10, struct kvm_vcpu_events, nmi.injected),
    FIELD(11, struct kvm_vcpu_events, nmi.pending),
    FIELD(12, struct kvm_vcpu_events, nmi.masked),
    FIELD(13, struct kvm_vcpu_events, sipi_vector),
    FIELD(14, struct kvm_vcpu_events, flags),
    FIELD(15, struct kvm_vcpu_events, smi.smm),
    FIELD(16, struct kvm_vcpu_events, smi.pending),
    FIELD(17, struct kvm_vcpu_events, smi.smm_inside_nmi),
    FIELD(18, struct kvm_vcpu_events, smi.latched_init),
    FIELD(19, struct kvm_vcpu_events, triple_fault.pending),
    FIELD(20, struct kvm_vcpu_events, exception_has_payload),
    FIELD(21, struct kvm_vcpu_events, exception_payload),
    FIELD_END,
};

static const struct field fields[] = {
    FIELD(1, struct vcpu_state, mp_state),
    FIELD_STRUCT(2, struct vcpu_state, regs, regs),
    FIELD_STRUCT(3, struct vcpu_state, sregs, sregs),
    FIELD_USED(4, struct vcpu_state, xsave, xsave_words),
    FIELD_STRUCT(5, struct vcpu_state, xcrs, xcrs),
    FIELD_STRUCT(6, struct vcpu_state, debugregs, debugregs),
    FIELD_STRUCT(7, struct vcpu_state, lapic, lapic),
    FIELD_STRUCT(8, struct vcpu_state, cpuid, cpuid),
    FIELD_STRUCT(9, struct vcpu_state, msrs, msrs),
    FIELD(10, struct vcpu_state, tsc_deadline),
    FIELD(11, struct vcpu_state, tsc_khz),
    FIELD(12, struct vcpu_state, has_tsc_offset),
    FIELD(13, struct vcpu_state, tsc_offset),
    FIELD_USED(14, struct vcpu_state, nested, nested_bytes),
    FIELD_STRUCT(15, struct vcpu_state, events, events),
    FIELD_END,
};
// clang-format on

const struct state_desc vcpu_state_desc = {
    .name = "vcpu",
    .version = 1,
    .min_version = 1,
    .fields = fields,
};
