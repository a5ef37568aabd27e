/*
 * Registers are loaded, held, and stored again with no C in between.
 *
 *   fpu_hold(want, got, until_tsc, level, exits)   RDI RSI RDX ECX R8D
 *
 * level 0: xmm0-15, 1: ymm0-15, 2: zmm0-31 and k0-7; always x87, its control word and MXCSR.
 * exits: leave for the VMM all the time, with a port access, instead of running undisturbed.
 * The offsets are those of struct fpu_image.
 */
#define MXCSR 128
#define CONTROL 132
#define MASKS 136
#define VECTORS 256

    .text
    .globl fpu_hold
fpu_hold:
    sub $24, %rsp
    stmxcsr (%rsp)
    mov %rdx, %r9
    fninit
    fldcw CONTROL(%rdi)
    .irp i, 7, 6, 5, 4, 3, 2, 1, 0
    fldt 16*\i(%rdi)
    .endr
    cmp $1, %ecx
    jb load_sse
    je load_avx
    .irp i, 0, 1, 2, 3, 4, 5, 6, 7
    kmovq MASKS+8*\i(%rdi), %k\i
    .endr
    .irp i, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31
    vmovdqu64 VECTORS+64*\i(%rdi), %zmm\i
    .endr
    jmp loaded
load_avx:
    .irp i, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15
    vmovdqu VECTORS+64*\i(%rdi), %ymm\i
    .endr
    jmp loaded
load_sse:
    .irp i, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15
    movdqu VECTORS+64*\i(%rdi), %xmm\i
    .endr
loaded:
    ldmxcsr MXCSR(%rdi)

hold:
    test %r8d, %r8d
    jz 1f
    in $0x80, %al
1:  pause
    rdtsc
    shl $32, %rdx
    or %rdx, %rax
    cmp %r9, %rax
    jb hold

    stmxcsr MXCSR(%rsi)
    fnstcw CONTROL(%rsi)
    cmp $1, %ecx
    jb store_sse
    je store_avx
    .irp i, 0, 1, 2, 3, 4, 5, 6, 7
    kmovq %k\i, MASKS+8*\i(%rsi)
    .endr
    .irp i, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31
    vmovdqu64 %zmm\i, VECTORS+64*\i(%rsi)
    .endr
    vzeroupper
    jmp stored
store_avx:
    .irp i, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15
    vmovdqu %ymm\i, VECTORS+64*\i(%rsi)
    .endr
    vzeroupper
    jmp stored
store_sse:
    .irp i, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15
    movdqu %xmm\i, VECTORS+64*\i(%rsi)
    .endr
stored:
    .irp i, 0, 1, 2, 3, 4, 5, 6, 7
    fstpt 16*\i(%rsi)
    .endr
    fninit
    ldmxcsr (%rsp)
    add $24, %rsp
    ret

    .section .note.GNU-stack, "", @progbits
