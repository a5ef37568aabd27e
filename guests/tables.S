/* The page tables, IDT, GDT and TSSs, all of them data: see layout.h. */
#include "layout.h"

#define HAS_ERROR_CODE 0x60227d00   /* vectors 8, 10 to 14, 17, 21, 29, 30 */

    .section .tables, "aw", @progbits
tables:
pml4:
    .quad PDPT_BASE + 0x27
    .fill 511, 8, 0
pdpt:
    .set i, 0
    .rept 4
    .quad PD_BASE + 4096 * i + 0x27
    .set i, i + 1
    .endr
    .fill 508, 8, 0
page_directories:               /* 3 GiB cached, then 1 GiB uncached for the devices */
    .set i, 0
    .rept 1536
    .quad 0x200000 * i + 0xe7
    .set i, i + 1
    .endr
    .rept 512
    .quad 0x200000 * i + 0xff
    .set i, i + 1
    .endr

    .org STUBS_BASE - TABLES_BASE
    /* A stub leaves the vector and an error code on the stack, its own 0 where the CPU has none. */
    .macro stub_exception vector
    .org STUBS_BASE - TABLES_BASE + 16 * \vector
    .if !(HAS_ERROR_CODE >> \vector & 1)
    push $0
    .endif
    push $\vector
    .if \vector == 13
    jmp trap_gp
    .else
    jmp trap_common
    .endif
    .endm

    .macro stub_irq vector, target
    .org STUBS_BASE - TABLES_BASE + 16 * \vector
    push %rax
    mov $(4 * \vector), %eax
    jmp \target
    .endm

    .set i, 0
    .rept 32
    .if i == 2
    stub_irq i, irq_count
    .else
    stub_exception i
    .endif
    .set i, i + 1
    .endr
    .rept 223
    stub_irq i, irq_eoi
    .set i, i + 1
    .endr
    stub_irq 255, irq_count

    .org IDT_BASE - TABLES_BASE
    .set i, 0
    .rept 256                   /* interrupt gates of DPL 0: the stubs lie below 4 GiB */
    .short (STUBS_BASE + 16 * i) & 0xffff
    .short SEL_CODE64
    .byte 0, 0x8e
    .short (STUBS_BASE + 16 * i) >> 16
    .quad 0
    .set i, i + 1
    .endr

    .org GDT_BASE - TABLES_BASE
    .quad 0
    .quad 0x00cf9b000000ffff    /* SEL_CODE32 */
    .quad 0x00af9b000000ffff    /* SEL_CODE64 */
    .quad 0x00cf93000000ffff    /* SEL_DATA */
    .quad 0x00cff3000000ffff    /* SEL_USER_DATA */
    .quad 0x00affb000000ffff    /* SEL_USER_CODE */
    .set i, 0
    .rept MAX_CPUS              /* SEL_TSS + 16 * CPU: the limit reaches the end of the bitmap */
    .set tss, TSS_BASE + TSS_SIZE * i
    .short IO_BITMAP + IO_BITMAP_SIZE - tss
    .short tss & 0xffff
    .byte (tss >> 16) & 0xff, 0x89, 0, tss >> 24
    .quad 0
    .set i, i + 1
    .endr

    .org TSS_BASE - TABLES_BASE
    .set i, 0
    .rept MAX_CPUS
    .long 0
    .quad cpu_blocks + BLOCK_SIZE * i + BLOCK_CPL0_TOP
    .fill 90, 1, 0
    .short IO_BITMAP - (TSS_BASE + TSS_SIZE * i)
    .fill TSS_SIZE - 104, 1, 0
    .set i, i + 1
    .endr
    .fill IO_BITMAP_SIZE, 1, 0  /* every port is open to CPL 3 */
    .byte 0xff

    .section .note.GNU-stack, "", @progbits
