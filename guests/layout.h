/*
 * Numbers that the assembler, the C files and the linker script agree on.
 *
 *   0x100000  page tables: PML4, PDPT, four page directories
 *   0x106000  256 interrupt stubs of 16 bytes
 *   0x107000  IDT
 *   0x108000  GDT
 *   0x109000  one TSS of 128 bytes for each CPU, then the I/O bitmap they share
 *   0x10e000  code, data, zeroed data, and a block for each CPU
 *
 * The tables stand at fixed addresses because a descriptor holds its base in pieces, which no
 * relocation can fill in: so the whole of them is data in the file and costs no instruction.
 */
#ifndef GUESTS_LAYOUT_H
#define GUESTS_LAYOUT_H

#define MAX_CPUS 64

#define TABLES_BASE 0x100000
#define PML4_BASE 0x100000
#define PDPT_BASE 0x101000
#define PD_BASE 0x102000
#define STUBS_BASE 0x106000
#define IDT_BASE 0x107000
#define GDT_BASE 0x108000
#define TSS_BASE 0x109000
#define TSS_SIZE 128
#define IO_BITMAP (TSS_BASE + MAX_CPUS * TSS_SIZE)
#define IO_BITMAP_SIZE 8192

#define TRAMPOLINE 0x8000 /* where a started CPU begins, in real mode */

/* A CPU's block: struct cpu, the stack of CPL 0, the stack of CPL 3. Masking either stack
 * pointer gives the block. */
#define BLOCK_SIZE 32768
#define BLOCK_CPL0_TOP 8192
#define BLOCK_CPL3_TOP 32768

#define SEL_CODE32 0x08
#define SEL_CODE64 0x10
#define SEL_DATA 0x18
#define SEL_USER_DATA 0x23
#define SEL_USER_CODE 0x2b
#define SEL_TSS 0x30

#define CR0_VALUE 0x80010033 /* PG WP NE ET MP PE */
#define CR4_VALUE 0x620      /* PAE OSFXSR OSXMMEXCPT */
#define EFER_LME 0x100

/* struct cpu, as the assembler sees it */
#define CPU_IRQS 0
#define CPU_RECOVER_RIP 1024
#define CPU_RECOVER_RSP 1032

/* Services of CPL 0: see gate.S */
#define GATE_RDMSR 0
#define GATE_WRMSR 1
#define GATE_WAIT 2
#define GATE_IRQS 3
#define GATE_CPUID 4
#define GATE_READ_REG 5
#define GATE_WRITE_REG 6
#define GATE_TRIPLE 7
#define GATE_FAIL 8
#define GATE_HALT 9
#define GATE_XSETBV 10
#define GATE_FLUSH 11
#define GATE_COUNT 12

#endif
