/* See byte_queue.h. */
#include "daemon/byte_queue.h"

#include <errno.h>
#include <string.h>

#define QUEUE_MAX (4u * BYTE_QUEUE_HIGH)

void byte_queue_init(struct byte_queue *q)
{
    *q = (struct byte_queue){.ended = false};
    pthread_mutex_init(&q->lock, NULL);
    pthread_cond_init(&q->moved, NULL);
    buf_init(&q->bytes, QUEUE_MAX);
}

void byte_queue_fini(struct byte_queue *q)
{
    buf_fini(&q->bytes);
    pthread_cond_destroy(&q->moved);
    pthread_mutex_destroy(&q->lock);
}

void byte_queue_stop(struct byte_queue *q)
{
    pthread_mutex_lock(&q->lock);
    q->stopped = true;
    pthread_cond_broadcast(&q->moved);
    pthread_mutex_unlock(&q->lock);
}

static int append(struct byte_queue *q, const void *data, size_t len, struct err *err)
{
    if (buf_append(&q->bytes, data, len) < 0)
        return err_set(err, ENOBUFS, "more than %u bytes wait to be taken", QUEUE_MAX);
    pthread_cond_broadcast(&q->moved);
    return 0;
}

static int put_piece(struct byte_queue *q, const void *data, size_t len, struct err *err)
{
    pthread_mutex_lock(&q->lock);
    while (!q->stopped && q->bytes.len >= BYTE_QUEUE_HIGH)
        pthread_cond_wait(&q->moved, &q->lock);
    int rc = q->stopped ? err_set(err, ECANCELED, "it was cancelled") : append(q, data, len, err);
    pthread_mutex_unlock(&q->lock);
    return rc;
}

int byte_queue_put(struct byte_queue *q, const void *data, size_t len, struct err *err)
{
    const uint8_t *from = data;
    int rc = 0;
    while (rc == 0 && len) {
        size_t n = len < BYTE_QUEUE_PIECE ? len : BYTE_QUEUE_PIECE;
        rc = put_piece(q, from, n, err);
        from += n;
        len -= n;
    }
    return rc;
}

void byte_queue_flush(struct byte_queue *q)
{
    pthread_mutex_lock(&q->lock);
    while (!q->stopped && q->bytes.len)
        pthread_cond_wait(&q->moved, &q->lock);
    pthread_mutex_unlock(&q->lock);
}

static size_t take(struct byte_queue *q, void *to, size_t max)
{
    size_t n = q->bytes.len < max ? q->bytes.len : max;
    if (n) {
        memcpy(to, q->bytes.data, n);
        buf_consume(&q->bytes, n);
        pthread_cond_broadcast(&q->moved);
    }
    return n;
}

size_t byte_queue_take(struct byte_queue *q, void *to, size_t max)
{
    pthread_mutex_lock(&q->lock);
    size_t n = take(q, to, max);
    pthread_mutex_unlock(&q->lock);
    return n;
}

int byte_queue_add(struct byte_queue *q, const void *data, size_t len, bool end, struct err *err)
{
    pthread_mutex_lock(&q->lock);
    int rc = q->ended ? err_set(err, EPROTO, "data behind its end") : append(q, data, len, err);
    if (rc == 0)
        q->ended = end;
    pthread_mutex_unlock(&q->lock);
    return rc;
}

bool byte_queue_wants(struct byte_queue *q)
{
    pthread_mutex_lock(&q->lock);
    bool wants = q->bytes.len < BYTE_QUEUE_HIGH || q->stopped;
    pthread_mutex_unlock(&q->lock);
    return wants;
}

ssize_t byte_queue_get(struct byte_queue *q, void *to, size_t max, struct err *err)
{
    pthread_mutex_lock(&q->lock);
    while (!q->stopped && !q->ended && q->bytes.len == 0)
        pthread_cond_wait(&q->moved, &q->lock);
    ssize_t n =
        q->stopped ? err_set(err, ECANCELED, "it was cancelled") : (ssize_t)take(q, to, max);
    pthread_mutex_unlock(&q->lock);
    return n;
}
