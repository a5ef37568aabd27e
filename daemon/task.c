/* See task.h. */
#include "daemon/task.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>

struct task {
    uv_async_t wake;
    const struct task_ops *ops;
    void *ctx; /* borrowed */
    pthread_t thread;
    atomic_bool finished;
};

static void on_closed(uv_handle_t *handle)
{
    free(handle->data);
}

static void on_wake(uv_async_t *wake)
{
    struct task *task = wake->data;
    bool finished = atomic_load(&task->finished); /* before the news: none is left behind */
    if (task->ops->news)
        task->ops->news(task->ctx);
    if (!finished)
        return;
    pthread_join(task->thread, NULL);
    uv_close((uv_handle_t *)wake, on_closed);
    task->ops->done(task->ctx);
}

static void *thread_main(void *arg)
{
    struct task *task = arg;
    pthread_setname_np(pthread_self(), "task");
    task->ops->run(task, task->ctx);
    atomic_store(&task->finished, true);
    uv_async_send(&task->wake);
    return NULL;
}

int task_start(uv_loop_t *loop, const struct task_ops *ops, void *ctx, struct err *err)
{
    struct task *task = calloc(1, sizeof(*task));
    if (!task)
        return err_set(err, ENOMEM, "no memory for a task");
    task->ops = ops;
    task->ctx = ctx;
    int rc = uv_async_init(loop, &task->wake, on_wake);
    if (rc < 0) {
        free(task);
        return err_sys(err, -rc, "cannot start a task");
    }
    task->wake.data = task;
    rc = pthread_create(&task->thread, NULL, thread_main, task);
    if (rc == 0)
        return 0;
    uv_close((uv_handle_t *)&task->wake, on_closed);
    return err_sys(err, rc, "cannot start a task");
}

void task_tell(struct task *task)
{
    uv_async_send(&task->wake);
}
