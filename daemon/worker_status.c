/* See worker_status.h. */
#include "daemon/worker_status.h"

#include <stdlib.h>
#include <unistd.h>

#include "base/log.h"
#include "base/now.h"
#include "daemon/record.h"

void worker_status(struct worker *w, Ferry__WorkerStatus *status,
                   struct worker_status_storage *storage)
{
    ferry__worker_status__init(status);
    status->state = w->life.now;
    status->boot_wall_ns = w->boot_wall_ns;
    status->resets = w->resets;
    status->uuid = w->config->uuid;
    status->pid = (uint32_t)getpid();
    if (w->machine) {
        storage->generation = machine_generation(w->machine);
        status->generation =
            (ProtobufCBinaryData){sizeof(storage->generation.bytes), storage->generation.bytes};
    }
    storage->chain = chain_view(&w->chain);
    status->origin = snapshot_ref_fill(&storage->origin, &storage->chain.origin);
    status->tracked = snapshot_ref_fill(&storage->tracked, &storage->chain.tip);
    if (w->ending_wall_ns) {
        ending_from_report(&storage->ending, &w->ending, w->ending_wall_ns);
        if (w->move.is_moved)
            storage->ending.message.kind = FERRY__END_KIND__END_MOVED;
        status->ending = &storage->ending.message;
    }
}

/* The loop may be among those who cannot go on, so it is not asked. The lock is never given back.
 */
void worker_die(struct worker *w, const char *why)
{
    struct err err = {0};
    Ferry__Ending ending = FERRY__ENDING__INIT;
    Ferry__WorkerStatus status = FERRY__WORKER_STATUS__INIT;
    log_error("%s", why);
    ending.kind = FERRY__END_KIND__END_WORKER_DIED;
    ending.text = (char *)(uintptr_t)why;
    ending.wall_ns = now_wall_ns();
    status.state = FERRY__WORKER_STATE__WORKER_ENDED;
    status.ending = &ending;
    status.uuid = w->config->uuid;
    status.pid = (uint32_t)getpid();
    pthread_mutex_lock(&w->record_lock);
    if (record_write(w->record_fd, ++w->record_seq, &status, &err) < 0)
        log_error("%s", err.text);
    _exit(EXIT_FAILURE);
}
