/* See job_client.h. */
#include "daemon/job_client.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/fds.h"
#include "daemon/worker_link.h"
#include "proto/frame.h"

#define HELLO_ID 1u
#define JOB_ID 2u

static int say_hello(struct job_client *c, struct err *err)
{
    Ferry__WorkerRequest request = FERRY__WORKER_REQUEST__INIT;
    Ferry__WorkerHello hello = FERRY__WORKER_HELLO__INIT;
    hello.min_version = hello.max_version = WORKER_PROTOCOL;
    hello.release = FERRY_VERSION;
    request.id = HELLO_ID;
    request.body_case = FERRY__WORKER_REQUEST__BODY_HELLO;
    request.hello = &hello;
    return fds_send_message(c->fd, &request.base, NULL, 0, err);
}

static int hear_hello(struct job_client *c, struct err *err)
{
    Ferry__WorkerReply *reply = job_client_receive(c, err);
    if (!reply)
        return -err->code;
    int rc = reply->body_case == FERRY__WORKER_REPLY__BODY_HELLO
                 ? 0
                 : err_set(err, EPROTO, "the worker does not answer a hello");
    frame_free(&reply->base);
    return rc;
}

int job_client_open(struct job_client *c, const struct root *root, const char *name,
                    Ferry__WorkerRequest *request, const int *fds, unsigned count, struct err *err)
{
    int rc = c->fd = root_connect_jobs(root, name, err);
    if (rc < 0)
        return rc;
    request->id = JOB_ID;
    rc = say_hello(c, err);
    if (rc == 0)
        rc = hear_hello(c, err);
    return rc == 0 ? fds_send_message(c->fd, &request->base, fds, count, err) : rc;
}

int job_client_send(struct job_client *c, Ferry__WorkerRequest *request, struct err *err)
{
    request->id = JOB_ID;
    return fds_send_message(c->fd, &request->base, NULL, 0, err);
}

Ferry__WorkerReply *job_client_receive(struct job_client *c, struct err *err)
{
    struct buf body;
    struct fds none;
    Ferry__WorkerReply *reply = NULL;
    buf_init(&body, FRAME_BODY_MAX);
    fds_init(&none);
    if (fds_receive(c->fd, &body, &none, err) == 0)
        reply = (Ferry__WorkerReply *)frame_unpack(&ferry__worker_reply__descriptor, body.data,
                                                   body.len, err);
    fds_close(&none); /* a worker has none to give */
    buf_fini(&body);
    if (reply && reply->code) {
        err_set(err, (int)reply->code, "%s", reply->error);
        frame_free(&reply->base);
        return NULL;
    }
    return reply;
}

void job_client_cancel(struct job_client *c)
{
    shutdown(c->fd, SHUT_RDWR);
}

void job_client_close(struct job_client *c)
{
    if (c->fd >= 0)
        close(c->fd);
    c->fd = -1;
}
