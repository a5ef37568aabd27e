/*
 * Two hosts and a wire with one fault between them (proxy.h): "web" runs on the first and is to go
 * over the wire to the second.
 */
#pragma once

#include "tests/kvm/host.h"
#include "tests/kvm/proxy.h"

struct pair {
    struct host h[2];
    struct proxy *wire;
    pid_t migrate;     /* the vmctl that pair_begin left */
    unsigned verdicts; /* of the guest, before it went */
};

/* Starts hosts, wire and guest; `wire` says what is to happen and where. */
void pair_start(struct pair *p, struct proxy wire);

/* Starts to migrate and waits until the wire has met its message. */
void pair_begin(struct pair *p);

/* Waits for the end of what pair_begin started; its exit status. */
int pair_end(struct pair *p);

/* The guest runs on host `i`, has found nothing wrong, and the other host knows nothing of it. */
void pair_expect_at(struct pair *p, unsigned i);

/* Stops both hosts; fails the test when anything is left. */
void pair_stop(struct pair *p);
