/*
 * ferryd's way to another host's ferryd: connects, greets by TLS when it has an identity, says a
 * hello, hears the answer. Blocks, for a task's thread; gives up after DIAL_MS for each of them,
 * and within 100 ms when it is cancelled. [job]
 */
#pragma once

#include <stdatomic.h>

#include "base/err.h"
#include "daemon/peer_address.h"
#include "migrate/tls_session.h"
#include "migrate/wire.h"
#include "proto/migrate.pb-c.h"

#define PEER_PROTOCOL WIRE_VERSION
#define PEER_BODY_MAX 65536u
#define DIAL_MS 4000

/* Sets what every migration's socket has: no delay, and a peer that is gone is noticed. [any] */
void dial_prepare_socket(int fd);

/* What came of it; the answer is freed by frame_free, the key forgotten. */
struct dialed {
    Ferry__PeerAnswer *answer;
    struct tls_key key;           /* for the worker that gets the socket */
    struct tls_problems problems; /* what stands against the identity of one of the two */
};

/* The connected socket (blocking mode is not used). `identity` NULL: without TLS. */
int dial(const struct tls_identity *identity, const struct peer_address *to,
         Ferry__PeerHello *hello, const atomic_bool *cancel, struct dialed *out, struct err *err);
