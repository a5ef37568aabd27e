/*
 * The devices of a machine: one table, and behind it those that its config asks for (disks, ...),
 * walked in order to build, pause, save, load and reset them. Boot, restore and an incoming
 * migration all come through devices_init; a restore then loads state into what it built.
 *
 *     devices_init -> [devices_load] -> devices_resume -> guest runs
 *                                       devices_quiesce -> [devices_save, devices_reset] -> ...
 *
 * Devices are born quiesced: their clocks stand and they take no console input until
 * devices_resume, at boot as after a load.
 */
#pragma once

#include <stdint.h>

#include "machine/device.h"
#include "vmstate/section.h"

#define DEVICES_MAX 32

extern const struct device_type *const devices_table[];
extern const unsigned devices_count;

struct devices {
    const struct device_type *types[DEVICES_MAX]; /* borrowed */
    void *slots[DEVICES_MAX];                     /* owned; slots[i] is of types[i] */
    unsigned instances[DEVICES_MAX];              /* of several of one type: which one */
    unsigned count;                               /* built so far */
};

/* A device that not every machine has: the config asks for it. */
struct device_wish {
    const struct device_type *type;
    const void *config; /* what its init finds in env->config; borrowed during devices_init */
};

#define DEVICE_WISHES_MAX 16

/* Builds all of the table, then the wishes in their order; what the env points to outlives the
 * devices. */
int devices_init(struct devices *d, const struct device_env *env, const struct device_wish *wishes,
                 unsigned count, struct err *err);

/* No vCPU runs and the I/O thread is still there or already ended. Also for a zeroed struct. */
void devices_fini(struct devices *d);

/* The device of this type name, or NULL. */
void *devices_find(const struct devices *d, const char *name);

/* vCPUs parked, I/O thread paused. Quiesce runs the table backwards. */
void devices_quiesce(struct devices *d);
void devices_resume(struct devices *d);

/* What the reset line does, while quiesced. Memory, vCPUs and KVM's chips are the machine's. */
void devices_reset(struct devices *d);

/* Behind a load: no time has passed for the guest since it was saved. */
void devices_freeze(struct devices *d);

/* Behind a load: the guest ran on another host until now. */
void devices_arrived(struct devices *d);

/* Adds a section for each device that has state, critical unless the type is optional. The set is
 * the machine's: devices stand in it beside vCPUs and the rest. */
int devices_sections(struct devices *d, struct section_set *set, struct err *err);

/* All devices by themselves, while quiesced. A failed load leaves them half filled: drop them. */
int devices_save(struct devices *d, struct buf *out, struct err *err);
int devices_load(struct devices *d, struct span in, struct section_report *report, struct err *err);
