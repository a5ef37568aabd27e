/*
 * Timers of devices. They run on the machine's I/O thread (machine/io.h), whose loop owns them; a
 * device arms and cancels from any thread.
 *
 * The set keeps armed timers in the order of their deadlines and programs a timerfd for the first
 * one: no armed timer, no wake-up. The I/O thread polls the descriptor and calls timer_set_run.
 * Unit tests give the set a clock of their own and call timer_set_run themselves.
 */
#pragma once

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

struct timer;

struct timer_set {
    pthread_mutex_t lock;
    pthread_cond_t fired;       /* `firing` became NULL */
    struct timer *armed;        /* borrowed, earliest first */
    struct timer *firing;       /* borrowed; its fire runs now */
    uint64_t programmed_ns;     /* what the timerfd is set to; 0 = not set */
    int fd;                     /* owned; readable when the first timer is due */
    uint64_t (*clock_ns)(void); /* CLOCK_MONOTONIC, or a test's */
};

struct timer {
    struct timer *next;        /* in the set's list of armed timers */
    struct timer_set *set;     /* borrowed */
    void (*fire)(void *owner); /* [io] without a lock held: the device takes its own */
    void *owner;               /* borrowed */
    uint64_t deadline_ns;      /* of the set's clock; valid while armed */
    bool armed;
};

int timer_set_init(struct timer_set *set, uint64_t (*clock_ns)(void), struct err *err);

/* All timers of the set are gone (timer_fini) by now. */
void timer_set_fini(struct timer_set *set);

/* Fires what is due, each timer at most once, and programs the descriptor for the next. [io] */
void timer_set_run(struct timer_set *set);

/* The time by which deadlines are meant. [any] */
uint64_t timer_now(const struct timer_set *set);

void timer_init(struct timer *t, struct timer_set *set, void (*fire)(void *owner), void *owner);

/* Arms for a moment of the set's clock, instead of what it was armed for. [any] */
void timer_arm(struct timer *t, uint64_t deadline_ns);

/* After it returns the timer is not armed; a fire already under way may still run. [any] */
void timer_cancel(struct timer *t);

/* As timer_cancel, and waits for a fire under way. Not from fire itself, nor under a lock that
 * fire takes. [any] */
void timer_fini(struct timer *t);
