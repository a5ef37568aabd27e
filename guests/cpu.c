/* One CPU: what it asks of CPL 0, and what it says when an exception ends it. */
#include "guest.h"

extern unsigned char cpu_blocks[];

struct frame {
    uint64_t r15, r14, r13, r12, r11, r10, r9, r8, rbp, rdi, rsi, rbx, rcx, rdx, rax;
    uint64_t vector, error, rip, cs, rflags, rsp, ss;
};

_Static_assert(offsetof(struct cpu, irqs) == CPU_IRQS, "layout.h");
_Static_assert(offsetof(struct cpu, recover_rip) == CPU_RECOVER_RIP, "layout.h");
_Static_assert(offsetof(struct cpu, recover_rsp) == CPU_RECOVER_RSP, "layout.h");

struct cpu *cpu_at(unsigned index)
{
    return (struct cpu *)(cpu_blocks + (size_t)index * BLOCK_SIZE);
}

struct cpu *cpu_self(void)
{
    uintptr_t sp = (uintptr_t)__builtin_frame_address(0);

    return (struct cpu *)(sp & ~(uintptr_t)(BLOCK_SIZE - 1));
}

int cpu_rdmsr(uint32_t msr, uint64_t *value)
{
    return gate(GATE_RDMSR, msr, 0, value);
}

int cpu_wrmsr(uint32_t msr, uint64_t value)
{
    return gate(GATE_WRMSR, msr, value, NULL);
}

uint64_t cpu_read_cr(unsigned nr)
{
    uint64_t v = 0;

    gate(GATE_READ_REG, nr, 0, &v);
    return v;
}

int cpu_write_cr(unsigned nr, uint64_t value)
{
    return gate(GATE_WRITE_REG, nr, value, NULL);
}

uint64_t cpu_read_dr(unsigned nr)
{
    return cpu_read_cr(nr + 16);
}

int cpu_write_dr(unsigned nr, uint64_t value)
{
    return cpu_write_cr(nr + 16, value);
}

struct cpuid cpu_id(uint32_t leaf, uint32_t subleaf)
{
    struct cpuid id = {0};

    gate(GATE_CPUID, leaf, subleaf, &id);
    return id;
}

void cpu_irqs_on(void)
{
    gate(GATE_IRQS, 0x200, 0, NULL);
}

void cpu_irqs_off(void)
{
    gate(GATE_IRQS, 0, 0, NULL);
}

void cpu_wait(volatile uint32_t *counter, uint32_t seen)
{
    gate(GATE_WAIT, (uintptr_t)counter, seen, NULL);
}

void cpu_halt(void)
{
    for (;;)
        gate(GATE_HALT, 0, 0, NULL);
}

/* Entered from trap_common on a fresh stack: an exception that nobody expected. */
void trap_report(const struct frame *at, uint64_t cr2);
void trap_report(const struct frame *at, uint64_t cr2)
{
    struct frame f = *at;

    say("FAIL exception vector=%lu error=0x%lx rip=0x%lx cr2=0x%lx cs=0x%lx rflags=0x%lx "
        "rsp=0x%lx cpu=%u",
        f.vector, f.error, f.rip, cr2, f.cs, f.rflags, f.rsp, cpu_self()->index);
    say("FAIL exception rax=0x%lx rbx=0x%lx rcx=0x%lx rdx=0x%lx rsi=0x%lx rdi=0x%lx rbp=0x%lx "
        "r8=0x%lx",
        f.rax, f.rbx, f.rcx, f.rdx, f.rsi, f.rdi, f.rbp, f.r8);
    power_triple_fault();
}
