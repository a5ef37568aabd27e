/*
 * What other hosts' ferryds ask of this one.
 *
 *     offer    could this guest come, and, unless it is only asked: here it is
 *     query    what became of the guest that was handed off
 *
 * An offer is looked at as a whole, and all that stands against it is said at once. One that is
 * accepted defines the VM and starts a worker that waits for the guest; when it does not arrive,
 * the VM is forgotten. [loop]
 */
#pragma once

#include "daemon/listener.h"

void incoming_offer(struct daemon *d, struct caller *c, Ferry__PeerOffer *offer);
void incoming_query(struct daemon *d, struct caller *c, const Ferry__PeerQuery *query);

/* It has left before its answer. */
void incoming_forget(struct caller *c);
