/* The worker's end of a migration's connection: a socket and, with a key from ferryd, TLS in it. */
#pragma once

#include "migrate/stream_socket.h"
#include "migrate/stream_tls.h"
#include "migrate/tls_session.h"

struct peer_stream {
    struct stream_socket socket;
    struct stream_tls tls;
    const struct stream *stream; /* one of the two */
};

/* The socket stays the caller's; a key of no length is for a plain one. */
int peer_stream_init(struct peer_stream *p, int fd, enum stream_tls_role role,
                     const struct tls_key *key, struct err *err);
void peer_stream_fini(struct peer_stream *p);
