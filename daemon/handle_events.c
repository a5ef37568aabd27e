/*
 * events: those that are kept, then, with `follow`, those to come. A follower holds a number, not
 * events: one that does not read costs nothing, and one that is more than the ring behind goes on
 * with the oldest that is kept.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/handle_events.h"
#include "daemon/handlers.h"

struct event_follower {
    TAILQ_ENTRY(event_follower) all;
    struct request *request;
    uint64_t next;
};

static bool wanted(const struct request *rq, const Ferry__Event *event)
{
    const char *name = rq->message->events->name;
    return name[0] == '\0' || strcmp(name, event->vm) == 0;
}

/* Sends what there is as far as the client reads; true when all is sent. */
static bool pump(struct event_follower *f)
{
    const Ferry__Event *event;
    const struct events *events = &f->request->daemon->events;
    while ((event = events_from(events, f->next))) {
        if (request_is_full(f->request))
            return false;
        f->next = event->seq + 1;
        Ferry__Reply reply = FERRY__REPLY__INIT;
        reply.body_case = FERRY__REPLY__BODY_EVENT;
        reply.event = (Ferry__Event *)event;
        if (wanted(f->request, event))
            request_send(f->request, &reply);
    }
    return true;
}

static void drop(struct request *rq)
{
    struct event_follower *f = rq->state;
    TAILQ_REMOVE(&rq->daemon->followers, f, all);
}

static void go_on(struct request *rq)
{
    if (!pump(rq->state) || rq->message->events->follow)
        return;
    drop(rq);
    request_done(rq, NULL);
}

void handle_events_added(void *ctx)
{
    struct daemon *d = ctx;
    struct event_follower *f;
    TAILQ_FOREACH(f, &d->followers, all)
    if (f->request->message->events->follow)
        pump(f);
}

int handle_events(struct request *rq, struct err *err)
{
    uint64_t after = rq->message->events->after_seq;
    struct event_follower *f = calloc(1, sizeof(*f));
    if (!f)
        return err_set(err, ENOMEM, "no memory for a follower of events");
    f->request = rq;
    f->next = after < UINT64_MAX ? after + 1 : after;
    TAILQ_INSERT_TAIL(&rq->daemon->followers, f, all);
    rq->state = f;
    rq->drop = drop;
    rq->drained = go_on;
    go_on(rq);
    return 0;
}
