/* See exit.h. */
#include "machine/exit.h"

#include <linux/kvm.h>

static void count(struct vcpu *v, enum counter_kind kind)
{
    counter_add(v->env->counters, kind);
}

/* `ins` and `outs` with rep come as one exit with many elements. */
static void handle_port(struct vcpu *v)
{
    const struct kvm_run *run = v->run;
    uint8_t *data = (uint8_t *)run + run->io.data_offset;
    bool in = run->io.direction == KVM_EXIT_IO_IN, claimed = true;
    for (uint32_t i = 0; i < run->io.count; i++, data += run->io.size)
        claimed &= in ? bus_read(v->env->pio, run->io.port, data, run->io.size)
                      : bus_write(v->env->pio, run->io.port, data, run->io.size);
    count(v, in ? COUNTER_PORT_IN : COUNTER_PORT_OUT);
    if (!claimed)
        count(v, COUNTER_UNCLAIMED);
}

static void handle_mmio(struct vcpu *v)
{
    struct kvm_run *run = v->run;
    bool claimed = run->mmio.is_write
                       ? bus_write(v->env->mmio, run->mmio.phys_addr, run->mmio.data, run->mmio.len)
                       : bus_read(v->env->mmio, run->mmio.phys_addr, run->mmio.data, run->mmio.len);
    count(v, run->mmio.is_write ? COUNTER_MMIO_WRITE : COUNTER_MMIO_READ);
    if (!claimed)
        count(v, COUNTER_UNCLAIMED);
}

bool exit_handle(struct vcpu *v)
{
    switch (v->run->exit_reason) {
    case KVM_EXIT_IO:
        handle_port(v);
        return true;
    case KVM_EXIT_MMIO:
        handle_mmio(v);
        return true;
    case KVM_EXIT_INTR:
    case KVM_EXIT_IRQ_WINDOW_OPEN:
    case KVM_EXIT_SET_TPR:
        count(v, COUNTER_OTHER);
        return true;
    case KVM_EXIT_HLT: /* only without an in-kernel LAPIC; KVM sleeps for us */
        count(v, COUNTER_HLT);
        return true;
    default:
        count(v, COUNTER_FAULT);
        return false;
    }
}
