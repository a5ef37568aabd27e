/*
 * What KVM holds for the machine as a whole, as a value: interrupt controllers, PIT, clock.
 */
#pragma once

#include <linux/kvm.h>

#include "machine/vm.h"
#include "vmstate/field.h"

#define VM_IOAPIC_PINS 24

struct vm_ioapic {
    uint64_t base_address;
    uint32_t ioregsel, id, irr;
    uint64_t redirection[VM_IOAPIC_PINS];
};

/* The guest's clock at the pause, with what the host's clocks said then. */
struct vm_clock {
    uint64_t guest_ns;
    bool has_realtime, has_host_tsc;
    uint64_t realtime_ns, host_tsc;
};

struct vm_state {
    struct kvm_pic_state pic_master, pic_slave;
    struct vm_ioapic ioapic;
    struct kvm_pit_state2 pit;
    struct vm_clock clock;
};

extern const struct state_desc vm_state_desc;

/* Everything but the clock, which is read once, at the pause. */
int vm_state_save(struct vm *vm, struct vm_state *state, struct err *err);
int vm_state_load(struct vm *vm, const struct vm_state *state, struct err *err);
