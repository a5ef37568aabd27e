/* The migrate job: sends the worker's guest away by the source engine. [job] */
#pragma once

#include "daemon/worker_job.h"

int worker_migrate(struct job *job, const Ferry__WorkerMigrate *ask, struct fds *fds,
                   struct err *err);
