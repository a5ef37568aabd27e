/*
 * Jobs of a worker: long work on its guest that blocks, such as a snapshot. One connection to the
 * job socket (RUN/vms/NAME/jobs.sock) is one job on a thread of its own: a hello, one request with
 * its descriptors, news of progress, one last reply. Closing the connection cancels the job.
 *
 * A job thread uses the machine only between job_enter and job_leave, and has the loop do what only
 * the loop may: pausing and resuming. Before a machine is taken apart (an ending, a reset)
 * worker_jobs_expel cancels the jobs that are inside and waits until they have left.
 */
#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/queue.h>
#include <uv.h>

#include "base/err.h"
#include "daemon/fds.h"
#include "proto/worker.pb-c.h"

#define JOBS_MAX 8u

struct worker;
struct job_call;

struct job {
    LIST_ENTRY(job) all;
    struct worker *worker; /* borrowed */
    int socket;            /* owned */
    uint32_t id;           /* of the request */
    _Atomic bool cancelled;
    bool inside;                                  /* locked: uses the machine */
    int (*own)(struct job *job, struct err *err); /* NULL: the socket says what to do */
};

struct jobs {
    struct worker *worker;
    uv_poll_t arrivals;
    int listener; /* owned */
    bool has_arrivals;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    LIST_HEAD(, job) all;          /* locked */
    STAILQ_HEAD(, job_call) calls; /* locked: waiting for the loop */
    unsigned count, inside;        /* locked */
    bool expelling;                /* locked: nobody enters */
};

/* Takes over a listening socket. [loop] */
int worker_jobs_init(struct jobs *jobs, struct worker *w, int listener, struct err *err);

/* A job of the worker's own, on a socket that it takes over. [loop] */
int worker_jobs_spawn(struct jobs *jobs, int socket, int (*own)(struct job *job, struct err *err),
                      struct err *err);

/* No more jobs; those that run go on until they find out. [loop] */
void worker_jobs_close(struct jobs *jobs);

/* Does what job threads wait for. [loop] */
void worker_jobs_run_calls(struct jobs *jobs);

/* Cancels the jobs that use the machine and waits until none does; worker_jobs_admit lets them in
 * again. [loop] */
void worker_jobs_expel(struct jobs *jobs);
void worker_jobs_admit(struct jobs *jobs);

/* -ECANCELED when the guest is gone or going. [job] */
int job_enter(struct job *job, struct err *err);
void job_leave(struct job *job);

/* Has the loop call `fn` and waits for it; -ECANCELED when the machine is being taken apart. [job]
 */
int job_call_loop(struct job *job, int (*fn)(struct worker *w, struct err *err), struct err *err);

/* Sends a reply with the job's id; a peer that is gone cancels the job. [job] */
int job_reply(struct job *job, Ferry__WorkerReply *reply, struct err *err);

/* Whether to give up: cancelled, or the peer has closed the connection. [job] */
bool job_is_cancelled(struct job *job);

/* Waits for the peer's second request: true when that is `body`, false when it is anything else,
 * the peer has closed the connection or the job is cancelled. [job] */
bool job_wait_request(struct job *job, Ferry__WorkerRequest__BodyCase body);

/* Returns when the peer has closed the connection or the job is cancelled. [job] */
void job_wait_closed(struct job *job);
