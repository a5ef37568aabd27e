/*
 * The peer of the net guest: a thread that sends back what the guest sends to port 7, and talks to
 * the guest's own port 7, each packet with bytes of its own, which have to come back.
 */
#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define TALK_HOST "10.77.0.1"
#define TALK_GUEST "10.77.0.2"

struct talk {
    int echo_fd, ask_fd, stop_fd; /* owned */
    pthread_t thread;
    uint32_t number, seed; /* of the thread */
    atomic_ulong echoed, asked, answered, wrong;
};

/* In the network namespace of the caller, over interface `device`, or any for NULL. */
void talk_start(struct talk *t, const char *device);
/* Fails the test when a wrong answer came. */
void talk_stop(struct talk *t);

/* Waits until `more` packets went both ways from now on. */
void talk_expect(struct talk *t, unsigned long more);
