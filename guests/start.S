/*
 * From the loader to C at CPL 3.
 *
 * A PVH loader enters in 32-bit protected mode without paging, EBX = struct hvm_start_info. Some
 * hosts emulate CPL 0 one instruction at a time, so the way is short: every table is data in the
 * file, and everything else is done at CPL 3. A CPU started with INIT and SIPI comes in through
 * the trampoline, which cpus.c copies below 1 MiB, and joins the same way.
 */
#include "layout.h"

    .section .note.Xen, "a", @note
    .align 4
    .long 4, 8, 18              /* XEN_ELFNOTE_PHYS32_ENTRY */
    .asciz "Xen"
    .quad start32

    .text
    .code32
    .globl start32
start32:
    cli
    xor %ebp, %ebp              /* CPU 0 */
    lgdt gdt_register
    /* EBX the start info, EBP the number of this CPU */
join32:
    mov $CR4_VALUE, %eax
    mov %eax, %cr4
    mov $PML4_BASE, %eax
    mov %eax, %cr3
    mov $0xc0000080, %ecx
    mov $EFER_LME, %eax
    xor %edx, %edx
    wrmsr
    mov $CR0_VALUE, %eax
    mov %eax, %cr0
    ljmp $SEL_CODE64, $start64

    .code64
start64:
    lidt idt_register
    mov %ebp, %eax
    shl $4, %eax
    add $SEL_TSS, %eax
    ltr %ax
    mov %ebp, %edi              /* guest_entry(cpu, start_info) */
    mov %ebx, %esi
    mov %ebp, %eax
    shl $15, %eax               /* BLOCK_SIZE */
    lea cpu_blocks + BLOCK_CPL3_TOP - 8(%rax), %rdx
    lea cpu_blocks + BLOCK_CPL0_TOP(%rax), %rsp
    push $SEL_USER_DATA
    push %rdx
    push $2
    push $SEL_USER_CODE
    push $guest_entry
    iretq

    .globl trampoline, trampoline_end
    .code16
trampoline:
    cli
    xor %ax, %ax
    mov %ax, %ds
    lgdtl TRAMPOLINE + trampoline_gdt - trampoline
    mov $1, %eax                /* PE */
    mov %eax, %cr0
    ljmpl $SEL_CODE32, $join_cpu
trampoline_gdt:
    .short 0x47f
    .long GDT_BASE
trampoline_end:

    .code32
join_cpu:
    mov $SEL_DATA, %eax
    mov %eax, %ds
    mov %eax, %ss
    mov $1, %ebp
    lock xadd %ebp, cpus_next
    cmp $MAX_CPUS, %ebp
    jb join32
1:  hlt                         /* one CPU too many: it sleeps for ever */
    jmp 1b

    .section .rodata
    .align 8
    .globl gdt_register, idt_register
gdt_register:
    .short 0x47f
    .quad GDT_BASE
    .align 8
idt_register:
    .short 0xfff
    .quad IDT_BASE

    .section .blocks, "aw", @nobits
    .align BLOCK_SIZE
    .globl cpu_blocks
cpu_blocks:
    .skip BLOCK_SIZE * MAX_CPUS

    .section .note.GNU-stack, "", @progbits
