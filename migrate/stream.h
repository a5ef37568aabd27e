/*
 * What a migration runs over: an ordered, reliable stream of bytes to the peer, with a clock. The
 * engines know nothing of sockets or encryption; the sim tier runs them over memory with virtual
 * time.
 *
 * Both calls wait at most until `until_ns` of the stream's own clock (a moment that is past: they
 * only try) and then fail with -ETIMEDOUT. They move at least one byte, not necessarily all.
 */
#pragma once

#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "base/err.h"

#define STREAM_IOV_MAX 512u

struct stream_ops {
    ssize_t (*write)(void *ctx, const struct iovec *iov, unsigned count, uint64_t until_ns,
                     struct err *err);
    /* 0: the peer has closed its end. */
    ssize_t (*read)(void *ctx, const struct iovec *iov, unsigned count, uint64_t until_ns,
                    struct err *err);
    uint64_t (*now_ns)(void *ctx);
};

struct stream {
    const struct stream_ops *ops; /* borrowed */
    void *ctx;                    /* borrowed */
};

static inline uint64_t stream_now_ns(const struct stream *s)
{
    return s->ops->now_ns(s->ctx);
}
