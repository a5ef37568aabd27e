/*
 * Bytes between a task and the loop, with a bound: a task that is ahead of the client waits, and so
 * does one that the client keeps waiting.
 *
 *     [job]  byte_queue_put ──► byte_queue_take [loop]       an export
 *     [loop] byte_queue_add ──► byte_queue_get  [job]        an import
 *
 * byte_queue_stop ends all waiting, for good. [any]
 */
#pragma once

#include <pthread.h>
#include <stdbool.h>
#include <sys/types.h>

#include "base/buf.h"
#include "base/err.h"

/* Once it holds this much nothing more is put, or asked for. */
#define BYTE_QUEUE_HIGH (1u << 20)
/* The most that is added or taken at once. */
#define BYTE_QUEUE_PIECE (256u << 10)

struct byte_queue {
    pthread_mutex_t lock;
    pthread_cond_t moved;
    struct buf bytes;
    bool ended, stopped;
};

void byte_queue_init(struct byte_queue *q);
void byte_queue_fini(struct byte_queue *q);
void byte_queue_stop(struct byte_queue *q);

/* Waits for room; -ECANCELED once stopped. [job] */
int byte_queue_put(struct byte_queue *q, const void *data, size_t len, struct err *err);

/* Waits until all is taken, or it is stopped. [job] */
void byte_queue_flush(struct byte_queue *q);

/* Up to `max` bytes, without waiting; how many. [loop] */
size_t byte_queue_take(struct byte_queue *q, void *to, size_t max);

/* Adds without waiting; `end` says that nothing comes behind it. -ENOBUFS when that is far more
 * than was asked for. [loop] */
int byte_queue_add(struct byte_queue *q, const void *data, size_t len, bool end, struct err *err);

/* Whether more may be asked for. [loop] */
bool byte_queue_wants(struct byte_queue *q);

/* Waits for bytes: how many, 0 at the end, -ECANCELED once stopped. [job] */
ssize_t byte_queue_get(struct byte_queue *q, void *to, size_t max, struct err *err);
