/*
 * Where other hosts' ferryds come: `--listen ADDR:PORT`. Each connection says one hello
 * (proto/migrate.proto) within 4 s, of at most 64 KiB, and gets one answer; one whose offer is
 * accepted goes on in the worker that is started for it, all others are closed. [loop]
 *
 * With --tls a connection begins with a handshake, within the same 4 s, and a peer whose name is
 * not on the allow list is told so and nothing else. Without it an address that another host can
 * reach is refused unless --insecure says that the network is trusted.
 */
#pragma once

#include "daemon/daemon.h"
#include "migrate/tls_session.h"
#include "proto/migrate.pb-c.h"

#define LISTENER_CALLERS_MAX 64u
#define LISTENER_HELLO_MS 4000u

struct caller;

/* Does nothing without --listen. */
int listener_open(struct daemon *d, struct err *err);
void listener_close(struct daemon *d);

/* The socket of one that has said its hello; a copy of its own, or -errno. */
int caller_copy_socket(const struct caller *c, struct err *err);

/* What the worker that gets that socket goes on with; of no length without TLS. */
int caller_export_key(const struct caller *c, struct tls_key *key, struct err *err);

/* Who it is, for people. */
const char *caller_name(const struct caller *c);

/* Its one answer, and its end. */
void caller_answer(struct caller *c, Ferry__PeerAnswer *answer);
