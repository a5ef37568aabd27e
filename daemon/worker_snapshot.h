/*
 * The job that saves the guest into a directory: the capture engine (vmstate/capture.h) on the
 * worker's guest, with an image (snapshot/image.h) as its sink. [job]
 */
#pragma once

#include "daemon/worker_job.h"

/* Descriptors: the directory. Answers the job when it is done; fails with nothing but leftovers in
 * the directory, and the guest as it was. */
int worker_snapshot(struct job *job, const Ferry__WorkerSnapshot *ask, struct fds *fds,
                    struct err *err);
