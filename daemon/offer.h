/*
 * A guest that is offered to another host's ferryd: one connection with the offer, and when it is
 * accepted as many more as were agreed on, each joined by the token that came with the answer.
 * Blocks. [job]
 */
#pragma once

#include <stdatomic.h>

#include "daemon/peer_address.h"
#include "migrate/lanes_out.h"
#include "migrate/tls_session.h"
#include "proto/migrate.pb-c.h"

#define OFFER_STREAMS_MAX (LANES_MAX + 1u)

struct offer {
    const struct tls_identity *identity; /* borrowed, all of it; NULL: without TLS */
    const struct peer_address *to;
    const char *vm, *peer_name; /* for people */
    Ferry__PeerOffer *body;     /* with the streams that are wanted; 0: chosen by CPUs */
    const atomic_bool *cancel;
};

struct offered {
    int fds[OFFER_STREAMS_MAX]; /* owned; the offer's first */
    struct tls_key keys[OFFER_STREAMS_MAX];
    unsigned count;
    Ferry__PeerAnswer *refusal; /* owned: all that stands against it; or NULL */
};

/* On failure `refusal` may say why. `out` is to be ended in any case. */
int offer_make(const struct offer *o, struct offered *out, struct err *err);
void offered_fini(struct offered *out);
