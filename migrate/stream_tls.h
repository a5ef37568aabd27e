/*
 * A stream inside of another one, as TLS 1.3 with a key that both ends have: what two daemons have
 * agreed on (tls_session.h) goes on between their workers, who so have no certificate and no
 * private key of the host. The handshake is part of the first write or read; whatever it waits for
 * is waited for in the stream below, by its clock.
 *
 * A peer with another key, or a byte that was changed on the way, is an error; an end of the stream
 * below is an end here, so that a message of the engines has to say when all is told.
 */
#pragma once

#include <stdbool.h>

#include "migrate/stream.h"

#define STREAM_TLS_KEY_BYTES 32u
#define STREAM_TLS_REKEY_BYTES (64ull << 30) /* far below what one key may encrypt */

struct ssl_st;
struct ssl_ctx_st;

enum stream_tls_role { STREAM_TLS_ASKS, STREAM_TLS_ANSWERS };

struct stream_tls {
    struct stream stream;
    const struct stream *below; /* borrowed */
    struct ssl_ctx_st *context; /* owned */
    struct ssl_st *session;     /* owned */
    uint8_t key[STREAM_TLS_KEY_BYTES];
    uint64_t until_ns;  /* of the call that is under way */
    struct err failure; /* of the stream below, in that call */
    bool ended;         /* by the peer, in that call */
    uint64_t rekey_bytes, written;
    uint8_t *room; /* owned: what is gathered to one record */
};

/* The key is copied. */
int stream_tls_init(struct stream_tls *t, const struct stream *below, enum stream_tls_role role,
                    const uint8_t key[STREAM_TLS_KEY_BYTES], struct err *err);

/* Says nothing to the peer. Also of one whose init failed. */
void stream_tls_fini(struct stream_tls *t);
