/* All that one ferryd is made of. */
#pragma once

#include <stdbool.h>
#include <uv.h>

#include "daemon/events.h"
#include "daemon/peer.h"
#include "daemon/registry.h"
#include "daemon/root.h"

struct server;
struct listener;
struct timeout;
struct tls_identity;
struct migration;

TAILQ_HEAD(event_follower_list, event_follower);
TAILQ_HEAD(migration_list, migration);

struct daemon_options {
    const char *root, *run, *kvm, *log_level, *group;
    const char *worker; /* absolute */
    const char *listen; /* ADDR:PORT for other hosts' ferryds; NULL: none may come */
    const char *tls;    /* directory of who we are for them; NULL: without TLS */
    bool open_reads, insecure;
};

struct daemon {
    struct daemon_options options;
    uv_loop_t loop;
    struct root root;
    struct events events;
    struct registry registry;
    struct peer_rules rules;
    struct server *server; /* NULL until clients may come */
    struct event_follower_list followers;
    struct listener *listener; /* NULL when there is none */
    struct tls_identity *tls;  /* owned; NULL without TLS; never changes */
    struct migration_list migrations;
    struct timeout *doubts; /* until they are asked for again */
};
