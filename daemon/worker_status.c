/* See worker_status.h. */
#include "daemon/worker_status.h"

#include <unistd.h>

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
