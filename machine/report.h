/*
 * How a guest came to stand still: the kind, a sentence, and the CPU that stopped it with its
 * registers and the bytes it was about to execute.
 */
#pragma once

#include <stdint.h>

#include "machine/mem.h"

enum report_kind {
    REPORT_SHUTDOWN,     /* the guest switched itself off */
    REPORT_RESET,        /* the guest asked to be reset */
    REPORT_TRIPLE_FAULT, /* KVM_EXIT_SHUTDOWN */
    REPORT_INTERNAL_ERROR,
    REPORT_FAIL_ENTRY,
};

#define REPORT_CODE_MAX 15
#define REPORT_DATA_MAX 16

struct report_cpu {
    unsigned cpu;
    uint64_t rip, rflags;
    uint64_t gpr[16]; /* rax rbx rcx rdx rsi rdi rsp rbp r8..r15 */
    uint64_t cr0, cr2, cr3, cr4, efer;
    uint16_t cs, ss;
    uint8_t code[REPORT_CODE_MAX];
    unsigned code_len;
    uint32_t suberror;
    uint64_t data[REPORT_DATA_MAX];
    unsigned ndata;
};

struct report {
    enum report_kind kind;
    char text[200];
    bool has_cpu;
    struct report_cpu cpu;
};

struct kvm_run;

/* Fills the CPU's part from a stopped vCPU. [vcpu] */
void report_cpu(struct report *r, int vcpu_fd, unsigned cpu, const struct mem *mem);

/* Sentence, suberror and data of an exit that is a fault. [vcpu] */
void report_exit(struct report *r, const struct kvm_run *run);
