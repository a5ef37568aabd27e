/*
 * A wire between two ferryds that is cut at a certain frame: it passes on everything, of any number
 * of connections, until that frame comes for the first time.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>

#include "migrate/wire.h"

struct proxy {
    char address[64];    /* where it listens */
    const char *to;      /* HOST:PORT behind it */
    enum wire_kind kind; /* the frame */
    bool pass_on;        /* it still gets through, and nothing behind it */
    int listener;
    atomic_bool was_cut;
};

/* Fails the test when it cannot. Its threads end with the process. */
void proxy_start(struct proxy *p);
