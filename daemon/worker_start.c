/* See worker_start.h. */
#include "daemon/worker_start.h"

#include <errno.h>
#include <unistd.h>

#include "daemon/worker.h"
#include "proto/frame.h"
#include "proto/utf8.h"

int worker_start_send(int socket, const Ferry__WorkerReply *reply, struct err *err)
{
    return fds_send_message(socket, &reply->base, NULL, 0, err);
}

int worker_start_reply(int socket, uint32_t id, Ferry__WorkerStatus *status,
                       const struct err *failure, struct err *err)
{
    Ferry__WorkerReply reply = FERRY__WORKER_REPLY__INIT;
    struct err clean;
    reply.id = id;
    if (failure) {
        clean = *failure;
        utf8_clean(clean.text);
        reply.code = (uint32_t)clean.code;
        reply.error = clean.text;
    } else if (status) {
        reply.body_case = FERRY__WORKER_REPLY__BODY_STATUS;
        reply.status = status;
    }
    return worker_start_send(socket, &reply, err);
}

static int answer_hello(int socket, const char *name, const Ferry__WorkerRequest *r,
                        struct err *err)
{
    Ferry__WorkerHello ours = FERRY__WORKER_HELLO__INIT;
    Ferry__WorkerReply reply = FERRY__WORKER_REPLY__INIT;
    int rc = worker_negotiate(r->hello, &ours, err);
    if (rc < 0) {
        struct err ignored; /* the refusal itself is what is reported */
        worker_start_reply(socket, r->id, NULL, err, &ignored);
        return rc;
    }
    ours.vm_name = (char *)(uintptr_t)name;
    reply.id = r->id;
    reply.body_case = FERRY__WORKER_REPLY__BODY_HELLO;
    reply.hello = &ours;
    return worker_start_send(socket, &reply, err);
}

static Ferry__WorkerRequest *receive(int socket, struct buf *body, struct fds *fds, struct err *err)
{
    if (fds_receive(socket, body, fds, err) < 0)
        return NULL;
    return (Ferry__WorkerRequest *)frame_unpack(&ferry__worker_request__descriptor, body->data,
                                                body->len, err);
}

/* One request: a hello is answered, another one behind a hello is handed out. */
static int take(int socket, const char *name, bool *greeted, Ferry__WorkerRequest *r,
                Ferry__WorkerRequest **request, struct err *err)
{
    int rc = 0;
    if (r->body_case == FERRY__WORKER_REQUEST__BODY_HELLO) {
        rc = answer_hello(socket, name, r, err);
        *greeted = true;
    } else if (*greeted) {
        *request = r;
        return 0;
    } else {
        rc = err_set(err, EPROTO, "the first request must be a hello");
    }
    frame_free(&r->base);
    return rc;
}

int worker_start_receive(int socket, const char *name, Ferry__WorkerRequest **request,
                         struct fds *fds, struct err *err)
{
    struct buf body;
    int rc = 0;
    bool greeted = false;
    buf_init(&body, FRAME_BODY_MAX);
    *request = NULL;
    while (rc == 0 && !*request) {
        Ferry__WorkerRequest *r = receive(socket, &body, fds, err);
        rc = r ? take(socket, name, &greeted, r, request, err) : -err->code;
    }
    buf_fini(&body);
    return rc;
}
