/*
 * The connection between two daemons before workers have it: plain, or TLS when the daemon has an
 * identity (--tls). Neither call waits.
 */
#pragma once

#include <stddef.h>
#include <sys/types.h>

#include "base/err.h"
#include "migrate/tls_session.h"

struct peer_line {
    int fd;                  /* owned by who opened it */
    struct tls_session *tls; /* owned; NULL for a plain one */
};

/* -EAGAIN: not now; `want` is what to poll for. 0 from recv: the peer has closed its end. */
ssize_t peer_line_send(const struct peer_line *l, const void *data, size_t bytes, short *want,
                       struct err *err);
ssize_t peer_line_recv(const struct peer_line *l, void *to, size_t size, short *want,
                       struct err *err);
