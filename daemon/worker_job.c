/* See worker_job.h. */
#include "daemon/worker_job.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "base/log.h"
#include "daemon/worker.h"
#include "daemon/worker_join.h"
#include "daemon/worker_migrate.h"
#include "daemon/worker_snapshot.h"
#include "daemon/worker_start.h"
#include "proto/frame.h"

#define JOB_PATIENCE_S 5 /* for the request, and for each reply to be taken */

struct job_call {
    STAILQ_ENTRY(job_call) all;
    int (*fn)(struct worker *w, struct err *err);
    struct err *err;
    int rc;
    bool done;
};

static int on_snapshot(struct job *job, const Ferry__WorkerRequest *r, struct fds *fds,
                       struct err *err)
{
    return worker_snapshot(job, r->snapshot, fds, err);
}

static int on_migrate(struct job *job, const Ferry__WorkerRequest *r, struct fds *fds,
                      struct err *err)
{
    return worker_migrate(job, r->migrate, fds, err);
}

static int on_join(struct job *job, const Ferry__WorkerRequest *r, struct fds *fds, struct err *err)
{
    return worker_join(job, r->join, fds, err);
}

/* What a job may be; anything else is refused. */
static const struct {
    Ferry__WorkerRequest__BodyCase body;
    int (*run)(struct job *job, const Ferry__WorkerRequest *r, struct fds *fds, struct err *err);
} rows[] = {
    {FERRY__WORKER_REQUEST__BODY_SNAPSHOT, on_snapshot},
    {FERRY__WORKER_REQUEST__BODY_MIGRATE, on_migrate},
    {FERRY__WORKER_REQUEST__BODY_JOIN, on_join},
};

int job_reply(struct job *job, Ferry__WorkerReply *reply, struct err *err)
{
    reply->id = job->id;
    int rc = worker_start_send(job->socket, reply, err);
    if (rc < 0)
        job->cancelled = true;
    return rc;
}

