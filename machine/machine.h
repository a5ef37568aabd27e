/*
 * The machine: memory, VM, buses, devices and vCPUs put together from a config, in one way, whether
 * it boots, is reset, or (given saved state) goes on.
 *
 * The happy path: machine_new builds it with all vCPUs parked at the kernel's entry, machine_resume
 * runs it, machine_pause parks it, machine_free takes it apart. When it stops by itself (shutdown,
 * reset, fault) `stopped` tells so once for each vCPU that met it; the owner then pauses or frees.
 */
#pragma once

#include "base/uuid.h"
#include "machine/clock.h"
#include "machine/console.h"
#include "machine/counters.h"
#include "machine/devices/devices.h"
#include "machine/fill.h"
#include "machine/kvm.h"
#include "machine/report.h"
#include "vmstate/section.h"

struct machine;

struct machine_config {
    uint64_t memory_bytes;
    unsigned cpus;
    const char *cpu_profile, *cmdline; /* borrowed during machine_new */
    int kernel_fd, initrd_fd;          /* borrowed during machine_new; initrd -1 for none */
    const struct device_wish *devices; /* borrowed during machine_new */
    unsigned ndevices;
    const struct machine_saved *saved; /* borrowed during machine_new; NULL: boot the kernel */
    bool empty; /* no kernel either: memory is zero, and machine_load is to come */
    /* Borrowed during machine_new. The guest's generation: that of one that boots, a new one for
     * one that goes on. NULL: drawn, or the saved one is kept. */
    const struct uuid *generation;
};

/* A state to go on from, instead of the kernel's entry. */
struct machine_saved {
    const struct mem_extent *extents; /* what memory begins as */
    size_t count;
    const struct fill_plan
        *fill;         /* what of it comes later; NULL for nothing; outlives the machine */
    struct span state; /* sections (machine/state.h) */
    enum clock_policy clock;
    struct machine_loaded *loaded; /* filled when the state is loaded; may be NULL */
};

/* What is worth telling of a load. */
struct machine_loaded {
    struct section_report sections; /* what was passed over */
    enum clock_tsc tsc;
};

/* What the owner lends to the machine; all of it outlives the machine. */
struct machine_host {
    const struct kvm *kvm;
    struct console *console;
    struct counters *counters;
    void (*stopped)(void *ctx, const struct report *report); /* [vcpu] must not block */
    /* Something odd that goes on, for the log; may be NULL. [any] */
    void (*warn)(void *ctx, const char *text);
    void *ctx;
};

/* Memory, CPUs, profile and command line are checked; a wrong image gets one sentence. */
struct machine *machine_new(const struct machine_config *config, const struct machine_host *host,
                            struct err *err);
void machine_free(struct machine *m);

/* The state of a guest into a machine that was made empty, once its memory is there. When it fails
 * the machine is to be freed. Nobody else uses the machine meanwhile. [loop] [job] */
int machine_load(struct machine *m, struct span state, enum clock_policy clock, struct err *err);

/*
 * What the reset button does: takes `old` apart (also when it fails) and builds the machine anew
 * from the same config, so that a reset and a start cannot differ; of the devices only what
 * outlives their reset line is carried over, such as the CMOS. The new machine is parked at the
 * entry. [loop]
 */
struct machine *machine_reset(struct machine *old, const struct machine_config *config,
                              const struct machine_host *host, struct err *err);

/* Every vCPU answers before pause returns; a machine that does not run is left as it is. [loop] */
void machine_pause(struct machine *m);
void machine_resume(struct machine *m);

void machine_press_power_button(struct machine *m);

struct mem *machine_mem(struct machine *m);
struct vm *machine_vm(struct machine *m);
const struct bus *machine_ports(const struct machine *m);
struct devices *machine_devices(struct machine *m);
struct dirty *machine_dirty(struct machine *m);
unsigned machine_cpus(const struct machine *m);
struct vcpu *machine_vcpu(struct machine *m, unsigned index);

/* The MSRs that are saved of each vCPU. */
const struct msr_list *machine_msrs(const struct machine *m);

/* What the guest finds as its generation (devices/vmgenid.c). [loop] */
struct uuid machine_generation(const struct machine *m);

/* The guest's clock as it was when the machine came to stand last; -EINVAL when KVM gave none. */
int machine_clock(const struct machine *m, struct vm_clock *clock, struct err *err);
