/* The worker's state as the message that goes to ferryd and into the record file. */
#pragma once

#include "daemon/ending.h"
#include "daemon/worker.h"

/* What a filled Ferry__WorkerStatus points to. */
struct worker_status_storage {
    struct ending ending;
    struct uuid generation;
    struct chain_view chain;
    Ferry__SnapshotRef origin, tracked;
};

void worker_status(struct worker *w, Ferry__WorkerStatus *status,
                   struct worker_status_storage *storage);
