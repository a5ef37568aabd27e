/*
 * The I/O thread: a libuv loop of its own on which device timers fire and the backends of devices
 * work, away from the vCPUs and from the worker's main loop.
 *
 * Happy path: io_init, devices take &io->timers and &io->watches, io_start; around a save or a
 * reset io_pause and io_resume; then io_fini. A pause is a handshake: when io_pause returns, the
 * thread stands still and no callback of a device runs until io_resume.
 */
#pragma once

#include <pthread.h>
#include <stdbool.h>
#include <uv.h>

#include "base/err.h"
#include "machine/timer.h"
#include "machine/watch.h"

struct io {
    struct timer_set timers; /* these two for struct device_env */
    struct watch_set watches;
    uv_loop_t loop;
    uv_async_t wake; /* look at `stop` and `pause` */
    uv_poll_t due;   /* on the timers' descriptor */
    uv_poll_t ready; /* on the watches' */
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool started, stop;
    bool pause;  /* wanted */
    bool paused; /* acknowledged by the thread */
};

int io_init(struct io *io, struct err *err);

/* The thread begins; until then timers are armed but do not fire. */
int io_start(struct io *io, struct err *err);

/* Not from the I/O thread; pauses do not nest. A thread not started is at rest anyway. [any] */
void io_pause(struct io *io);
void io_resume(struct io *io);

/* Ends the thread, paused or not. All timers and watches are gone by now. */
void io_fini(struct io *io);
