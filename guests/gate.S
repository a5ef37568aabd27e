/*
 * What runs at CPL 0: the end of every interrupt stub, and the gate.
 *
 * The guest lives at CPL 3. A service of CPL 0 is asked for by executing HLT there, at one known
 * address: the CPU raises #GP, and the handler looks whether it came from that address. This
 * needs nothing but the IDT, so it works the same with VT-x, SVM and a hypervisor that emulates
 * CPL 0; SYSCALL and INT do not.
 *
 *   int gate(op, a, b, out)   RDI RSI RDX RCX; 0, or 1 when the instruction faulted
 */
#include "layout.h"

    .text
    .globl gate
gate:
gate_instruction:
    hlt
    ret

/* Stack: vector, error code, RIP, CS, RFLAGS, RSP, SS. */
    .globl trap_gp, trap_common, irq_eoi, irq_count
trap_gp:
    cmpl $gate_instruction, 16(%rsp)
    jne 1f
    lea 16(%rsp), %rsp
    incq (%rsp)                 /* behind the HLT */
    jmp *gate_table(,%rdi,8)
1:  cmpl $guarded, 16(%rsp)
    jb trap_common
    cmpl $guarded_end, 16(%rsp)
    jae trap_common
    mov 40(%rsp), %rsp          /* a service faulted: drop that frame, answer 1 */
    mov $1, %eax
    iretq

guarded:
gate_rdmsr:
    mov %rcx, %r8
    mov %esi, %ecx
    rdmsr
    mov %eax, (%r8)
    mov %edx, 4(%r8)
    xor %eax, %eax
    iretq
gate_wrmsr:
    mov %esi, %ecx
    mov %edx, %eax
    shr $32, %rdx
    wrmsr
    xor %eax, %eax
    iretq
gate_xsetbv:
    mov %esi, %ecx
    mov %edx, %eax
    shr $32, %rdx
    xsetbv
    xor %eax, %eax
    iretq
/* a: the register, as 0..15 for CR and 16..31 for DR; b: its value; out: where it goes */
gate_read_reg:
    shl $4, %esi
    add $read_regs, %rsi
    jmp *%rsi
gate_write_reg:
    shl $4, %esi
    add $write_regs, %rsi
    jmp *%rsi
    .align 16
read_regs:
    .irp reg, cr0,0,cr2,cr3,cr4,0,0,0,cr8,0,0,0,0,0,0,0,dr0,dr1,dr2,dr3,0,0,dr6,dr7
    .ifc \reg, 0
    ud2
    .else
    mov %\reg, %rax
    .endif
    jmp 1f
    .align 16
    .endr
1:  mov %rax, (%rcx)
    xor %eax, %eax
    iretq
    .align 16
write_regs:
    .irp reg, cr0,0,cr2,cr3,cr4,0,0,0,cr8,0,0,0,0,0,0,0,dr0,dr1,dr2,dr3,0,0,dr6,dr7
    .ifc \reg, 0
    ud2
    .else
    mov %rdx, %\reg
    .endif
    jmp 1f
    .align 16
    .endr
1:  xor %eax, %eax
    iretq
guarded_end:

/* Sleep unless *a, 32 bits wide, is no longer b. Interrupts are off in the gate, so none that
 * arrives after the comparison is lost; one that wakes the CPU is handled on this stack. */
gate_wait:
    cmp %edx, (%rsi)
    jne 1f
    sti
    hlt
    cli
1:  xor %eax, %eax
    iretq

/* Interrupts at CPL 3 on (a = 0x200) or off (a = 0). */
gate_irqs:
    andl $~0x200, 16(%rsp)
    or %esi, 16(%rsp)
    xor %eax, %eax
    iretq

/* As CPL 0 sees it: a hypervisor may not be asked at CPL 3. a: leaf, b: subleaf, out: 4 words */
gate_cpuid:
    mov %rcx, %r8
    mov %rbx, %r9
    mov %esi, %eax
    mov %edx, %ecx
    cpuid
    mov %eax, (%r8)
    mov %ebx, 4(%r8)
    mov %ecx, 8(%r8)
    mov %edx, 12(%r8)
    mov %r9, %rbx
    xor %eax, %eax
    iretq

gate_triple:
    lidt null_register
    ud2

/* KVM's emulator has no FISTP and must have it here: the address belongs to no device. */
gate_fail:
    mov $0xfed80000, %eax
    fistpll (%rax)
    iretq

gate_halt:
    cli
    hlt
    jmp gate_halt

gate_flush:
    mov %cr3, %rax
    mov %rax, %cr3
    xor %eax, %eax
    iretq

irq_eoi:
    push %rdx
    mov %rsp, %rdx
    and $-BLOCK_SIZE, %rdx
    incl CPU_IRQS(%rdx,%rax)
    mov $0xfee000b0, %eax
    movl $0, (%rax)
    pop %rdx
    pop %rax
    iretq

irq_count:                      /* NMI and spurious: no EOI */
    push %rdx
    mov %rsp, %rdx
    and $-BLOCK_SIZE, %rdx
    incl CPU_IRQS(%rdx,%rax)
    pop %rdx
    pop %rax
    iretq

/* An exception goes to whoever waits for one (guest_survives), else to trap_report at CPL 3. */
trap_common:
    push %rax
    push %rdx
    mov %rsp, %rdx
    and $-BLOCK_SIZE, %rdx
    mov CPU_RECOVER_RIP(%rdx), %rax
    test %rax, %rax
    jz 1f
    mov %rax, 32(%rsp)
    mov CPU_RECOVER_RSP(%rdx), %rax
    mov %rax, 56(%rsp)
    movq $SEL_USER_CODE, 40(%rsp)
    movq $SEL_USER_DATA, 64(%rsp)
    movq $0, CPU_RECOVER_RIP(%rdx)
    lea 32(%rsp), %rsp
    iretq
1:  push %rcx
    push %rbx
    push %rsi
    push %rdi
    push %rbp
    push %r8
    push %r9
    push %r10
    push %r11
    push %r12
    push %r13
    push %r14
    push %r15
    mov %cr2, %rsi
    mov %rsp, %rdi              /* trap_report(frame, cr2) */
    push $SEL_USER_DATA
    lea BLOCK_CPL3_TOP - 8(%rdx), %rdx
    push %rdx
    push $2
    push $SEL_USER_CODE
    push $trap_report
    iretq

/* bool guest_survives(void (*call)(void *), void *arg): false when it raised an exception */
    .globl guest_survives
guest_survives:
    push %rbx
    push %rbp
    push %r12
    push %r13
    push %r14
    push %r15
    mov %rsp, %rbx
    and $-BLOCK_SIZE, %rbx
    push %rbx
    mov %rsp, CPU_RECOVER_RSP(%rbx)
    movq $1f, CPU_RECOVER_RIP(%rbx)
    mov %rdi, %rax
    mov %rsi, %rdi
    call *%rax
    movq $0, CPU_RECOVER_RIP(%rbx)
    mov $1, %eax
    jmp 2f
1:  xor %eax, %eax
2:  pop %rbx
    pop %r15
    pop %r14
    pop %r13
    pop %r12
    pop %rbp
    pop %rbx
    ret

    .section .rodata
    .align 8
gate_table:
    .quad gate_rdmsr, gate_wrmsr, gate_wait, gate_irqs, gate_cpuid, gate_read_reg
    .quad gate_write_reg, gate_triple, gate_fail, gate_halt, gate_xsetbv, gate_flush
null_register:
    .short 0
    .quad 0

    .section .note.GNU-stack, "", @progbits
