/* See machine.h. */
#include "machine/machine.h"

#include <errno.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/now.h"
#include "machine/boot/boot.h"
#include "machine/boot/entry.h"
#include "machine/clock.h"
#include "machine/cpu_profile.h"
#include "machine/devices/acpi_pm.h"
#include "machine/devices/devices.h"
#include "machine/devices/vmgenid.h"
#include "machine/dirty.h"
#include "machine/io.h"
#include "machine/state.h"
#include "machine/vcpu.h"
#include "machine/virtio/mmio.h"

#define MSR_MTRR_DEF_TYPE 0x2ff
#define MTRR_ENABLED_WRITE_BACK (1u << 11 | 6)

struct machine {
    struct machine_host host;
    unsigned cpus, made; /* wanted; with a vCPU */
    struct mem mem;
    struct fill fill;
    struct vm vm;
    struct dirty dirty;
    struct bus pio, mmio;
    struct io io;
    bool has_io;
    struct devices devices;
    bool has_devices;
    bool runs;
    struct vm_clock clock; /* read once, at each pause */
    bool has_clock;
    struct msr_list msrs; /* found out when the machine is built; its vCPUs are all alike */
    struct vcpu_env vcpu_env;
    struct vcpu vcpus[KVM_CPUS_MAX];
};

/* A device's request comes from the vCPU that wrote its register: that one executes nothing more.
 */
static void on_request(void *ctx, enum machine_request what, const char *by)
{
    struct machine *m = ctx;
    struct report report = {0};
    bool off = what == MACHINE_REQUEST_SHUTDOWN;
    report.kind = off ? REPORT_SHUTDOWN : REPORT_RESET;
    snprintf(report.text, sizeof(report.text), "the guest %s (%s)",
             off ? "switched itself off" : "reset itself", by);
    vcpu_park_self();
    m->host.stopped(m->host.ctx, &report);
}

/* The I/O thread begins paused, as the devices begin quiesced. */
static int start_io(struct machine *m, struct err *err)
{
    int rc = io_start(&m->io, err);
    if (rc == 0)
        io_pause(&m->io);
    return rc;
}

static int check_config(const struct machine_config *config, const struct kvm *kvm, struct err *err)
{
    unsigned max =
        kvm->max_cpus > 0 && kvm->max_cpus < KVM_CPUS_MAX ? (unsigned)kvm->max_cpus : KVM_CPUS_MAX;
    if (config->cpus == 0 || config->cpus > max)
        return err_set(err, EINVAL, "a machine has 1 to %u CPUs here, not %u", max, config->cpus);
    return 0;
}

static int make_devices(struct machine *m, const struct machine_config *config, struct err *err)
{
    struct device_env env = {
        .pio = &m->pio,
        .mmio = &m->mmio,
        .irq = vm_irq_sink(&m->vm),
        .request = {.ask = on_request, .ctx = m},
        .mem = &m->mem,
        .timers = &m->io.timers,
        .watches = &m->io.watches,
        .events = vm_event_sink(&m->vm),
        .warn = {.say = m->host.warn, .ctx = m->host.ctx},
        .counters = m->host.counters,
        .console = m->host.console,
        .wall_ns = now_wall_ns,
        .generation = config->generation,
        .virtio_attach = virtio_mmio_attach,
    };
    int rc = devices_init(&m->devices, &env, config->devices, config->ndevices, err);
    m->has_devices = rc == 0;
    return rc;
}

/* Firmware leaves the MTRRs on with write-back as default; Linux warns otherwise. A KVM that does
 * not take the MSR is as good: it maps guest memory write-back by itself. */
static void set_boot_msrs(int fd)
{
    union {
        struct kvm_msrs head;
        uint8_t room[sizeof(struct kvm_msrs) + sizeof(struct kvm_msr_entry)];
    } u = {0};
    u.head.nmsrs = 1;
    u.head.entries[0] =
        (struct kvm_msr_entry){.index = MSR_MTRR_DEF_TYPE, .data = MTRR_ENABLED_WRITE_BACK};
    kvm_ioctl(fd, KVM_SET_MSRS, &u);
}

/* The rate of the guest's TSC is known only once there is a vCPU. */
static int set_cpuid(struct machine *m, struct vcpu *v, const struct cpuid_set *common,
                     struct err *err)
{
    struct cpuid_set own = *common;
    cpu_profile_set_cpu(&own, v->index, m->cpus);
    if (v->tsc_khz && cpu_profile_set_tsc(&own, v->tsc_khz) < 0)
        return err_set(err, ENOSPC, "the CPU profile has too many leaves");
    return vcpu_set_cpuid(v, &own, err);
}

