/* A one-shot timer that is gone when it has fired or was cancelled; libuv keeps its own memory as
 * long as it needs it. [loop] */
#pragma once

#include <stdint.h>
#include <uv.h>

struct timeout;

/*
 * Calls fn(ctx) after `ms`, with *slot already NULL. *slot holds the timer until then; one that was
 * in it is cancelled first. Without memory nothing is armed and *slot is NULL.
 */
void timeout_set(struct timeout **slot, uv_loop_t *loop, uint64_t ms, void (*fn)(void *ctx),
                 void *ctx);
void timeout_cancel(struct timeout **slot);
