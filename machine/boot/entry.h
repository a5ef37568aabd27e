/*
 * The state in which a boot protocol wants the first vCPU, and the tables in guest memory that this
 * state points to.
 */
#pragma once

#include <linux/kvm.h>

#include "base/err.h"
#include "machine/boot/boot.h"
#include "machine/mem.h"

/* Writes the GDT and, for long mode, page tables that map the low 4 GiB to themselves. */
int entry_write(struct mem *mem, enum boot_protocol protocol, struct err *err);

/* Fills `regs`, and changes in `sregs` (as KVM_GET_SREGS gave it on a new vCPU) what the protocol
 * asks for. */
void entry_regs(const struct boot_entry *entry, struct kvm_regs *regs, struct kvm_sregs *sregs);
