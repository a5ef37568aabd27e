/* See join.h. */
#include "daemon/join.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/name.h"
#include "daemon/job_client.h"
#include "daemon/task.h"
#include "proto/frame.h"

/* A guest whose connections may still come. */
struct awaited {
    struct tenant_watch watch; /* first: its callback gets this by it */
    LIST_ENTRY(awaited) all;
    const struct tenant *tenant; /* borrowed */
    struct uuid token;
    unsigned streams, here; /* here: a bit for each number */
};

static LIST_HEAD(awaited_list, awaited) awaited = LIST_HEAD_INITIALIZER(awaited);

/* One on its way to the worker. */
struct joining {
    LIST_ENTRY(joining) all;
    struct daemon *daemon; /* borrowed */
    struct caller *caller; /* NULL once it left */
    char vm[NAME_MAX_CHARS + 1];
    unsigned number;
    int fd; /* owned */
    struct tls_key key;
    struct err err;
};

static LIST_HEAD(joining_list, joining) joining = LIST_HEAD_INITIALIZER(joining);

static void on_moved(struct tenant_watch *watch, bool removed)
{
    struct awaited *a = (struct awaited *)watch;
    if (!removed && tenant_in(a->tenant, STATE_BIT(STARTING)))
        return;
    tenant_unwatch(watch);
    LIST_REMOVE(a, all);
    free(a);
}

int join_expect(struct daemon *d, struct tenant *t, unsigned streams, struct uuid *token,
                struct err *err)
{
    struct awaited *a = calloc(1, sizeof(*a));
    if (!a)
        return err_set(err, ENOMEM, "no memory for a token");
    int rc = uuid_make(&a->token, err);
    if (rc < 0) {
        free(a);
        return rc;
    }
    *token = a->token;
    a->tenant = t;
    a->streams = streams;
    a->here = 1; /* the offer's */
    LIST_INSERT_HEAD(&awaited, a, all);
    tenant_watch(t, &a->watch, on_moved);
    return 0;
}

static void answer(struct caller *c, const struct err *why)
{
    Ferry__PeerAnswer reply = FERRY__PEER_ANSWER__INIT;
    Ferry__PeerAccepted accepted = FERRY__PEER_ACCEPTED__INIT;
    char *reason = why ? (char *)(uintptr_t)why->text : NULL;
    reply.reasons = &reason;
    reply.n_reasons = why != NULL;
    if (!why) {
        reply.body_case = FERRY__PEER_ANSWER__BODY_ACCEPTED;
        reply.accepted = &accepted;
    }
    caller_answer(c, &reply);
}

/* to the worker ------------------------------------------------------------------------- [job] */

static int hand_over(struct joining *j, struct job_client *client, struct err *err)
{
    Ferry__WorkerJoin ask = FERRY__WORKER_JOIN__INIT;
    Ferry__WorkerRequest request = FERRY__WORKER_REQUEST__INIT;
    ask.number = j->number;
    ask.tls_key = (ProtobufCBinaryData){.data = j->key.bytes, .len = j->key.len};
    request.body_case = FERRY__WORKER_REQUEST__BODY_JOIN;
    request.join = &ask;
    int rc = job_client_open(client, &j->daemon->root, j->vm, &request, &j->fd, 1, err);
    Ferry__WorkerReply *reply = rc < 0 ? NULL : job_client_receive(client, err);
    if (!reply)
        return -err->code;
    frame_free(&reply->base);
    return 0;
}

static void on_run(struct task *task, void *ctx)
{
    struct joining *j = ctx;
    struct job_client client = {.fd = -1};
    struct err err = {0};
    if (hand_over(j, &client, &err) < 0)
        j->err = err;
    job_client_close(&client);
    clean_fd(&j->fd);
    tls_key_forget(&j->key);
}

static void on_done(void *ctx)
{
    struct joining *j = ctx;
    LIST_REMOVE(j, all);
    if (j->caller)
        answer(j->caller, j->err.code ? &j->err : NULL);
    free(j);
}

static const struct task_ops ops = {.run = on_run, .done = on_done};

/* ------------------------------------------------------------------------------------- [loop] */

static struct awaited *find(const ProtobufCBinaryData *token)
{
    struct awaited *a;
    LIST_FOREACH(a, &awaited, all)
    if (token->len == sizeof(a->token.bytes) &&
        memcmp(token->data, a->token.bytes, sizeof(a->token.bytes)) == 0)
        return a;
    return NULL;
}

/* A number is used up by being shown. */
static int admit(const Ferry__PeerJoin *join, const struct tenant **t, struct err *err)
{
    struct awaited *a = find(&join->token);
    if (!a)
        return err_set(err, EPERM, "no guest waits for a connection with that token");
    if (join->number == 0 || join->number >= a->streams)
        return err_set(err, EINVAL, "the connection has the number %u of %u", join->number,
                       a->streams);
    if (a->here & 1u << join->number)
        return err_set(err, EEXIST, "connection %u has come already", join->number);
    a->here |= 1u << join->number;
    *t = a->tenant;
    return 0;
}

static int begin(struct daemon *d, struct caller *c, const struct tenant *t, unsigned number,
                 struct err *err)
{
    struct joining *j = calloc(1, sizeof(*j));
    if (!j)
        return err_set(err, ENOMEM, "no memory for a connection");
    *j = (struct joining){.daemon = d, .caller = c, .number = number};
    memcpy(j->vm, t->name, strlen(t->name) + 1);
    int rc = j->fd = caller_copy_socket(c, err);
    if (rc >= 0)
        rc = caller_export_key(c, &j->key, err);
    if (rc >= 0)
        rc = task_start(&d->loop, &ops, j, err);
    if (rc < 0) {
        clean_fd(&j->fd);
        tls_key_forget(&j->key);
        free(j);
        return rc;
    }
    LIST_INSERT_HEAD(&joining, j, all);
    return 0;
}

void join_arrived(struct daemon *d, struct caller *c, const Ferry__PeerJoin *join)
{
    const struct tenant *t = NULL;
    struct err err = {0};
    int rc = admit(join, &t, &err);
    if (rc == 0)
        rc = begin(d, c, t, join->number, &err);
    if (rc < 0)
        answer(c, &err);
}

void join_forget(struct caller *c)
{
    struct joining *j;
    LIST_FOREACH(j, &joining, all)
    if (j->caller == c)
        j->caller = NULL;
}
