/*
 * ferryd's way to another host's ferryd: connects, says a hello, hears the answer. Blocks, for a
 * task's thread; gives up after DIAL_MS for each of the three, and within 100 ms when it is
 * cancelled. [job]
 */
#pragma once

#include <stdatomic.h>

#include "base/err.h"
#include "daemon/peer_address.h"
#include "proto/migrate.pb-c.h"

#define PEER_PROTOCOL 1u
#define PEER_BODY_MAX 65536u
#define DIAL_MS 5000

/* Sets what every migration's socket has: no delay, and a peer that is gone is noticed. [any] */
void dial_prepare_socket(int fd);

/* The connected socket (blocking mode is not used), with *answer freed by frame_free. */
int dial(const struct peer_address *to, Ferry__PeerHello *hello, const atomic_bool *cancel,
         Ferry__PeerAnswer **answer, struct err *err);
