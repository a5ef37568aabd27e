/*
 * ferryd's end of a job: a blocking conversation with a worker's job socket, for a task's thread
 * (task.h). Another thread may cancel it by closing it down. [job]
 */
#pragma once

#include "base/err.h"
#include "daemon/root.h"
#include "proto/worker.pb-c.h"

struct job_client {
    int fd; /* owned; -1 for none */
};

/* Connects, says hello and sends the request with descriptors (borrowed). */
int job_client_open(struct job_client *c, const struct root *root, const char *name,
                    Ferry__WorkerRequest *request, const int *fds, unsigned count, struct err *err);

/* Another request of the same job. */
int job_client_send(struct job_client *c, Ferry__WorkerRequest *request, struct err *err);

/* The next reply, freed by the caller with frame_free; an error reply is an error here. NULL with a
 * sentence also when the worker is gone. */
Ferry__WorkerReply *job_client_receive(struct job_client *c, struct err *err);

/* Whoever waits in receive gets an error. [any] */
void job_client_cancel(struct job_client *c);
void job_client_close(struct job_client *c);
