/* All that one ferryd is made of. */
#pragma once

#include <stdbool.h>
#include <uv.h>

#include "daemon/events.h"
#include "daemon/peer.h"
#include "daemon/registry.h"
#include "daemon/root.h"

struct server;

TAILQ_HEAD(event_follower_list, event_follower);

struct daemon_options {
    const char *root, *run, *kvm, *log_level, *group;
    const char *worker; /* absolute */
    bool open_reads;
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
};
