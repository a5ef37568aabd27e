/* See report.h. */
#include "machine/report.h"

#include <inttypes.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <string.h>

#include "machine/kvm.h"
#include "machine/walk.h"

static void copy_regs(struct report_cpu *c, const struct kvm_regs *r)
{
    const uint64_t gpr[16] = {r->rax, r->rbx, r->rcx, r->rdx, r->rsi, r->rdi, r->rsp, r->rbp,
                              r->r8,  r->r9,  r->r10, r->r11, r->r12, r->r13, r->r14, r->r15};
    memcpy(c->gpr, gpr, sizeof(gpr));
    c->rip = r->rip;
    c->rflags = r->rflags;
}

static void copy_sregs(struct report_cpu *c, const struct kvm_sregs *s)
{
    c->cr0 = s->cr0;
    c->cr2 = s->cr2;
    c->cr3 = s->cr3;
    c->cr4 = s->cr4;
    c->efer = s->efer;
    c->cs = s->cs.selector;
    c->ss = s->ss.selector;
}

void report_cpu(struct report *r, int vcpu_fd, unsigned cpu, const struct mem *mem)
{
    struct kvm_regs regs;
    struct kvm_sregs sregs;
    struct report_cpu *c = &r->cpu;
    if (kvm_ioctl(vcpu_fd, KVM_GET_REGS, &regs) < 0 ||
        kvm_ioctl(vcpu_fd, KVM_GET_SREGS, &sregs) < 0)
        return;
    r->has_cpu = true;
    c->cpu = cpu;
    copy_regs(c, &regs);
    copy_sregs(c, &sregs);
    struct walk_mode mode = {
        .cr0 = sregs.cr0, .cr3 = sregs.cr3, .cr4 = sregs.cr4, .efer = sregs.efer};
    uint64_t base = sregs.cs.l ? 0 : sregs.cs.base;
    c->code_len = (unsigned)walk_read(mem, &mode, base + regs.rip, c->code, REPORT_CODE_MAX);
}

static const char *suberror_name(uint32_t suberror)
{
    switch (suberror) {
    case KVM_INTERNAL_ERROR_EMULATION:
        return "KVM cannot emulate the instruction";
    case KVM_INTERNAL_ERROR_SIMUL_EX:
        return "an exception came while another was delivered";
    case KVM_INTERNAL_ERROR_DELIVERY_EV:
        return "KVM met an exit while it delivered an event";
    case KVM_INTERNAL_ERROR_UNEXPECTED_EXIT_REASON:
        return "KVM met an exit of the processor that it does not know";
    default:
        return "of a kind that is not documented";
    }
}

static void internal_error(struct report *r, const struct kvm_run *run)
{
    r->kind = REPORT_INTERNAL_ERROR;
    r->cpu.suberror = run->internal.suberror;
    r->cpu.ndata = run->internal.ndata < REPORT_DATA_MAX ? run->internal.ndata : REPORT_DATA_MAX;
    for (unsigned i = 0; i < r->cpu.ndata; i++)
        r->cpu.data[i] = run->internal.data[i];
    snprintf(r->text, sizeof(r->text), "KVM internal error %u: %s", run->internal.suberror,
             suberror_name(run->internal.suberror));
}

void report_exit(struct report *r, const struct kvm_run *run)
{
    switch (run->exit_reason) {
    case KVM_EXIT_SHUTDOWN:
        r->kind = REPORT_TRIPLE_FAULT;
        snprintf(r->text, sizeof(r->text), "triple fault");
        break;
    case KVM_EXIT_INTERNAL_ERROR:
        internal_error(r, run);
        break;
    case KVM_EXIT_FAIL_ENTRY:
        r->kind = REPORT_FAIL_ENTRY;
        snprintf(r->text, sizeof(r->text),
                 "the processor refuses the guest's state (reason 0x%llx)",
                 run->fail_entry.hardware_entry_failure_reason);
        break;
    default:
        r->kind = REPORT_INTERNAL_ERROR;
        snprintf(r->text, sizeof(r->text), "KVM stopped the guest with exit %u", run->exit_reason);
        break;
    }
}
