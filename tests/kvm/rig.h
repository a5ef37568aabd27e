/*
 * One guest in the test's own process: the machine without a daemon around it, its console in
 * memory, and waiting for what it says.
 */
#pragma once

#include <pthread.h>
#include <stdbool.h>

#include "base/buf.h"
#include "machine/machine.h"

struct rig {
    struct kvm kvm;
    struct console console;
    struct counters counters;
    struct machine *machine;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool stopped; /* locked, with report */
    struct report report;
    int kvm_fd, kernel_fd;
    struct machine_config config;
    struct machine_host host;
};

struct rig_options {
    const char *guest, *cmdline, *cpu_profile; /* profile NULL: host */
    unsigned cpus;                             /* 0: 1 */
    uint64_t memory_bytes;                     /* 0: 128 MiB */
    const struct uuid *generation;             /* NULL: drawn; of this machine alone */
    const struct device_wish *devices;         /* outlives the rig */
    unsigned ndevices;
};

/* cmocka setup for a group: skips all of it, with the reason, where KVM cannot be used. */
void rig_need_kvm(void);

/* Builds and runs; fails the test when it cannot. */
void rig_start(struct rig *r, const struct rig_options *options);
void rig_stop(struct rig *r);

/* Resets the running machine, and lets it run. */
void rig_reset(struct rig *r);

/* Waits until the console holds `text` behind *offset and moves *offset behind it; fails the test
 * with what the guest said when the time is over. offset may be NULL for "from the beginning". */
void rig_expect(struct rig *r, uint64_t *offset, const char *text, unsigned timeout_ms);

/* Waits until the guest stopped by itself; fails the test when the time is over. */
const struct report *rig_expect_stopped(struct rig *r, unsigned timeout_ms);

/* State of the paused machine; `state` is initialized here. */
void rig_save(struct rig *r, struct buf *state);

/* A new machine, paused, with the old one's memory (as a file, mapped) and this state; the old one
 * is dropped. Its generation is r->config's, or kept. */
void rig_move(struct rig *r, const struct buf *state, enum clock_policy policy);

/* Waits, saves, moves and goes on, at `cycles` random moments. */
void rig_shuffle(struct rig *r, int cycles, enum clock_policy policy);

/* All that is on the console; freed by the caller. */
char *rig_console(struct rig *r);

/* Fails the test when the guest has said FAIL or counted an error. */
void rig_check_clean(struct rig *r);

/* Value of the last `key=` on the console, or -1. */
long rig_last_value(struct rig *r, const char *key);
