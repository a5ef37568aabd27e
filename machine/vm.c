/* See vm.h. */
#include "machine/vm.h"

#include <errno.h>
#include <linux/kvm.h>
#include <unistd.h>

#include "base/now.h"
#include "machine/layout.h"

#define IOAPIC_PINS 24
#define PIC_PINS 16

#define SLOT_BYTES_LEAST (256ull << 20)
#define SLOTS_WANTED 64u /* about: more of them are larger */

static int step(int rc, const char *what, struct err *err)
{
    return rc < 0 ? err_sys(err, -rc, "KVM refuses %s", what) : 0;
}

/* KVM_CREATE_VM may be interrupted and must then be tried again. */
static int make_fd(struct vm *vm, struct err *err)
{
    int rc = kvm_ioctl(vm->kvm->fd, KVM_CREATE_VM, NULL);
    if (rc < 0)
        return step(rc, "to make a virtual machine", err);
    vm->fd = rc;
    return 0;
}

static int enable_caps(struct vm *vm, struct err *err)
{
    struct kvm_enable_cap cap = {
        .cap = KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2,
        .args[0] = KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE | KVM_DIRTY_LOG_INITIALLY_SET,
    };
    if (!vm->kvm->manual_dirty_log)
        return 0;
    return step(kvm_ioctl(vm->fd, KVM_ENABLE_CAP, &cap), "the manual dirty log", err);
}

static int make_chips(struct vm *vm, struct err *err)
{
    uint64_t identity = LAYOUT_KVM_IDENTITY_GPA;
    /* The dummy speaker answers port 0x61 with the PIT's own channel 2, as guests that time
     * themselves by it expect. */
    struct kvm_pit_config pit = {.flags = KVM_PIT_SPEAKER_DUMMY};
    int rc = step(kvm_ioctl(vm->fd, KVM_SET_IDENTITY_MAP_ADDR, &identity), "the identity map", err);
    if (rc == 0)
        rc = step(kvm_ioctl(vm->fd, KVM_SET_TSS_ADDR, (void *)(uintptr_t)LAYOUT_KVM_TSS_GPA),
                  "the TSS address", err);
    if (rc == 0)
        rc = step(kvm_ioctl(vm->fd, KVM_CREATE_IRQCHIP, NULL), "interrupt controllers", err);
    if (rc == 0)
        rc = step(kvm_ioctl(vm->fd, KVM_CREATE_PIT2, &pit), "a PIT", err);
    return rc;
}

static void add_route(struct kvm_irq_routing *table, unsigned gsi, unsigned chip, unsigned pin)
{
    table->entries[table->nr++] = (struct kvm_irq_routing_entry){
        .gsi = gsi,
        .type = KVM_IRQ_ROUTING_IRQCHIP,
        .u.irqchip = {.irqchip = chip, .pin = pin},
    };
}

/* As on a PC: GSI n is PIC line n and IOAPIC pin n, but the PIT's GSI 0 is IOAPIC pin 2. */
static int set_routing(struct vm *vm, struct err *err)
{
    union {
        struct kvm_irq_routing table;
        uint8_t room[sizeof(struct kvm_irq_routing) +
                     (PIC_PINS + IOAPIC_PINS) * sizeof(struct kvm_irq_routing_entry)];
    } u = {0};
    for (unsigned gsi = 0; gsi < PIC_PINS; gsi++)
        if (gsi != 2)
            add_route(&u.table, gsi, gsi < 8 ? KVM_IRQCHIP_PIC_MASTER : KVM_IRQCHIP_PIC_SLAVE,
                      gsi % 8);
    for (unsigned gsi = 0; gsi < IOAPIC_PINS; gsi++)
        if (gsi != 2)
            add_route(&u.table, gsi, KVM_IRQCHIP_IOAPIC, gsi == 0 ? 2 : gsi);
    return step(kvm_ioctl(vm->fd, KVM_SET_GSI_ROUTING, &u), "the interrupt routing", err);
}

static uint64_t slot_bytes(const struct vm *vm)
{
    uint64_t bytes = SLOT_BYTES_LEAST;
    while (vm->mem->size / bytes > SLOTS_WANTED)
        bytes *= 2;
    return bytes;
}

