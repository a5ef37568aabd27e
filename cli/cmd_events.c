/* vmctl events: what happened, and with --follow what happens. */
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>

#include "base/cleanup.h"
#include "cli/commands.h"
#include "cli/events.h"
#include "cli/interrupt.h"
#include "cli/link.h"

struct follow {
    const struct args *args;
    struct link link;
    uint64_t seen; /* the newest event's number */
    bool ended;
};

static int ask(struct follow *f, struct err *err)
{
    Ferry__Request request = FERRY__REQUEST__INIT;
    Ferry__EventsRequest events = FERRY__EVENTS_REQUEST__INIT;
    events.follow = f->args->follow;
    events.after_seq = f->seen;
    if (f->args->words[0])
        events.name = (char *)f->args->words[0];
    request.body_case = FERRY__REQUEST__BODY_EVENTS;
    request.events = &events;
    return client_post(&f->link.client, &request, err);
}

static int print(struct follow *f, const Ferry__Reply *reply, struct err *err)
{
    int rc = client_check(reply, err);
    if (rc == 0 && reply->body_case == FERRY__REPLY__BODY_EVENT) {
        f->seen = reply->event->seq;
        rc = f->args->json ? events_json(stdout, reply->event, err)
                           : events_print(stdout, reply->event);
    }
    f->ended = rc == 0 && reply->last;
    return rc;
}

/* All that is there; what was printed is seen at once. */
static int drain(struct follow *f, struct err *err)
{
    int rc = 0;
    bool any = false;
    while (rc == 0 && !f->ended) {
        CLEAN(client_clean_reply) Ferry__Reply *reply = NULL;
        rc = link_take(&f->link, &reply, err);
        if (rc <= 0)
            break;
        any = true;
        rc = print(f, reply, err);
    }
    if (rc == 0 && any && fflush(stdout) != 0 && errno != EINTR)
        return err_sys(err, errno, "cannot write the events");
    return rc;
}

static int follow(struct follow *f, const struct interrupt *interrupt, struct err *err)
{
    int rc = ask(f, err);
    while (rc == 0 && !interrupt_came(interrupt)) {
        rc = drain(f, err);
        if (rc < 0 || f->ended)
            break;
        struct pollfd fds[] = {
            {.fd = link_fd(&f->link), .events = client_interest(&f->link.client)},
            {.fd = interrupt->fd, .events = POLLIN}};
        if (poll(fds, 2, link_timeout_ms(&f->link)) < 0 && errno != EINTR)
            return err_sys(err, errno, "cannot wait for events");
        rc = link_pump(&f->link, fds[0].revents, err);
        if (rc == 1)
            rc = ask(f, err);
    }
    return rc;
}

int cmd_events(const struct args *args, struct err *err)
{
    struct follow f = {.args = args, .link = {.client = CLIENT_NONE}};
    struct interrupt interrupt = INTERRUPT_NONE;
    int rc = link_open(&f.link, args->run, err);
    if (rc == 0 && args->follow)
        rc = interrupt_open(&interrupt, true, err);
    if (rc == 0)
        rc = follow(&f, &interrupt, err);
    link_close(&f.link);
    interrupt_close(&interrupt);
    return rc;
}