bool job_is_cancelled(struct job *job)
{
    char byte;
    ssize_t n = recv(job->socket, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
    if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
        job->cancelled = true;
    return job->cancelled;
}

void job_wait_closed(struct job *job)
{
    char byte;
    ssize_t n;
    do /* what a peer sends here means nothing; SO_RCVTIMEO may end a recv early */
        n = recv(job->socket, &byte, 1, 0);
    while (!job->cancelled && (n > 0 || (n < 0 && (errno == EAGAIN || errno == EINTR))));
}

/* Readable, or cancelled: then our end is shut down, which makes it readable, too. */
static void wait_readable(struct job *job)
{
    struct pollfd p = {.fd = job->socket, .events = POLLIN};
    while (!job->cancelled && poll(&p, 1, -1) < 0 && errno == EINTR)
        ;
}

bool job_wait_request(struct job *job, Ferry__WorkerRequest__BodyCase body)
{
    struct buf in;
    struct fds none;
    struct err ignored;
    Ferry__WorkerRequest *request = NULL;
    buf_init(&in, FRAME_BODY_MAX);
    fds_init(&none);
    wait_readable(job);
    if (!job->cancelled && fds_receive(job->socket, &in, &none, &ignored) == 0)
        request = (Ferry__WorkerRequest *)frame_unpack(&ferry__worker_request__descriptor, in.data,
                                                       in.len, &ignored);
    bool is = request && request->body_case == body;
    if (request)
        frame_free(&request->base);
    fds_close(&none);
    buf_fini(&in);
    return is;
}

int job_enter(struct job *job, struct err *err)
{
    struct jobs *jobs = &job->worker->jobs;
    int rc = 0;
    pthread_mutex_lock(&jobs->lock);
    if (jobs->expelling || !job->worker->machine)
        rc = err_set(err, ECANCELED, "the guest is gone");
    else {
        job->inside = true;
        jobs->inside++;
    }
    pthread_mutex_unlock(&jobs->lock);
    return rc;
}

void job_leave(struct job *job)
{
    struct jobs *jobs = &job->worker->jobs;
    pthread_mutex_lock(&jobs->lock);
    job->inside = false;
    jobs->inside--;
    pthread_cond_broadcast(&jobs->changed);
    pthread_mutex_unlock(&jobs->lock);
}

int job_call_loop(struct job *job, int (*fn)(struct worker *w, struct err *err), struct err *err)
{
    struct jobs *jobs = &job->worker->jobs;
    struct job_call call = {.fn = fn, .err = err};
    pthread_mutex_lock(&jobs->lock);
    STAILQ_INSERT_TAIL(&jobs->calls, &call, all);
    pthread_cond_broadcast(&jobs->changed); /* the loop may wait in worker_jobs_expel */
    uv_async_send(&job->worker->woken);
    while (!call.done)
        pthread_cond_wait(&jobs->changed, &jobs->lock);
    pthread_mutex_unlock(&jobs->lock);
    return call.rc;
}

/* Locked. The call's own memory is its thread's stack, which may go as soon as `done` is seen. */
static void answer_calls(struct jobs *jobs)
{
    struct job_call *call;
    while ((call = STAILQ_FIRST(&jobs->calls))) {
        STAILQ_REMOVE_HEAD(&jobs->calls, all);
        call->rc = jobs->expelling ? err_set(call->err, ECANCELED, "the guest is gone")
                                   : call->fn(jobs->worker, call->err);
        call->done = true;
        pthread_cond_broadcast(&jobs->changed);
    }
}

void worker_jobs_run_calls(struct jobs *jobs)
{
    pthread_mutex_lock(&jobs->lock);
    answer_calls(jobs);
    pthread_mutex_unlock(&jobs->lock);
}

void worker_jobs_expel(struct jobs *jobs)
{
    struct job *job;
    pthread_mutex_lock(&jobs->lock);
    jobs->expelling = true;
    LIST_FOREACH(job, &jobs->all, all)
    if (job->inside) {
        job->cancelled = true;
        shutdown(job->socket, SHUT_RD); /* wakes one that waits for its peer */
    }
    answer_calls(jobs);
    while (jobs->inside) {
        pthread_cond_wait(&jobs->changed, &jobs->lock);
        answer_calls(jobs);
    }
    pthread_mutex_unlock(&jobs->lock);
}

void worker_jobs_admit(struct jobs *jobs)
{
    pthread_mutex_lock(&jobs->lock);
    jobs->expelling = false;
    pthread_mutex_unlock(&jobs->lock);
}

static int run(struct job *job, const Ferry__WorkerRequest *r, struct fds *fds, struct err *err)
{
    job->id = r->id;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        if (rows[i].body == r->body_case)
            return rows[i].run(job, r, fds, err);
    return err_set(err, ENOSYS, "this worker knows no such job");
}

static int converse(struct job *job, struct err *err)
{
    Ferry__WorkerRequest *request;
    struct fds fds;
    fds_init(&fds);
    int rc = worker_start_receive(job->socket, job->worker->config->name, &request, &fds, err);
    if (rc == 0) {
        rc = run(job, request, &fds, err);
        frame_free(&request->base);
    }
    fds_close(&fds);
    return rc;
}

static void end(struct job *job)
{
    struct jobs *jobs = &job->worker->jobs;
    pthread_mutex_lock(&jobs->lock);
    LIST_REMOVE(job, all);
    jobs->count--;
    pthread_mutex_unlock(&jobs->lock);
    close(job->socket);
    free(job);
}

static void *thread_main(void *arg)
{
    struct job *job = arg;
    struct err err = {0}, ignored;
    pthread_setname_np(pthread_self(), "job");
    if (job->own) {
        job->own(job, &err); /* tells its failure by itself */
    } else if (converse(job, &err) < 0) {
        Ferry__WorkerReply reply = FERRY__WORKER_REPLY__INIT;
        reply.code = (uint32_t)err.code;
        reply.error = err.text;
        job_reply(job, &reply, &ignored); /* the peer may be what failed */
    }
    end(job);
    return NULL;
}

static int start_thread(struct job *job, struct err *err)
{
    pthread_attr_t attr;
    pthread_t thread;
    pthread_attr_init(&attr);
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    int rc = pthread_create(&thread, &attr, thread_main, job);
    pthread_attr_destroy(&attr);
    return rc ? err_sys(err, rc, "cannot start a job") : 0;
}

/* Only the loop adds, so there is room until it does. */
static bool has_room(struct jobs *jobs)
{
    pthread_mutex_lock(&jobs->lock);
    bool room = jobs->count < JOBS_MAX;
    pthread_mutex_unlock(&jobs->lock);
    return room;
}

int worker_jobs_spawn(struct jobs *jobs, int socket, int (*own)(struct job *job, struct err *err),
                      struct err *err)
{
    struct timeval patience = {.tv_sec = JOB_PATIENCE_S};
    struct job *job = has_room(jobs) ? calloc(1, sizeof(*job)) : NULL;
    if (!job) {
        close(socket);
        return err_set(err, EBUSY, "no room for another job");
    }
    job->worker = jobs->worker;
    job->socket = socket;
    job->own = own;
    setsockopt(socket, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    setsockopt(socket, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
    pthread_mutex_lock(&jobs->lock);
    LIST_INSERT_HEAD(&jobs->all, job, all);
    jobs->count++;
    pthread_mutex_unlock(&jobs->lock);
    int rc = start_thread(job, err);
    if (rc < 0)
        end(job);
    return rc;
}

static void on_arrival(uv_poll_t *poll, int status, int events)
{
    struct jobs *jobs = poll->data;
    struct err err = {0};
    int socket = accept4(jobs->listener, NULL, NULL, SOCK_CLOEXEC);
    if (socket < 0)
        return;
    if (worker_jobs_spawn(jobs, socket, NULL, &err) < 0)
        log_warn("%s", err.text);
}

int worker_jobs_init(struct jobs *jobs, struct worker *w, int listener, struct err *err)
{
    *jobs = (struct jobs){.worker = w, .listener = listener};
    pthread_mutex_init(&jobs->lock, NULL);
    pthread_cond_init(&jobs->changed, NULL);
    LIST_INIT(&jobs->all);
    STAILQ_INIT(&jobs->calls);
    int rc = uv_poll_init(&w->loop, &jobs->arrivals, listener);
    if (rc < 0)
        return err_sys(err, -rc, "cannot listen for jobs");
    jobs->has_arrivals = true;
    jobs->arrivals.data = jobs;
    uv_poll_start(&jobs->arrivals, UV_READABLE, on_arrival);
    return 0;
}

void worker_jobs_close(struct jobs *jobs)
{
    if (jobs->has_arrivals)
        uv_close((uv_handle_t *)&jobs->arrivals, NULL);
    jobs->has_arrivals = false;
}
