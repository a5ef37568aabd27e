/*
 * Timers of devices. They run on the machine's I/O thread (machine/io.h), whose loop owns them; a
 * device arms and cancels from any thread.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct timer_set;

struct timer {
    struct timer *next;        /* in the set's list of armed timers */
    struct timer_set *set;     /* borrowed */
    void (*fire)(void *owner); /* [io] without a lock held: the device takes its own */
    void *owner;               /* borrowed */
    uint64_t deadline_ns;      /* CLOCK_MONOTONIC; valid while armed */
    bool armed;
};

void timer_init(struct timer *t, struct timer_set *set, void (*fire)(void *owner), void *owner);

/* Arms for a moment of CLOCK_MONOTONIC, instead of what it was armed for. [any] */
void timer_arm(struct timer *t, uint64_t deadline_ns);

/* After it returns the timer is not armed; a fire already under way may still run. [any] */
void timer_cancel(struct timer *t);

/* As timer_cancel, and waits for a fire under way. Not from fire itself, nor under a lock that
 * fire takes. [any] */
void timer_fini(struct timer *t);
