/*
 * The KVM virtual machine: its descriptor, interrupt chips, routing and memory slots.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "machine/device.h"
#include "machine/kvm.h"
#include "machine/mem.h"

struct vm {
    int fd; /* owned */
    const struct kvm *kvm;
    struct mem *mem;   /* borrowed */
    uint64_t slots_ns; /* what plugging the memory in took */
};

/* Creates the VM, its chips and its routing, and plugs the memory in. */
int vm_init(struct vm *vm, const struct kvm *kvm, struct mem *mem, struct err *err);
void vm_fini(struct vm *vm);

/*
 * RAM is given to KVM in pieces, because a change of a slot holds up the vCPUs' page faults for as
 * long as KVM takes to go through it: milliseconds for a large one. [any]
 */
unsigned vm_slots(const struct vm *vm);
struct mem_region vm_slot(const struct vm *vm, unsigned index);

/* Sets all memory slots anew with or without KVM's dirty log. */
int vm_set_slots(struct vm *vm, bool log_dirty, struct err *err);

/* The interrupt lines of this VM for its devices, and its descriptors. */
struct irq_sink vm_irq_sink(struct vm *vm);
struct event_sink vm_event_sink(struct vm *vm);
