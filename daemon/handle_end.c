/* stop, kill, rm: the ways of a VM to its end. */
#include <errno.h>

#include "base/log.h"
#include "base/units.h"
#include "daemon/handlers.h"
#include "daemon/tenant.h"
#include "daemon/tenant_owner.h"

#define STOP_MS_MAX (7ull * 24 * 3600 * 1000)

#define STATES_OFF (STATE_BIT(STOPPED) | STATE_BIT(CRASHED))

static void fail_removed(struct request *rq)
{
    struct err err = {0};
    rq->tenant = NULL;
    err_set(&err, ENOENT, "the VM was removed meanwhile");
    request_fail(rq, &err);
}

/* It crashed instead of going the way that was asked for. */
static void fail_text(struct request *rq, const char *what)
{
    struct err err = {0};
    err_set(&err, EIO, "'%s' %s: %.400s", rq->tenant->name, what, tenant_ending_text(rq->tenant));
    request_fail(rq, &err);
}

/* stop ------------------------------------------------------------------------------------------
 *
 * Several may wait for one VM, each with a patience of its own; the first that loses it kills. When
 * the last one that waits is cancelled, the VM counts as running again: the guest has heard the
 * button and may go, but nobody kills it.
 */

static bool others_stop(const struct request *rq)
{
    struct tenant_watch *w;
    TAILQ_FOREACH(w, &rq->tenant->watches, all)
    if (w != &rq->watch && w->moved == rq->watch.moved)
        return true;
    return false;
}

static void stop_moved(struct tenant_watch *watch, bool removed)
{
    struct request *rq = (struct request *)watch;
    if (removed)
        fail_removed(rq);
    else if (tenant_in(rq->tenant, STATE_BIT(FAILED)))
        fail_text(rq, "broke while it was to switch off");
    else if (tenant_in(rq->tenant, STATES_OFF))
        request_done(rq, NULL);
}

static void stop_drop(struct request *rq)
{
    bool last = !others_stop(rq);
    tenant_unwatch(&rq->watch);
    if (last && tenant_in(rq->tenant, STATE_BIT(STOPPING)) && !tenant_is_killed(rq->tenant))
        tenant_move(rq->tenant, FERRY__VM_STATE__VM_RUNNING, "the stop was cancelled");
}

static uint64_t stop_ms(const struct request *rq)
{
    uint64_t ms = rq->message->stop->timeout_ms;
    return ms < STOP_MS_MAX ? ms : STOP_MS_MAX;
}

static void stop_late(void *ctx)
{
    struct request *rq = ctx;
    char text[96], time[32];
    snprintf(text, sizeof(text), "killed: it did not switch off within %s",
             units_format_time(stop_ms(rq), time, sizeof(time)));
    tenant_kill(rq->tenant, text);
}

/* A guest that cannot be asked is killed when the time is over. */
static void stop_pressed(void *ctx, const Ferry__WorkerReply *reply, const struct err *err)
{
    struct request *rq = ctx;
    if (err && err->code != ECONNRESET)
        log_warn("%s: the power button: %s", rq->tenant->name, err->text);
}

static void press(struct request *rq)
{
    struct err err;
    if (tenant_ask(rq->tenant, FERRY__WORKER_REQUEST__BODY_POWER_BUTTON, WORKER_PATIENCE_MS,
                   stop_pressed, rq, &err) < 0)
        stop_pressed(rq, NULL, &err);
}

/* A paused guest hears no button. */
static void stop_resumed(void *ctx, const Ferry__WorkerReply *reply, const struct err *err)
{
    struct request *rq = ctx;
    if (err)
        stop_pressed(rq, NULL, err);
    else
        press(rq);
}

int handle_stop(struct request *rq, struct err *err)
{
    struct tenant *t = rq->tenant;
    bool paused = tenant_in(t, STATE_BIT(PAUSED));
    if (!tenant_in(t, STATE_BIT(STOPPING)))
        tenant_move(t, FERRY__VM_STATE__VM_STOPPING, "");
    tenant_watch(t, &rq->watch, stop_moved);
    rq->drop = stop_drop;
    timeout_set(&rq->timer, &rq->daemon->loop, stop_ms(rq), stop_late, rq);
    if (!paused)
        press(rq);
    else if (tenant_ask(t, FERRY__WORKER_REQUEST__BODY_RESUME, WORKER_PATIENCE_MS, stop_resumed, rq,
                        err) < 0)
        stop_pressed(rq, NULL, err);
    return 0;
}

/* kill ---------------------------------------------------------------------------------------- */

static void kill_moved(struct tenant_watch *watch, bool removed)
{
    struct request *rq = (struct request *)watch;
    if (removed)
        rq->tenant = NULL; /* also an end */
    if (removed || tenant_in(rq->tenant, STATES_OFF))
        request_done(rq, NULL);
}

int handle_kill(struct request *rq, struct err *err)
{
    tenant_watch(rq->tenant, &rq->watch, kill_moved);
    tenant_kill(rq->tenant, "killed by request");
    return 0;
}

/* rm ------------------------------------------------------------------------------------------ */

static int remove_now(struct request *rq, struct err *err)
{
    struct tenant *t = rq->tenant;
    if (!tenant_in(t, STATES_OFF))
        return rpc_table_refuse_state(rq->row, t->name, tenant_state(t), err);
    tenant_unwatch(&rq->watch);
    int rc = tenant_owner_remove(t, err);
    if (rc < 0)
        return rc;
    rq->tenant = NULL;
    request_done(rq, NULL);
    return 0;
}

static void remove_later(void *ctx)
{
    struct request *rq = ctx;
    struct err err = {0};
    if (remove_now(rq, &err) < 0)
        request_fail(rq, &err);
}

/* Not from within the move: the others who watch it are still to be told. */
static void remove_moved(struct tenant_watch *watch, bool removed)
{
    struct request *rq = (struct request *)watch;
    if (removed) {
        rq->tenant = NULL;
        request_done(rq, NULL);
    } else if (tenant_in(rq->tenant, STATES_OFF)) {
        timeout_set(&rq->timer, &rq->daemon->loop, 0, remove_later, rq);
    }
}

int handle_remove(struct request *rq, struct err *err)
{
    if (!tenant_in(rq->tenant, STATE_BIT(FAILED)))
        return remove_now(rq, err);
    tenant_watch(rq->tenant, &rq->watch, remove_moved);
    tenant_kill(rq->tenant, "removed");
    return 0;
}
