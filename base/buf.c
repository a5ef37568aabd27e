/* See buf.h. */
#include "base/buf.h"

#include <stdlib.h>
#include <string.h>

#include "base/le.h"

void buf_init(struct buf *b, size_t max)
{
    *b = (struct buf){.max = max};
}

void buf_fini(struct buf *b)
{
    free(b->data);
    *b = (struct buf){0};
}

uint8_t *buf_reserve(struct buf *b, size_t n)
{
    if (n > b->max - b->len)
        return NULL;
    if (b->len + n > b->cap || !b->data) {
        size_t cap = b->cap ? b->cap : 256;
        while (cap < b->len + n && cap <= b->max / 2)
            cap *= 2;
        if (cap < b->len + n || cap > b->max)
            cap = b->max;
        uint8_t *data = realloc(b->data, cap);
        if (!data)
            return NULL;
        b->data = data;
        b->cap = cap;
    }
    return b->data + b->len;
}

int buf_append(struct buf *b, const void *data, size_t n)
{
    if (n == 0)
        return 0;
    uint8_t *to = buf_reserve(b, n);
    if (!to)
        return -1;
    memcpy(to, data, n);
    b->len += n;
    return 0;
}

int buf_append_le(struct buf *b, uint64_t value, unsigned bytes)
{
    uint8_t raw[8];
    le_put(raw, value, bytes);
    return buf_append(b, raw, bytes);
}

void buf_consume(struct buf *b, size_t n)
{
    if (n >= b->len) {
        b->len = 0;
        return;
    }
    memmove(b->data, b->data + n, b->len - n);
    b->len -= n;
}

const uint8_t *span_take(struct span *s, size_t n)
{
    if (n > s->left)
        return NULL;
    const uint8_t *out = s->at;
    s->at += n;
    s->left -= n;
    return out;
}

bool span_le(struct span *s, unsigned bytes, uint64_t *value)
{
    const uint8_t *raw = span_take(s, bytes);
    if (!raw)
        return false;
    *value = le_get(raw, bytes);
    return true;
}