static int make_vcpus(struct machine *m, const char *profile, struct err *err)
{
    struct cpuid_set supported, common;
    int rc = cpuid_supported(m->host.kvm->fd, &supported, err);
    if (rc == 0)
        rc = cpu_profile_build(profile, &supported, &common, err);
    for (unsigned i = 0; rc == 0 && i < m->cpus; i++) {
        m->made++;
        rc = vcpu_init(&m->vcpus[i], &m->vcpu_env, i, err);
        if (rc == 0)
            rc = set_cpuid(m, &m->vcpus[i], &common, err);
        if (rc == 0)
            set_boot_msrs(m->vcpus[i].fd);
    }
    return rc;
}

/* By the boot CPU's own thread. */
struct entry_call {
    const struct boot_entry *entry;
    int rc;
};

/* Only the boot CPU begins; the others wait in their LAPICs for INIT and SIPI. */
static void set_entry(struct vcpu *v, void *arg)
{
    struct entry_call *call = arg;
    struct kvm_regs regs = {0};
    struct kvm_sregs sregs = {0};
    call->rc = kvm_ioctl(v->fd, KVM_GET_SREGS, &sregs);
    entry_regs(call->entry, &regs, &sregs);
    if (call->rc == 0)
        call->rc = kvm_ioctl(v->fd, KVM_SET_SREGS, &sregs);
    if (call->rc == 0)
        call->rc = kvm_ioctl(v->fd, KVM_SET_REGS, &regs);
}

static int load_kernel(struct machine *m, const struct machine_config *config, struct err *err)
{
    struct boot_entry entry;
    struct boot_source source = {
        .kernel_fd = config->kernel_fd,
        .initrd_fd = config->initrd_fd,
        .cmdline = config->cmdline,
        .cpus = config->cpus,
        .virtio = config->ndevices,
    };
    int rc = boot_load(&m->mem, &source, &entry, err);
    if (rc < 0)
        return rc;
    struct entry_call call = {.entry = &entry};
    vcpu_order_call(&m->vcpus[0], set_entry, &call);
    vcpu_wait(&m->vcpus[0]);
    return call.rc < 0 ? err_sys(err, -call.rc, "KVM refuses the entry state of the kernel") : 0;
}

static int make_memory(struct machine *m, const struct machine_config *config, struct err *err)
{
    const struct machine_saved *saved = config->saved;
    if (!saved)
        return mem_init(&m->mem, config->memory_bytes, err);
    int rc = mem_init_from(&m->mem, config->memory_bytes, saved->extents, saved->count, err);
    return rc == 0 && saved->fill ? fill_start(&m->fill, &m->mem, saved->fill, err) : rc;
}

static int take_state(struct machine *m, struct span state, enum clock_policy clock,
                      struct machine_loaded *loaded, struct err *err)
{
    int rc = state_load(m, state, clock, loaded, err);
    if (rc == 0 && clock == CLOCK_FREEZE)
        devices_freeze(&m->devices);
    return rc;
}

/* What the machine does first: the kernel's entry, or where a saved one stood. */
static int give_life(struct machine *m, const struct machine_config *config, struct err *err)
{
    const struct machine_saved *saved = config->saved;
    if (!saved)
        return config->empty ? 0 : load_kernel(m, config, err);
    int rc = take_state(m, saved->state, saved->clock, saved->loaded, err);
    if (rc == 0 && config->generation)
        vmgenid_renew(devices_find(&m->devices, vmgenid_type.name), config->generation);
    return rc;
}

/* By the first vCPU's own thread. */
struct probe_call {
    struct machine *machine;
    int rc;
    struct err err;
};

static void probe_msrs(struct vcpu *v, void *arg)
{
    struct probe_call *call = arg;
    call->rc = msrs_probe(v->env->vm->kvm, v->fd, &call->machine->msrs, &call->err);
}

/* Which MSRs there are depends on the CPUID, which a saved state brings along. Found out here and
 * not in the pause of a save. */
static int find_msrs(struct machine *m, struct err *err)
{
    struct probe_call call = {.machine = m};
    vcpu_order_call(&m->vcpus[0], probe_msrs, &call);
    vcpu_wait(&m->vcpus[0]);
    if (call.rc < 0)
        *err = call.err;
    return call.rc;
}

static int start_threads(struct machine *m, struct err *err)
{
    int rc = 0;
    for (unsigned i = 0; rc == 0 && i < m->cpus; i++)
        rc = vcpu_start_thread(&m->vcpus[i], err);
    return rc;
}

/* Once for each time that the machine comes to stand; who wants it then is told if there is none.
 */
static void read_clock(struct machine *m)
{
    struct err err;
    m->has_clock = clock_save(&m->vm, &m->clock, &err) == 0;
}

static int build(struct machine *m, const struct machine_config *config, struct err *err)
{
    int rc = check_config(config, m->host.kvm, err);
    if (rc == 0)
        rc = make_memory(m, config, err);
    if (rc == 0)
        rc = vm_init(&m->vm, m->host.kvm, &m->mem, err);
    if (rc == 0)
        rc = io_init(&m->io, err);
    if (rc == 0) {
        m->has_io = true;
        rc = make_devices(m, config, err);
    }
    if (rc == 0)
        rc = start_io(m, err);
    if (rc == 0)
        rc = make_vcpus(m, config->cpu_profile, err);
    if (rc == 0)
        rc = start_threads(m, err);
    if (rc == 0)
        rc = give_life(m, config, err);
    if (rc == 0)
        rc = find_msrs(m, err);
    if (rc == 0)
        read_clock(m); /* it stands from birth, as after a pause */
    return rc;
}

