/*
 * Guests in doubt: each is asked for at its peer, once a second, until the peer tells what became
 * of it; then its worker hears that, or, when that is dead, the record of ownership. Nothing else
 * resolves a doubt but `migration resolve`. [loop]
 */
#pragma once

#include "daemon/daemon.h"

/* Looks after all of them from here on. */
void doubt_watch(struct daemon *d);
void doubt_end(struct daemon *d);
