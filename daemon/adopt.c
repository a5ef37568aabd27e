/* See adopt.h. */
#include "daemon/adopt.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "base/name.h"
#include "daemon/record.h"
#include "daemon/spawn.h"
#include "daemon/stand_in.h"
#include "daemon/tenant.h"
#include "daemon/tenant_owner.h"
#include "daemon/tenant_run.h"
#include "proto/frame.h"

/* All that are on their way. */
struct adoption {
    struct daemon *daemon;
    void (*done)(struct daemon *d);
    unsigned open;
};

/* One of them; its watch hears when its worker turns out to be none. */
struct orphan {
    struct tenant_watch watch;
    struct adoption *all;
    struct tenant *tenant;
};

static void one_done(struct adoption *all)
{
    if (--all->open)
        return;
    all->done(all->daemon);
    free(all);
}

static void orphan_done(struct orphan *o)
{
    struct adoption *all = o->all;
    tenant_unwatch(&o->watch);
    tenant_forget(o->tenant, o);
    free(o);
    one_done(all);
}

static void on_moved(struct tenant_watch *watch, bool removed)
{
    struct orphan *o = (struct orphan *)watch;
    if (removed || !tenant_in(o->tenant, STATES_LIVE))
        orphan_done(o);
}

/* From what the state file said to what the worker says, by the moves there are. */
static void take_status(struct tenant *t, const Ferry__WorkerStatus *status)
{
    if (status->state == FERRY__WORKER_STATE__WORKER_INCOMING) {
        t->sm.now = FERRY__VM_STATE__VM_STARTING;
        t->transient = t->run->arriving = true; /* forgotten when it does not arrive */
        return;
    }
    if (!tenant_in(t, STATES_LIVE) || tenant_in(t, STATE_BIT(STARTING) | STATE_BIT(STOPPING)))
        t->sm.now = status->state == FERRY__WORKER_STATE__WORKER_PAUSED
                        ? FERRY__VM_STATE__VM_PAUSED
                        : FERRY__VM_STATE__VM_RUNNING;
    tenant_apply(t, status);
}

static void on_status(void *ctx, const Ferry__WorkerReply *reply, const struct err *err)
{
    struct orphan *o = ctx;
    struct tenant *t = o->tenant;
    char text[64];
    if (err && err->code == ECONNRESET)
        return; /* its end is heard by the watch */
    if (err || reply->body_case != FERRY__WORKER_REPLY__BODY_STATUS ||
        reply->status->state == FERRY__WORKER_STATE__WORKER_NEW) {
        tenant_run_break(t->run, err ? err->text : "the worker has no guest");
        return;
    }
    tenant_unwatch(&o->watch);
    take_status(t, reply->status);
    tenant_store(t);
    snprintf(text, sizeof(text), "%s, worker pid %d", tenant_state_name(tenant_state(t)),
             (int)t->process.pid);
    log_info("%s: adopted: %s", t->name, text);
    tenant_event(t, FERRY__EVENT_KIND__EVENT_ADOPTED, text);
    orphan_done(o);
}

static void on_ready(struct tenant *t)
{
    struct err err;
    struct orphan *o = (struct orphan *)TAILQ_FIRST(&t->watches); /* nobody else is there yet */
    t->run->ready = NULL;
    if (tenant_ask(t, FERRY__WORKER_REQUEST__BODY_STATUS, WORKER_PATIENCE_MS, on_status, o, &err) <
        0)
        tenant_run_break(t->run, err.text);
}

/* A worker that cannot be reached is killed; then it takes the way of any dead worker. */
static int find_worker(struct daemon *d, struct tenant *t, struct err *err)
{
    int rc = tenant_run_new(&d->loop, t, err);
    if (rc < 0)
        return rc;
    int fd = root_connect_worker(&d->root, t->name, err);
    if (fd >= 0 && worker_link_open(t->run->link, fd, true, err) == 0) {
        t->run->ready = on_ready;
        return 0;
    }
    t->run->closed = true;
    tenant_run_break(t->run, err->text);
    return 0;
}

/* The record knows how it ended, or nobody. */
static Ferry__VmState judge(struct tenant *t, const Ferry__WorkerStatus *status)
{
    Ferry__VmState to = FERRY__VM_STATE__VM_CRASHED;
    if (status && status->state == FERRY__WORKER_STATE__WORKER_ENDED && status->ending) {
        tenant_take_ending(t, status->ending);
        to = tenant_ended_state(status->ending);
    } else if (tenant_in(t, STATE_BIT(STARTING))) { /* no guest of it ever ran */
        tenant_end(t, FERRY__END_KIND__END_START_FAILED, "ferryd ended while it was started");
        to = FERRY__VM_STATE__VM_STOPPED;
    } else {
        tenant_end(t, FERRY__END_KIND__END_WORKER_DIED,
                   "the worker died while no ferryd was there");
    }
    return to;
}

/* No worker. What was on its way from here has moved, is in doubt or crashed; what was on its way
 * to here and did not arrive is forgotten. */