struct machine *machine_new(const struct machine_config *config, const struct machine_host *host,
                            struct err *err)
{
    struct machine *m = calloc(1, sizeof(*m));
    if (!m) {
        err_set(err, ENOMEM, "no memory for a machine");
        return NULL;
    }
    m->host = *host;
    m->cpus = config->cpus;
    m->mem.fd = m->vm.fd = -1;
    dirty_init(&m->dirty, &m->vm);
    m->vcpu_env = (struct vcpu_env){
        .vm = &m->vm,
        .pio = &m->pio,
        .mmio = &m->mmio,
        .msrs = &m->msrs,
        .counters = host->counters,
        .stopped = host->stopped,
        .ctx = host->ctx,
    };
    if (build(m, config, err) < 0) {
        machine_free(m);
        return NULL;
    }
    return m;
}

int machine_load(struct machine *m, struct span state, enum clock_policy clock, struct err *err)
{
    int rc = take_state(m, state, clock, NULL, err);
    if (rc == 0)
        rc = find_msrs(m, err);
    if (rc == 0)
        read_clock(m);
    return rc;
}

/* vCPUs first: they use everything else. */
void machine_free(struct machine *m)
{
    if (!m)
        return;
    for (unsigned i = 0; i < m->made; i++)
        vcpu_fini(&m->vcpus[i]);
    if (m->has_devices)
        devices_fini(&m->devices);
    if (m->has_io)
        io_fini(&m->io);
    dirty_fini(&m->dirty);
    vm_fini(&m->vm);
    fill_stop(&m->fill); /* nobody is left who waits for memory */
    mem_fini(&m->mem);
    free(m);
}

static int carry_over(struct machine *m, const struct buf *state, struct err *err)
{
    struct span in = {.at = state->data, .left = state->len};
    int rc = devices_load(&m->devices, in, NULL, err);
    if (rc == 0)
        devices_reset(&m->devices);
    return rc;
}

struct machine *machine_reset(struct machine *old, const struct machine_config *config,
                              const struct machine_host *host, struct err *err)
{
    struct buf state;
    buf_init(&state, SECTION_PAYLOAD_MAX);
    machine_pause(old);
    int rc = devices_save(&old->devices, &state, err);
    machine_free(old);
    struct machine *m = rc == 0 ? machine_new(config, host, err) : NULL;
    if (m && carry_over(m, &state, err) < 0) {
        machine_free(m);
        m = NULL;
    }
    buf_fini(&state);
    return m;
}

static void order_all(struct machine *m, enum vcpu_order order)
{
    for (unsigned i = 0; i < m->cpus; i++)
        vcpu_order(&m->vcpus[i], order);
    for (unsigned i = 0; i < m->cpus; i++)
        vcpu_wait(&m->vcpus[i]);
}

void machine_pause(struct machine *m)
{
    if (!m->runs)
        return;
    order_all(m, VCPU_ORDER_PARK);
    io_pause(&m->io);
    devices_quiesce(&m->devices);
    read_clock(m);
    m->runs = false;
}

void machine_resume(struct machine *m)
{
    if (m->runs)
        return;
    devices_resume(&m->devices);
    io_resume(&m->io);
    order_all(m, VCPU_ORDER_RUN);
    m->runs = true;
}

void machine_press_power_button(struct machine *m)
{
    acpi_pm_press_power_button(devices_find(&m->devices, "acpi-pm"));
}

struct mem *machine_mem(struct machine *m)
{
    return &m->mem;
}

struct vm *machine_vm(struct machine *m)
{
    return &m->vm;
}

const struct bus *machine_ports(const struct machine *m)
{
    return &m->pio;
}

struct dirty *machine_dirty(struct machine *m)
{
    return &m->dirty;
}

struct devices *machine_devices(struct machine *m)
{
    return &m->devices;
}

unsigned machine_cpus(const struct machine *m)
{
    return m->cpus;
}

struct vcpu *machine_vcpu(struct machine *m, unsigned index)
{
    return &m->vcpus[index];
}

const struct msr_list *machine_msrs(const struct machine *m)
{
    return &m->msrs;
}

struct uuid machine_generation(const struct machine *m)
{
    return vmgenid_get(devices_find(&m->devices, vmgenid_type.name));
}

int machine_clock(const struct machine *m, struct vm_clock *clock, struct err *err)
{
    if (!m->has_clock)
        return err_set(err, EINVAL, "KVM gave no clock for this guest");
    *clock = m->clock;
    return 0;
}
