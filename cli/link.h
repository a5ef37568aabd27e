/*
 * A client that comes back: guests run on while ferryd is restarted, and so do the commands that
 * follow something. When the connection is lost, the link says so on standard error, tries again
 * for LINK_PATIENCE_MS and then gives up. What was open is gone then: the owner asks anew, from
 * where it was.
 */
#pragma once

#include "cli/client.h"

#define LINK_PATIENCE_MS 15000
#define LINK_RETRY_MS 50

struct link {
    const char *run; /* borrowed */
    struct client client;
    bool met;  /* a hello was answered: it is a ferryd that can come back */
    bool away; /* was lost, has not answered a hello since */
    uint64_t retry_ns, give_up_ns;
};

/* The first connection; here a missing ferryd is an error at once. */
int link_open(struct link *l, const char *run, struct err *err);
void link_close(struct link *l);
void link_clean(struct link *l);

/* What to poll: -1 while there is no connection. */
int link_fd(const struct link *l);
int link_timeout_ms(const struct link *l);

/*
 * After each poll, with what it said (0 for nothing). 1: there is a new connection, on which
 * nothing is asked yet. 0: go on. < 0: given up, or ferryd talks nonsense.
 */
int link_pump(struct link *l, short revents, struct err *err);

/* As client_take; a lost connection is 0. */
int link_take(struct link *l, Ferry__Reply **reply, struct err *err);
