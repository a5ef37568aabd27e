/* See vm_state.h. */
#include "machine/vm_state.h"

#include <errno.h>
#include <string.h>

// clang-format off
static const struct field pic[] = {
    FIELD(1, struct kvm_pic_state, last_irr),
    FIELD(2, struct kvm_pic_state, irr),
    FIELD(3, struct kvm_pic_state, imr),
    FIELD(4, struct kvm_pic_state, isr),
    FIELD(5, struct kvm_pic_state, priority_add),
    FIELD(6, struct kvm_pic_state, irq_base),
    FIELD(7, struct kvm_pic_state, read_reg_select),
    FIELD(8, struct kvm_pic_state, poll),
    FIELD(9, struct kvm_pic_state, special_mask),
    FIELD(10, struct kvm_pic_state, init_state),
    FIELD(11, struct kvm_pic_state, auto_eoi),
    FIELD(12, struct kvm_pic_state, rotate_on_auto_eoi),
    FIELD(13, struct kvm_pic_state, special_fully_nested_mode),
    FIELD(14, struct kvm_pic_state, init4),
    FIELD(15, struct kvm_pic_state, elcr),
    FIELD(16, struct kvm_pic_state, elcr_mask),
    FIELD_END,
};

static const struct field ioapic[] = {
    FIELD(1, struct vm_ioapic, base_address),
    FIELD(2, struct vm_ioapic, ioregsel),
    FIELD(3, struct vm_ioapic, id),
    FIELD(4, struct vm_ioapic, irr),
    FIELD_ARRAY(5, struct vm_ioapic, redirection),
    FIELD_END,
};

/* Without count_load_time, which is of the host's clock: KVM begins to count anew at a load. */
static const struct field channel[] = {
    FIELD(1, struct kvm_pit_channel_state, count),
    FIELD(2, struct kvm_pit_channel_state, latched_count),
    FIELD(3, struct kvm_pit_channel_state, count_latched),
    FIELD(4, struct kvm_pit_channel_state, status_latched),
    FIELD(5, struct kvm_pit_channel_state, status),
    FIELD(6, struct kvm_pit_channel_state, read_state),
    FIELD(7, struct kvm_pit_channel_state, write_state),
    FIELD(8, struct kvm_pit_channel_state, write_latch),
    FIELD(9, struct kvm_pit_channel_state, rw_mode),
    FIELD(10, struct kvm_pit_channel_state, mode),
    FIELD(11, struct kvm_pit_channel_state, bcd),
    FIELD(12, struct kvm_pit_channel_state, gate),
    FIELD_END,
};

static const struct field pit[] = {
    FIELD_STRUCTS(1, struct kvm_pit_state2, channels, channel),
    FIELD(2, struct kvm_pit_state2, flags),
    FIELD_END,
};

static const struct field clock_fields[] = {
    FIELD(1, struct vm_clock, guest_ns),
    FIELD(2, struct vm_clock, has_realtime),
    FIELD(3, struct vm_clock, realtime_ns),
    FIELD(4, struct vm_clock, has_host_tsc),
    FIELD(5, struct vm_clock, host_tsc),
    FIELD_END,
};

static const struct field fields[] = {
    FIELD_STRUCT(1, struct vm_state, pic_master, pic),
    FIELD_STRUCT(2, struct vm_state, pic_slave, pic),
    FIELD_STRUCT(3, struct vm_state, ioapic, ioapic),
    FIELD_STRUCT(4, struct vm_state, pit, pit),
    FIELD_STRUCT(5, struct vm_state, clock, clock_fields),
    FIELD_END,
};
// clang-format on

const struct state_desc vm_state_desc = {
    .name = "vm",
    .version = 1,
    .min_version = 1,
    .fields = fields,
};

static int check(int rc, const char *what, struct err *err)
{
    return rc < 0 ? err_sys(err, -rc, "KVM refuses %s", what) : 0;
}

static int get_chip(struct vm *vm, uint32_t id, void *to, size_t size)
{
    struct kvm_irqchip chip = {.chip_id = id};
    int rc = kvm_ioctl(vm->fd, KVM_GET_IRQCHIP, &chip);
    memcpy(to, &chip.chip, size);
    return rc;
}

static int set_chip(struct vm *vm, uint32_t id, const void *from, size_t size)
{
    struct kvm_irqchip chip = {.chip_id = id};
    memcpy(&chip.chip, from, size);
    return kvm_ioctl(vm->fd, KVM_SET_IRQCHIP, &chip);
}

static int get_ioapic(struct vm *vm, struct vm_ioapic *to)
{
    struct kvm_ioapic_state raw;
    int rc = get_chip(vm, KVM_IRQCHIP_IOAPIC, &raw, sizeof(raw));
    to->base_address = raw.base_address;
    to->ioregsel = raw.ioregsel;
    to->id = raw.id;
    to->irr = raw.irr;
    for (unsigned i = 0; i < VM_IOAPIC_PINS; i++)
        to->redirection[i] = raw.redirtbl[i].bits;
    return rc;
}

static int set_ioapic(struct vm *vm, const struct vm_ioapic *from)
{
    struct kvm_ioapic_state raw = {.base_address = from->base_address,
                                   .ioregsel = from->ioregsel,
                                   .id = from->id,
                                   .irr = from->irr};
    for (unsigned i = 0; i < VM_IOAPIC_PINS; i++)
        raw.redirtbl[i].bits = from->redirection[i];
    return set_chip(vm, KVM_IRQCHIP_IOAPIC, &raw, sizeof(raw));
}

int vm_state_save(struct vm *vm, struct vm_state *s, struct err *err)
{
    int rc = check(get_chip(vm, KVM_IRQCHIP_PIC_MASTER, &s->pic_master, sizeof(s->pic_master)),
                   "to give the PIC", err);
    if (rc == 0)
        rc = check(get_chip(vm, KVM_IRQCHIP_PIC_SLAVE, &s->pic_slave, sizeof(s->pic_slave)),
                   "to give the second PIC", err);
    if (rc == 0)
        rc = check(get_ioapic(vm, &s->ioapic), "to give the IOAPIC", err);
    if (rc == 0)
        rc = check(kvm_ioctl(vm->fd, KVM_GET_PIT2, &s->pit), "to give the PIT", err);
    return rc;
}

int vm_state_load(struct vm *vm, const struct vm_state *s, struct err *err)
{
    struct kvm_pit_state2 pit2 = s->pit;
    int rc = check(set_chip(vm, KVM_IRQCHIP_PIC_MASTER, &s->pic_master, sizeof(s->pic_master)),
                   "the saved PIC", err);
    if (rc == 0)
        rc = check(set_chip(vm, KVM_IRQCHIP_PIC_SLAVE, &s->pic_slave, sizeof(s->pic_slave)),
                   "the saved second PIC", err);
    if (rc == 0)
        rc = check(set_ioapic(vm, &s->ioapic), "the saved IOAPIC", err);
    if (rc == 0)
        rc = check(kvm_ioctl(vm->fd, KVM_SET_PIT2, &pit2), "the saved PIT", err);
    return rc;
}