static void settle(struct tenant *t, int record)
{
    struct err ignored;
    char text[ERR_TEXT_MAX];
    Ferry__WorkerStatus *status = NULL;
    bool lived = tenant_in(t, STATES_LIVE);
    if (root_remove_run(t->registry->root, t->name, &ignored) < 0)
        log_warn("%s: %s", t->name, ignored.text);
    if (record >= 0 && record_read(record, NULL, &status, &ignored) < 0)
        status = NULL;
    Ferry__VmState to = lived ? judge(t, status) : tenant_state(t);
    to = tenant_owner_judge(t, status, to);
    frame_free((ProtobufCMessage *)status);
    snprintf(text, sizeof(text), "%s", tenant_ending_text(t));
    if (lived) {
        t->boot_wall_ns = 0;
        tenant_move(t, to, text);
    }
    bool gone = t->transient || (t->ending && t->ending->kind == FERRY__END_KIND__END_MOVED);
    if (gone && registry_remove(t, &ignored) < 0)
        log_error("%s: %s", t->name, ignored.text);
}

/* The worker wrote its number into the record itself; and it is believed only when that process
 * holds the record, because who is adopted may be killed. */
static int identify_by_record(struct tenant *t, int record, struct err *err)
{
    Ferry__WorkerStatus *status = NULL;
    int rc = record_read(record, NULL, &status, err);
    if (rc < 0)
        return rc;
    rc = process_open(&t->process, (pid_t)status->pid, NULL, err);
    frame_free((ProtobufCMessage *)status);
    if (rc == 0 && !process_has_open(&t->process, record)) {
        process_close(&t->process);
        rc = err_set(err, ESRCH, "the process that its record names is not the worker");
    }
    return rc;
}

/* The state file may be older than the worker, when the disk was full. */
static int identify(struct tenant *t, const Ferry__VmStored *stored, int record, struct err *err)
{
    if (stored && strcmp(stored->boot_id, t->registry->boot_id) == 0 &&
        process_open(&t->process, (pid_t)stored->pid, &stored->pid_start, err) == 0)
        return 0;
    return identify_by_record(t, record, err);
}

/* Its worker may run on; spawn refuses a second one as long as it does. */
static void lose(struct tenant *t, const struct err *err)
{
    char text[ERR_TEXT_MAX];
    snprintf(text, sizeof(text), "a worker runs that cannot be told from others: %.400s",
             err->text);
    log_error("%s: %s", t->name, text);
    tenant_end(t, FERRY__END_KIND__END_WORKER_DIED, text);
    if (tenant_in(t, STATES_LIVE))
        tenant_move(t, FERRY__VM_STATE__VM_CRASHED, text);
}

static void adopt_one(struct adoption *all, struct tenant *t, const Ferry__VmStored *stored)
{
    struct err err = {0};
    CLEAN(clean_fd) int record = openat(t->dirfd, "record", O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (record < 0 || !spawn_record_is_held(record)) {
        settle(t, record);
        return;
    }
    struct orphan *o = calloc(1, sizeof(*o));
    if (!o || identify(t, stored, record, &err) < 0) {
        free(o);
        lose(t, &err);
        return;
    }
    if (!tenant_in(t, STATES_LIVE)) /* it has a worker, whatever the file says */
        t->sm.now = FERRY__VM_STATE__VM_STARTING;
    o->all = all;
    o->tenant = t;
    tenant_watch(t, &o->watch, on_moved);
    all->open++;
    if (find_worker(all->daemon, t, &err) < 0) {
        log_error("%s: %s", t->name, err.text);
        orphan_done(o);
    }
}

static void load_one(struct adoption *all, const char *name)
{
    struct err err = {0};
    struct registry *r = &all->daemon->registry;
    Ferry__VmStored *stored = NULL;
    if (!name_valid(name))
        return;
    struct tenant *t = registry_load(r, name, &stored, &err);
    if (t) {
        adopt_one(all, t, stored);
    } else if (err.code == ENOENT) {
        log_info("%s: what an unfinished rm or start left is removed", name);
        if (root_remove_vm(r->root, name, &err) < 0)
            log_error("%s: %s", name, err.text);
    } else {
        log_error("%s: %s: it is left alone", name, err.text);
    }
    frame_free((ProtobufCMessage *)stored);
}

/* Names first: loading may remove directories. */
static int list_names(const struct root *root, struct dirent ***names, struct err *err)
{
    int n = scandirat(root->vms_fd, ".", names, NULL, alphasort);
    return n < 0 ? err_sys(err, errno, "cannot list '%s/vms'", root->root) : n;
}

int adopt_all(struct daemon *d, void (*done)(struct daemon *d), struct err *err)
{
    struct dirent **names;
    int rc = stand_in_recover(&d->root, err);
    if (rc < 0)
        return rc;
    struct adoption *all = calloc(1, sizeof(*all));
    if (!all)
        return err_set(err, ENOMEM, "no memory for finding VMs");
    *all = (struct adoption){.daemon = d, .done = done, .open = 1};
    int n = list_names(&d->root, &names, err);
    if (n < 0) {
        free(all);
        return n;
    }
    for (int i = 0; i < n; i++) {
        load_one(all, names[i]->d_name);
        free(names[i]);
    }
    free(names);
    one_done(all);
    return 0;
}
