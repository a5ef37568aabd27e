/*
 * A wire between two ferryds with one fault: it passes on everything, of any number of connections,
 * until a certain message comes for the first time. Then it is cut there, or nothing goes on that
 * way until it is let go, or a bit of the message is turned.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>

#include "migrate/wire.h"

/* What comes before the frames, beside enum wire_kind. */
#define PROXY_HELLO 128u
#define PROXY_ANSWER 129u

enum proxy_fault { PROXY_CUT, PROXY_HOLD, PROXY_CORRUPT };

struct proxy {
    char address[64]; /* where it listens */
    const char *to;   /* HOST:PORT behind it */
    unsigned kind;    /* the message */
    enum proxy_fault fault;
    bool pass_on; /* it still gets through, and nothing behind it */
    bool closes;  /* from then on nobody is let through any more */
    int listener;
    atomic_bool met, closed, released; /* the message has come; nobody gets through; it goes on */
};

/* Fails the test when it cannot. Its threads end with the process. */
void proxy_start(struct proxy *p);

/* Waits until the message has come; fails the test when it does not. */
void proxy_wait(struct proxy *p);

/* What is held goes on, and callers get through. */
void proxy_release(struct proxy *p);
