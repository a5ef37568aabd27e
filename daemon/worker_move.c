/* See worker_move.h. */
#include "daemon/worker_move.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "daemon/worker.h"

int worker_move_begin(struct worker *w, int record_fd, struct err *err)
{
    struct uuid uuid;
    if (w->config->uuid.len != sizeof(uuid.bytes)) {
        close(record_fd);
        return err_set(err, EINVAL, "the machine has no uuid");
    }
    if (atomic_exchange(&w->has_migration, true)) {
        close(record_fd);
        return err_set(err, EBUSY, "the guest is being migrated already");
    }
    memcpy(uuid.bytes, w->config->uuid.data, sizeof(uuid.bytes));
    int rc = ownership_open(&w->ownership, record_fd, &uuid, err);
    if (rc < 0)
        worker_move_end(w, false);
    return rc;
}

/* In doubt the record is still to be written, by the loop, which may be at it already. */
void worker_move_end(struct worker *w, bool in_doubt)
{
    if (!in_doubt && w->ownership.owner != FERRY__OWNER__OWNER_HANDED_OFF)
        ownership_close(&w->ownership);
    atomic_store(&w->has_migration, false);
}

int worker_move_freeze(struct worker *w, struct err *err)
{
    unsigned from = w->life.now;
    if (from != FERRY__WORKER_STATE__WORKER_RUNNING && from != FERRY__WORKER_STATE__WORKER_PAUSED)
        return err_set(err, ECANCELED, "the guest is %s", sm_name(&w->life));
    w->move.was_paused = from == FERRY__WORKER_STATE__WORKER_PAUSED;
    worker_enter(w, FERRY__WORKER_STATE__WORKER_MOVING); /* told while the guest still runs */
    machine_pause(w->machine);
    if (!worker_has_event(w))
        return 0;
    worker_enter(w, from);
    return err_set(err, ECANCELED, "the guest has just met its end");
}

int worker_move_thaw(struct worker *w, struct err *err)
{
    worker_enter(w, w->move.was_paused ? FERRY__WORKER_STATE__WORKER_PAUSED
                                       : FERRY__WORKER_STATE__WORKER_RUNNING);
    worker_settle(w);
    return 0;
}

int worker_move_doubt(struct worker *w, struct err *err)
{
    worker_enter(w, FERRY__WORKER_STATE__WORKER_IN_DOUBT);
    return 0;
}

void worker_move_done(struct worker *w, const char *text)
{
    struct report report = {.kind = REPORT_SHUTDOWN};
    snprintf(report.text, sizeof(report.text), "%s", text);
    worker_post_end(w, WORKER_END_MOVED, &report);
}

int worker_move_resolve(struct worker *w, bool keep, struct err *err)
{
    struct ownership *o = &w->ownership;
    char text[200];
    int rc = ownership_write(o, keep ? FERRY__OWNER__OWNER_OURS : FERRY__OWNER__OWNER_GONE,
                             o->epoch, NULL, err);
    if (rc == 0)
        rc = ownership_sync(o, err);
    if (rc < 0)
        return rc;
    snprintf(text, sizeof(text), "moved to %.180s", o->peer);
    ownership_close(o);
    if (keep)
        return worker_move_thaw(w, err);
    worker_move_done(w, text);
    return 0;
}
