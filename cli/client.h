/*
 * A connection to ferryd. It never blocks by itself: requests are queued, client_pump moves bytes
 * when poll says so, client_take hands out replies. client_wait and client_call put that in a loop
 * for the commands that ask one thing.
 *
 * The happy path: client_connect queues a hello; requests may be queued at once and leave when the
 * hello is answered; each gets replies with its id until one is `last`.
 *
 * Failures end the connection. `lost` tells a ferryd that is gone, or never was there (it may come
 * back), from one that refuses or talks nonsense (trying again would not help).
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "proto/ferry.pb-c.h"

#define CLIENT_VERSION_MIN 1
#define CLIENT_VERSION_MAX 1

/* Requests that may be open at once on one connection, the hello too. */
#define CLIENT_OPEN_MAX 4

/* A ferryd that is there answers the hello within this. */
#define CLIENT_HELLO_MS 5000

/* For requests that ferryd answers by itself, without waiting for a guest. */
#define CLIENT_QUICK_MS 30000

struct client {
    int fd;
    bool ready, lost;
    uint32_t version; /* of the protocol, once ready */
    uint32_t last_id, open[CLIENT_OPEN_MAX];
    size_t may_leave; /* bytes of `out` that the greeting lets go */
    uint64_t hello_until_ns;
    struct buf in, out;
};

/* What a client is before client_connect and after client_close. */
#define CLIENT_NONE                                                                                \
    {                                                                                              \
        .fd = -1                                                                                   \
    }

int client_connect(struct client *c, const char *run, struct err *err);
void client_close(struct client *c);

/* Queues a request and gives it its id. */
int client_post(struct client *c, Ferry__Request *request, struct err *err);

/* Events to poll for. */
short client_interest(const struct client *c);

/* How long a poll may last before client_take must look at the clock; -1 for ever. */
int client_timeout_ms(const struct client *c);

/* Reads and writes what goes. */
int client_pump(struct client *c, short revents, struct err *err);

/* 1 with a reply to an open request (freed with frame_free), 0 when there is none yet. */
int client_take(struct client *c, Ferry__Reply **reply, struct err *err);

/* 0, or what ferryd refused. */
int client_check(const Ferry__Reply *reply, struct err *err);

/*
 * Waits for a reply: 1 with it, 0 after timeout_ms (-1: never) or when `also_fd` (or -1) is
 * readable.
 */
int client_wait(struct client *c, int also_fd, int timeout_ms, Ferry__Reply **reply,
                struct err *err);

/* Posts and waits for the one reply; a refusal is an error. */
int client_call(struct client *c, Ferry__Request *request, int timeout_ms, Ferry__Reply **reply,
                struct err *err);

/* The whole of it: connect, call, close; the reply must have that body. */
int client_ask(const char *run, Ferry__Request *request, Ferry__Reply__BodyCase body,
               Ferry__Reply **reply, struct err *err);

void client_clean(struct client *c);
void client_clean_reply(Ferry__Reply **reply);
