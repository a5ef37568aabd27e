/*
 * Descriptors that the I/O thread waits for: a queue's doorbell, a tap, finished disk requests.
 *
 * A watch calls `ready` on the I/O thread once each time its descriptor becomes readable, not as
 * long as it is: read until there is nothing, or arrange to be called again. An eventfd need not be
 * read at all. All watches lie behind one epoll descriptor, `set.fd`, so that they can be added and
 * removed from any thread; watch_set_run calls those that are due.
 */
#pragma once

#include <pthread.h>
#include <sys/epoll.h>

#include "base/err.h"

#define WATCH_BATCH 16

struct watch_set;

struct watch {
    struct watch_set *set;      /* borrowed; NULL while not added */
    int fd;                     /* borrowed */
    void (*ready)(void *owner); /* [io] */
    void *owner;                /* borrowed */
};

struct watch_set {
    int fd; /* owned: readable while a watch is due */
    pthread_mutex_t lock;
    pthread_cond_t done;
    struct watch *running; /* locked, as the rest */
    struct epoll_event batch[WATCH_BATCH];
    int at, count;
};

int watch_set_init(struct watch_set *set, struct err *err);
void watch_set_fini(struct watch_set *set);

/* Calls what is due, one at a time. [io] */
void watch_set_run(struct watch_set *set);

/* The watch stays where it is until it is removed. A descriptor that is readable already counts as
 * one that becomes so. [any] */
int watch_add(struct watch *w, struct watch_set *set, int fd, void (*ready)(void *owner),
              void *owner, struct err *err);

/* When it returns, `ready` does not run and is not called any more. Not from `ready`, nor under a
 * lock that `ready` takes. Nothing to do for a zeroed watch. [any] */
void watch_remove(struct watch *w);
