/* See timeout.h. */
#include "daemon/timeout.h"

#include <stdlib.h>

struct timeout {
    uv_timer_t timer;
    struct timeout **slot; /* borrowed */
    void (*fn)(void *ctx);
    void *ctx;
};

static void on_closed(uv_handle_t *handle)
{
    free(handle->data);
}

static void on_timer(uv_timer_t *timer)
{
    struct timeout *t = timer->data;
    *t->slot = NULL;
    uv_close((uv_handle_t *)timer, on_closed);
    t->fn(t->ctx);
}

void timeout_set(struct timeout **slot, uv_loop_t *loop, uint64_t ms, void (*fn)(void *ctx),
                 void *ctx)
{
    timeout_cancel(slot);
    struct timeout *t = calloc(1, sizeof(*t));
    if (!t)
        return;
    *t = (struct timeout){.slot = slot, .fn = fn, .ctx = ctx};
    uv_timer_init(loop, &t->timer);
    t->timer.data = t;
    uv_update_time(loop);
    uv_timer_start(&t->timer, on_timer, ms, 0);
    *slot = t;
}

void timeout_cancel(struct timeout **slot)
{
    struct timeout *t = *slot;
    if (!t)
        return;
    *slot = NULL;
    uv_close((uv_handle_t *)&t->timer, on_closed);
}
