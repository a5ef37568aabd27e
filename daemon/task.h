/*
 * Work that blocks, on a thread of its own, for the loop that started it: reading and checking
 * snapshots, talking to a worker's job socket.
 *
 * `run` is called on the new thread; `news` on the loop, some time after each task_tell; `done` on
 * the loop, once, when `run` has returned and the thread is gone. The context is the owner's and
 * lives until `done`.
 */
#pragma once

#include <uv.h>

#include "base/err.h"

struct task;

struct task_ops {
    void (*run)(struct task *task, void *ctx); /* [job] */
    void (*news)(void *ctx);                   /* [loop] may be NULL */
    void (*done)(void *ctx);                   /* [loop] */
};

/* [loop] */
int task_start(uv_loop_t *loop, const struct task_ops *ops, void *ctx, struct err *err);

/* Has `news` called. [job] */
void task_tell(struct task *task);
