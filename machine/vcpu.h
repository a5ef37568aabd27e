/*
 * A vCPU and its thread. Orders go in through a mailbox, and every order is answered.
 *
 *               RUN                        EXIT
 *     PARKED ─────────► RUNNING    PARKED ─────────► GONE
 *        ▲      PARK       │
 *        └─────────────────┤ a fault, or the guest asked for a reset or shutdown:
 *        └─────────────────┘ parks by itself and tells `stopped`
 *
 * A running vCPU obeys only where KVM_RUN has returned EINTR: by then the kernel has completed the
 * I/O of the exit before, so a parked vCPU never stands in the middle of an instruction. The sender
 * makes that happen at once by immediate_exit and a signal.
 */
#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "base/err.h"
#include "machine/bus.h"
#include "machine/counters.h"
#include "machine/cpuid.h"
#include "machine/msrs.h"
#include "machine/report.h"
#include "machine/vm.h"

enum vcpu_mode { VCPU_PARKED, VCPU_RUNNING, VCPU_GONE };
enum vcpu_order {
    VCPU_ORDER_NONE,
    VCPU_ORDER_PARK,
    VCPU_ORDER_RUN,
    VCPU_ORDER_EXIT,
    VCPU_ORDER_CALL, /* stays what it is, and calls a function first */
};

/* What all vCPUs of a machine share; borrowed, outlives them. */
struct vcpu_env {
    const struct vm *vm;
    const struct bus *pio, *mmio;
    const struct msr_list *msrs; /* which ones are saved */
    struct counters *counters;
    /* The vCPU met a fault and has parked itself. [vcpu] */
    void (*stopped)(void *ctx, const struct report *report);
    void *ctx;
};

struct vcpu {
    const struct vcpu_env *env;
    unsigned index;
    int fd; /* owned; only its thread uses it once that runs */
    struct kvm_run *run;
    uint32_t tsc_khz;       /* of the guest's TSC; 0: KVM does not tell */
    struct cpuid_set cpuid; /* as it was given to KVM, which may read back something else */
    pthread_t thread;
    bool has_thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    enum vcpu_order order;                   /* locked; NONE once answered */
    enum vcpu_mode mode;                     /* locked */
    bool park_self;                          /* [vcpu] */
    void (*call)(struct vcpu *v, void *arg); /* locked; of VCPU_ORDER_CALL */
    void *call_arg;
};

/* Creates the vCPU; it has no thread yet and its descriptor may be used to set it up. */
int vcpu_init(struct vcpu *v, const struct vcpu_env *env, unsigned index, struct err *err);

/* Before it runs for the first time. [vcpu] */
int vcpu_set_cpuid(struct vcpu *v, const struct cpuid_set *set, struct err *err);

/* Starts the thread, parked. */
int vcpu_start_thread(struct vcpu *v, struct err *err);

/* Orders without waiting, and waits for the answer. [any but vcpu] */
void vcpu_order(struct vcpu *v, enum vcpu_order order);
void vcpu_wait(struct vcpu *v);

/* Orders a function to be called by the vCPU's thread, which alone uses its descriptor; vcpu_wait
 * tells when it is done. [any but vcpu] */
void vcpu_order_call(struct vcpu *v, void (*call)(struct vcpu *v, void *arg), void *arg);

/*
 * Has the kernel do what it does before a parked vCPU runs, and stops it right there: timers that
 * ran out become interrupts. No instruction of the guest is executed, for KVM_RUN returns at once
 * when a signal is pending. From VCPU_ORDER_CALL. [vcpu]
 */
int vcpu_flush(struct vcpu *v, struct err *err);

/* From inside an exit of this vCPU: it parks as soon as the exit is completed. [vcpu] */
void vcpu_park_self(void);

/* Ends the thread and closes the vCPU. */
void vcpu_fini(struct vcpu *v);
