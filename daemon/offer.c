/* See offer.h. */
#include "daemon/offer.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "daemon/dial.h"
#include "proto/frame.h"

#define STREAMS_BY_CHOICE 4u

/* More than half of the CPUs would take them from the guest. */
static unsigned wanted_streams(unsigned asked)
{
    long cpus = sysconf(_SC_NPROCESSORS_ONLN) / 2;
    if (asked)
        return asked < OFFER_STREAMS_MAX ? asked : OFFER_STREAMS_MAX;
    return cpus < 1 ? 1 : cpus > (long)STREAMS_BY_CHOICE ? STREAMS_BY_CHOICE : (unsigned)cpus;
}

/* Who one of the two is stands against it; a peer that is not trusted is asked for nothing more. */
static void take_problems(struct offered *out, const struct tls_problems *problems)
{
    Ferry__PeerAnswer refusal = FERRY__PEER_ANSWER__INIT;
    char *texts[TLS_PROBLEMS_MAX];
    struct err ignored; /* the first of them is told in any case */
    for (unsigned i = 0; i < problems->count; i++)
        texts[i] = (char *)(uintptr_t)problems->texts[i];
    refusal.reasons = texts;
    refusal.n_reasons = problems->count;
    if (problems->count)
        out->refusal = (Ferry__PeerAnswer *)frame_copy(&refusal.base, &ignored);
}

/* more connections ---------------------------------------------------------------------------- */

struct joining {
    const struct offer *offer;
    const Ferry__PeerAccepted *accepted;
    unsigned number;
    pthread_t thread;
    int fd;
    struct tls_key key;
    struct err err;
};

static void *join_main(void *arg)
{
    struct joining *j = arg;
    struct dialed peered;
    Ferry__PeerHello hello = FERRY__PEER_HELLO__INIT;
    Ferry__PeerJoin body = FERRY__PEER_JOIN__INIT;
    const struct offer *o = j->offer;
    body.token = j->accepted->token;
    body.number = j->number;
    hello.body_case = FERRY__PEER_HELLO__BODY_JOIN;
    hello.join = &body;
    j->fd = dial(o->identity, o->to, &hello, o->cancel, &peered, &j->err);
    if (j->fd < 0)
        return NULL;
    if (peered.answer->n_reasons)
        err_set(&j->err, EPERM, "data connection %u: %.400s", j->number, peered.answer->reasons[0]);
    else if (peered.answer->body_case != FERRY__PEER_ANSWER__BODY_ACCEPTED)
        err_set(&j->err, EPROTO, "data connection %u is not answered", j->number);
    if (j->err.code)
        clean_fd(&j->fd);
    frame_free(&peered.answer->base);
    j->key = peered.key;
    tls_key_forget(&peered.key);
    return NULL;
}

/* All at once: the peer's worker does not wait for long. */
static int join_all(const struct offer *o, const Ferry__PeerAccepted *accepted, unsigned streams,
                    struct offered *out, struct err *err)
{
    struct joining joins[LANES_MAX];
    unsigned n = 0;
    int rc = 0;
    for (; rc == 0 && n + 1 < streams; n++) {
        joins[n] = (struct joining){.offer = o, .accepted = accepted, .number = n + 1, .fd = -1};
        int failed = pthread_create(&joins[n].thread, NULL, join_main, &joins[n]);
        if (failed) {
            rc = err_sys(err, failed, "cannot start a data connection");
            break;
        }
    }
    for (unsigned i = 0; i < n; i++) {
        pthread_join(joins[i].thread, NULL);
        if (rc == 0 && joins[i].fd < 0) {
            *err = joins[i].err;
            rc = -err->code;
        }
        if (joins[i].fd >= 0) {
            out->fds[out->count] = joins[i].fd;
            out->keys[out->count++] = joins[i].key;
        }
        tls_key_forget(&joins[i].key);
    }
    return rc;
}

/* the offer ----------------------------------------------------------------------------------- */

static int take_answer(const struct offer *o, Ferry__PeerAnswer *answer, struct offered *out,
                       struct err *err)
{
    if (answer->n_reasons) {
        out->refusal = answer;
        return err_set(err, EPERM, "'%s' cannot go to %s: %s", o->vm, o->peer_name,
                       answer->reasons[0]);
    }
    int rc = 0;
    if (answer->body_case != FERRY__PEER_ANSWER__BODY_ACCEPTED)
        rc = err_set(err, EPROTO, "%s does not answer the offer", o->peer_name);
    else if (answer->accepted->streams > o->body->streams)
        rc = err_set(err, EPROTO, "%s wants %u connections, of %u", o->peer_name,
                     answer->accepted->streams, o->body->streams);
    else if (!o->body->check)
        rc = join_all(o, answer->accepted, answer->accepted->streams, out, err);
    frame_free(&answer->base);
    return rc;
}

int offer_make(const struct offer *o, struct offered *out, struct err *err)
{
    Ferry__PeerHello hello = FERRY__PEER_HELLO__INIT;
    struct dialed peered;
    *out = (struct offered){0};
    o->body->streams = wanted_streams(o->body->streams);
    hello.body_case = FERRY__PEER_HELLO__BODY_OFFER;
    hello.offer = o->body;
    int fd = dial(o->identity, o->to, &hello, o->cancel, &peered, err);
    if (fd < 0) {
        take_problems(out, &peered.problems);
        return fd;
    }
    out->fds[0] = fd;
    out->keys[0] = peered.key;
    out->count = 1;
    tls_key_forget(&peered.key);
    return take_answer(o, peered.answer, out, err);
}

void offered_fini(struct offered *out)
{
    for (unsigned i = 0; i < out->count; i++) {
        clean_fd(&out->fds[i]);
        tls_key_forget(&out->keys[i]);
    }
    frame_free((ProtobufCMessage *)out->refusal);
    out->count = 0;
    out->refusal = NULL;
}
