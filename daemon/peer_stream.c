/* See peer_stream.h. */
#include "daemon/peer_stream.h"

int peer_stream_init(struct peer_stream *p, int fd, enum stream_tls_role role,
                     const struct tls_key *key, struct err *err)
{
    *p = (struct peer_stream){0};
    stream_socket_init(&p->socket, fd);
    p->stream = &p->socket.stream;
    if (key->len == 0)
        return 0;
    int rc = stream_tls_init(&p->tls, &p->socket.stream, role, key->bytes, err);
    p->stream = &p->tls.stream;
    return rc;
}

void peer_stream_fini(struct peer_stream *p)
{
    stream_tls_fini(&p->tls);
}