static unsigned slots_of(const struct mem_region *r, uint64_t bytes)
{
    return (unsigned)((r->size + bytes - 1) / bytes);
}

unsigned vm_slots(const struct vm *vm)
{
    unsigned n = 0;
    for (unsigned i = 0; i < vm->mem->nregions; i++)
        n += slots_of(&vm->mem->regions[i], slot_bytes(vm));
    return n;
}

struct mem_region vm_slot(const struct vm *vm, unsigned index)
{
    const struct mem_region *r = vm->mem->regions;
    uint64_t bytes = slot_bytes(vm);
    for (; index >= slots_of(r, bytes); r++)
        index -= slots_of(r, bytes);
    uint64_t at = index * bytes;
    return (struct mem_region){.gpa = r->gpa + at,
                               .offset = r->offset + at,
                               .size = r->size - at < bytes ? r->size - at : bytes};
}

int vm_set_slots(struct vm *vm, bool log_dirty, struct err *err)
{
    int rc = 0;
    for (unsigned i = 0; rc == 0 && i < vm_slots(vm); i++) {
        const struct mem_region piece = vm_slot(vm, i), *r = &piece;
        struct kvm_userspace_memory_region slot = {
            .slot = i,
            .flags = log_dirty ? KVM_MEM_LOG_DIRTY_PAGES : 0,
            .guest_phys_addr = r->gpa,
            .memory_size = r->size,
            .userspace_addr = (uint64_t)(uintptr_t)(vm->mem->base + r->offset),
        };
        rc = step(kvm_ioctl(vm->fd, KVM_SET_USER_MEMORY_REGION, &slot), "guest memory", err);
    }
    return rc;
}

int vm_init(struct vm *vm, const struct kvm *kvm, struct mem *mem, struct err *err)
{
    *vm = (struct vm){.fd = -1, .kvm = kvm, .mem = mem};
    int rc = make_fd(vm, err);
    if (rc == 0)
        rc = enable_caps(vm, err);
    /* Memory before the chips: each chip puts itself on KVM's buses, and a memory slot that is set
     * after that waits 5 ms and more for the grace periods of those changes. */
    uint64_t begin_ns = now_ns();
    if (rc == 0)
        rc = vm_set_slots(vm, false, err);
    vm->slots_ns = now_ns() - begin_ns;
    if (rc == 0)
        rc = make_chips(vm, err);
    if (rc == 0)
        rc = set_routing(vm, err);
    if (rc < 0)
        vm_fini(vm);
    return rc;
}

void vm_fini(struct vm *vm)
{
    if (vm->fd >= 0)
        close(vm->fd);
    vm->fd = -1;
}

static void set_line(void *ctx, unsigned gsi, bool level)
{
    struct vm *vm = ctx;
    struct kvm_irq_level line = {.irq = gsi, .level = level};
    kvm_ioctl(vm->fd, KVM_IRQ_LINE, &line); /* fails only for a GSI that no chip has */
}

struct irq_sink vm_irq_sink(struct vm *vm)
{
    return (struct irq_sink){.set = set_line, .ctx = vm};
}

static int set_doorbell(void *ctx, uint64_t gpa, uint32_t value, int fd, bool on, struct err *err)
{
    struct vm *vm = ctx;
    struct kvm_ioeventfd bell = {
        .addr = gpa,
        .len = sizeof(value),
        .datamatch = value,
        .fd = fd,
        .flags = KVM_IOEVENTFD_FLAG_DATAMATCH | (on ? 0 : KVM_IOEVENTFD_FLAG_DEASSIGN),
    };
    return step(kvm_ioctl(vm->fd, KVM_IOEVENTFD, &bell), "a doorbell", err);
}

static int set_line_fd(void *ctx, unsigned gsi, int fd, bool on, struct err *err)
{
    struct vm *vm = ctx;
    struct kvm_irqfd line = {
        .fd = (uint32_t)fd, .gsi = gsi, .flags = on ? 0 : KVM_IRQFD_FLAG_DEASSIGN};
    return step(kvm_ioctl(vm->fd, KVM_IRQFD, &line), "an interrupt descriptor", err);
}

struct event_sink vm_event_sink(struct vm *vm)
{
    return (struct event_sink){.doorbell = set_doorbell, .line = set_line_fd, .ctx = vm};
}
