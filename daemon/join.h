/*
 * The data connections of a guest that comes: each shows the token that was given with the answer
 * to the offer, and a number of its own, once; then its socket goes to the worker that waits. A
 * token is good until the guest runs, or is forgotten. [loop]
 */
#pragma once

#include "base/uuid.h"
#include "daemon/listener.h"
#include "daemon/tenant.h"

/* So many connections, the first of them included, come for that VM; makes the token. */
int join_expect(struct daemon *d, struct tenant *t, unsigned streams, struct uuid *token,
                struct err *err);

/* One is here. */
void join_arrived(struct daemon *d, struct caller *c, const Ferry__PeerJoin *join);

/* It has left before its answer. */
void join_forget(struct caller *c);
