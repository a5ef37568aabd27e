/* See replace.h. */
#include "daemon/replace.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "daemon/migration.h"
#include "daemon/tenant_owner.h"
#include "daemon/timeout.h"
#include "proto/frame.h"

/* In others somebody is about to decide over it: a start, a stop, a migration. */
#define REPLACEABLE                                                                                \
    (STATE_BIT(RUNNING) | STATE_BIT(PAUSED) | STATE_BIT(FAILED) | STATE_BIT(STOPPED) |             \
     STATE_BIT(CRASHED))

static void step(void *ctx);

/* Never from within a move: a stand-in may not be removed there. */
static void step_later(struct replace *p)
{
    timeout_set(&p->later, &p->daemon->loop, 0, step, p);
}

static void finish(struct replace *p)
{
    timeout_cancel(&p->later);
    p->done(p->ctx, p->err.code ? &p->err : NULL);
}

static void on_moved(struct tenant_watch *watch, bool removed)
{
    struct replace *p = (struct replace *)watch;
    struct tenant *s = p->stand_in;
    if (!p->committed && !removed && !tenant_in(s, STATES_LIVE) && !p->err.code)
        err_set(&p->err, s->gone_code ? s->gone_code : EIO, "'%s' stays as it was: %s", p->vm,
                tenant_ending_text(s));
    if (removed) {
        tenant_unwatch(watch);
        p->stand_in = NULL;
    }
    step_later(p);
}

/* The one it takes the place of, if that can be replaced at this moment. */
static struct tenant *find_old(const struct replace *p, struct err *err)
{
    struct tenant *t = registry_find(&p->daemon->registry, p->vm);
    if (!t)
        err_set(err, ENOENT, "'%s' was removed meanwhile", p->vm);
    else if (!tenant_in(t, REPLACEABLE))
        err_set(err, EBUSY, "'%s' is %s: wait until it is not", p->vm,
                tenant_state_name(tenant_state(t)));
    else if (migration_find(p->daemon, p->vm))
        err_set(err, EBUSY, "'%s' is being migrated: wait until that is over, or cancel it", p->vm);
    return t && !err->code ? t : NULL;
}

static void commit(struct replace *p)
{
    struct err late;
    struct tenant *t = find_old(p, &p->err);
    if (!t || stand_in_commit(&p->daemon->root, p->vm, &late, &p->err) < 0) {
        tenant_kill(p->stand_in, "it replaces nothing");
        return;
    }
    if (late.code)
        log_error("%s: %s", p->vm, late.text);
    p->committed = true;
    tenant_exchange(t, p->stand_in, p->text);
    if (p->stand_in->run)
        tenant_kill(p->stand_in, "replaced by a snapshot");
    step_later(p);
}

static void on_status(void *ctx, const Ferry__WorkerReply *reply, const struct err *err)
{
    struct replace *p = ctx;
    struct tenant *t = registry_find(&p->daemon->registry, p->vm);
    if (err)
        err_set(&p->err, err->code, "'%s' is restored, but does not run: %s", p->vm, err->text);
    else if (t && reply->body_case == FERRY__WORKER_REPLY__BODY_STATUS)
        tenant_apply(t, reply->status);
    finish(p);
}

static void on_resumed(void *ctx, const Ferry__WorkerReply *reply, const struct err *err)
{
    struct replace *p = ctx;
    struct err failed = {0};
    struct tenant *t = registry_find(&p->daemon->registry, p->vm);
    if (!err && (!t || tenant_ask(t, FERRY__WORKER_REQUEST__BODY_STATUS, WORKER_PATIENCE_MS,
                                  on_status, p, &failed) < 0))
        err_set(&failed, ECONNRESET, "its worker is gone");
    if (err || failed.code)
        on_status(p, NULL, err ? err : &failed);
}

/* A ferryd before us may have begun to migrate the old one. */
static bool went_away(struct replace *p, struct tenant *t)
{
    struct err err = {0};
    if (!t || tenant_owner_check(t, &err) == 0)
        return false;
    tenant_kill(t, err.text);
    err_set(&p->err, err.code, "%s", err.text);
    return true;
}

/* The old one is gone. Somebody may have been quicker to end, remove or resume the new one. */
static void go_on(struct replace *p)
{
    struct err err = {0};
    struct tenant *t = registry_find(&p->daemon->registry, p->vm);
    if (went_away(p, t) || p->paused || !t || !tenant_in(t, STATE_BIT(PAUSED)))
        finish(p);
    else if (tenant_ask(t, FERRY__WORKER_REQUEST__BODY_RESUME, WORKER_PATIENCE_MS, on_resumed, p,
                        &err) < 0)
        on_status(p, NULL, &err);
}

static void step(void *ctx)
{
    struct replace *p = ctx;
    struct tenant *s = p->stand_in;
    struct err err;
    bool live = s && tenant_in(s, STATES_LIVE);
    if (live && (p->committed || p->cancelled || p->err.code || !tenant_in(s, STATE_BIT(PAUSED))))
        return; /* it is on its way */
    if (live) {
        commit(p);
        return;
    }
    if (s) {
        tenant_unwatch(&p->watch);
        p->stand_in = NULL;
        if (registry_remove(s, &err) < 0)
            log_error("%s: %s", p->vm, err.text);
    }
    if (p->committed)
        go_on(p);
    else
        finish(p);
}

/* It is the same VM as before, whatever the snapshot's was. */
static int take_uuid(Ferry__MachineConfig *config, const struct tenant *t, struct err *err)
{
    free(config->uuid.data);
    config->uuid = (ProtobufCBinaryData){0};
    uint8_t *copy = malloc(t->config->uuid.len);
    if (!copy)
        return err_set(err, ENOMEM, "no memory for a uuid");
    memcpy(copy, t->config->uuid.data, t->config->uuid.len);
    config->uuid = (ProtobufCBinaryData){.data = copy, .len = t->config->uuid.len};
    return 0;
}

int replace_start(struct replace *p, Ferry__MachineConfig *config, const struct spawn_saved *saved,
                  struct err *err)
{
    struct err ignored;
    struct tenant *t = find_old(p, err);
    if (!t || take_uuid(config, t, err) < 0) {
        frame_free(&config->base);
        return -err->code;
    }
    struct tenant *s = registry_stand_in(&p->daemon->registry, config, err);
    if (!s)
        return -err->code;
    int rc = tenant_start(p->daemon, s, true, saved, err);
    if (rc < 0) {
        registry_remove(s, &ignored);
        return rc;
    }
    p->stand_in = s;
    tenant_watch(s, &p->watch, on_moved);
    return 0;
}

void replace_cancel(struct replace *p)
{
    p->cancelled = true;
    if (p->committed || p->err.code)
        return;
    err_set(&p->err, ECANCELED, "the restore was cancelled");
    if (p->stand_in && tenant_in(p->stand_in, STATES_LIVE))
        tenant_kill(p->stand_in, "the restore was cancelled");
}
