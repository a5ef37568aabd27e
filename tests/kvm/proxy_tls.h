/*
 * As proxy.h, for two daemons that speak TLS: it stands in the middle with a certificate that both
 * of them take, so that it sees the frames. The wire is cut where a certain frame comes first.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>

#include "migrate/tls_identity.h"
#include "migrate/wire.h"

struct proxy_tls {
    char address[64];                    /* where it listens */
    char to[64];                         /* HOST:PORT behind it */
    enum wire_kind kind;                 /* the frame */
    bool pass_on;                        /* it still gets through, and nothing behind it */
    const struct tls_identity *identity; /* borrowed */
    int listener;
    atomic_bool was_cut;
};

/* Fails the test when it cannot. Its threads end with the process. */
void proxy_tls_start(struct proxy_tls *p);
