/*
 * What a device is, and all that it may ask of its machine.
 *
 * A device is a struct of its own, one row in the device table (devices/devices.c), and one file.
 * The row drives creation, bus registration, reset, save and load: boot, restore and an incoming
 * migration build devices the same way. Devices know nothing of KVM, files or sockets: unit tests
 * give them an env of their own.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "machine/bus.h"
#include "machine/mem.h"
#include "vmstate/field.h"

struct timer_set;
struct watch_set;
struct console;
struct uuid;
struct counters;
struct virtio;

/* A level- or edge-triggered line into the interrupt controllers. [any] */
struct irq_sink {
    void (*set)(void *ctx, unsigned gsi, bool level);
    void *ctx; /* borrowed */
};

/* What a guest asks of its machine by a device. */
enum machine_request {
    MACHINE_REQUEST_SHUTDOWN, /* ACPI S5 */
    MACHINE_REQUEST_RESET,    /* i8042, port 0x92, 0xcf9, ACPI reset register */
};

struct request_sink {
    /* `by` names the way ("i8042", "ACPI"); returns at once, the machine stops soon after. [vcpu]
     */
    void (*ask)(void *ctx, enum machine_request what, const char *by);
    void *ctx; /* borrowed */
};

/*
 * Descriptors (eventfds) in the place of exits and of calls, where KVM can: a guest's write that
 * signals one, and one whose signal is an edge of an interrupt line. Members may be NULL.
 */
struct event_sink {
    /* A 4-byte write of `value` at `gpa` signals `fd` and nothing else; off with the same values.
     */
    int (*doorbell)(void *ctx, uint64_t gpa, uint32_t value, int fd, bool on, struct err *err);
    int (*line)(void *ctx, unsigned gsi, int fd, bool on, struct err *err);
    void *ctx; /* borrowed */
};

/* For what is odd and goes on: one sentence for the log. [any] */
struct warn_sink {
    void (*say)(void *ctx, const char *text); /* may be NULL */
    void *ctx;                                /* borrowed */
};

struct device_env {
    struct bus *pio, *mmio; /* borrowed; filled during init only */
    struct irq_sink irq;
    struct request_sink request;
    struct mem *mem;           /* borrowed */
    struct timer_set *timers;  /* borrowed; the I/O thread's */
    struct watch_set *watches; /* borrowed; the I/O thread's */
    struct event_sink events;
    struct warn_sink warn;
    struct counters *counters;     /* borrowed */
    struct console *console;       /* borrowed; what the serial port talks to */
    uint64_t (*wall_ns)(void);     /* nanoseconds since 1970: the RTC's host clock */
    const struct uuid *generation; /* borrowed during init; NULL: the device draws one */
    /* Puts a virtio device on its transport. */
    int (*virtio_attach)(struct virtio *v, const struct device_env *env, struct err *err);

    /* Of one device that the machine's config asks for: what it says of it (borrowed during init),
     * which one of its type, and which of all of them. */
    const void *config;
    unsigned instance, slot;
};

struct device_type {
    const char *name;               /* stable: it names the state section */
    size_t size;                    /* of the device's struct, which is zeroed before init */
    const struct state_desc *state; /* NULL: nothing to save */
    /* A saved machine may lack it and then keeps its power-on values, and a reader that does not
     * know it passes it over: for what came later than the first format. */
    bool optional;
    /* Wires the device: bus ranges, timers, lock. Power-on values. The env outlives the device. */
    int (*init)(void *dev, const struct device_env *env, struct err *err);
    void (*fini)(void *dev); /* may be NULL */
    /* All vCPUs are parked and the I/O thread idles: make the struct say all that is true, e.g.
     * fold a running timer into a stored deadline (before save), and take it up again (at boot,
     * after a load or a pause). A device is born quiesced; until resume nothing from outside (a
     * button, console input) changes its state. May be NULL. */
    void (*quiesce)(void *dev);
    void (*resume)(void *dev);
    /* The machine's reset line, while quiesced: registers as a reset leaves them; what a battery
     * keeps, stays. resume follows. May be NULL. */
    void (*reset)(void *dev);
    /* After a load, while quiesced: the time since it was saved has not passed for the guest. For a
     * device that follows the host's wall clock; may be NULL. */
    void (*freeze)(void *dev);
    /* After a load, while quiesced: the guest ran on another host until now. May be NULL. */
    void (*arrived)(void *dev);
};
