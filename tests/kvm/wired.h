/*
 * Two hosts, each a ferryd in a network namespace with a bridge `br0`, joined by a veth. The first
 * is in the test's own namespace, where the peer of guests is, too.
 *
 *     peer ── br0 ── a0 ═══ b0 ── br0
 *              └ guest's tap       └ guest's tap
 */
#pragma once

#include "tests/kvm/host.h"

#define WIRED_OTHER "10.77.0.11"

struct wired {
    struct host h[2];
    char address[2][100]; /* for a migration to it */
};

/* After network_need. */
void wired_start(struct wired *w);
/* No guest is left. */
void wired_stop(struct wired *w);

/* Runs a command of a shell where the second host is. */
void wired_run_other(struct wired *w, const char *command);
