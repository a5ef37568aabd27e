/* See tenant_owner.h. */
#include "daemon/tenant_owner.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "daemon/definition.h"

#define IN_DOUBT "; in doubt: "

static bool take_uuid(const Ferry__MachineConfig *config, struct uuid *uuid)
{
    if (config->uuid.len != sizeof(uuid->bytes))
        return false; /* it cannot have been migrated */
    memcpy(uuid->bytes, config->uuid.data, sizeof(uuid->bytes));
    return true;
}

int tenant_owner_read(const struct tenant *t, struct ownership *o, struct err *err)
{
    struct uuid uuid;
    *o = (struct ownership)OWNERSHIP_NONE;
    if (!take_uuid(t->config, &uuid))
        return 0;
    CLEAN(clean_fd) int fd = root_find_owner(t->registry->root, &uuid, err);
    if (fd == -ENOENT)
        return 0;
    return fd < 0 ? fd : ownership_read(o, fd, &uuid, err);
}

int tenant_owner_check(const struct tenant *t, struct err *err)
{
    struct ownership o;
    struct err damaged = {0};
    const char *vm = t->config->name;
    if (tenant_owner_read(t, &o, &damaged) < 0)
        return err_set(err, EPERM,
                       "it cannot be told whose '%s' is (%.250s): if it runs nowhere else, 'vmctl "
                       "migration resolve %s --keep' says so",
                       vm, damaged.text, vm);
    switch (o.owner) {
    case FERRY__OWNER__OWNER_NONE:
    case FERRY__OWNER__OWNER_OURS:
        return 0;
    case FERRY__OWNER__OWNER_HANDED_OFF:
        return err_set(err, EOWNERDEAD,
                       "'%s' may run at %s, to which it was handed off and which does not answer: "
                       "'vmctl migration resolve %s' with --keep or --discard decides",
                       vm, o.peer, vm);
    case FERRY__OWNER__OWNER_GONE:
        return err_set(err, EPERM,
                       "'%s' moved to %s: only if it is lost there, 'vmctl migration resolve %s "
                       "--keep' takes it back",
                       vm, o.peer, vm);
    default:
        return err_set(err, EPERM,
                       "'%s' was to come from %s and never ran here: only if it is lost there, "
                       "'vmctl migration resolve %s --keep' takes it",
                       vm, o.peer, vm);
    }
}

bool tenant_owner_doubts(const struct tenant *t)
{
    return t->in_doubt && !tenant_in(t, STATES_LIVE);
}

/* after a worker's death ---------------------------------------------------------------------- */

static void begin_doubt(struct tenant *t, const struct ownership *o)
{
    char text[ERR_TEXT_MAX];
    t->in_doubt = true;
    if (!tenant_in(t, STATES_LIVE))
        return; /* its ending says it already */
    snprintf(text, sizeof(text),
             "%.180s" IN_DOUBT "it was handed off to %.220s, which has not said whether it runs "
             "there",
             tenant_ending_text(t), o->peer);
    tenant_end(t, t->ending ? t->ending->kind : FERRY__END_KIND__END_WORKER_DIED, text);
}

static void go(struct tenant *t, const struct ownership *o)
{
    char text[ERR_TEXT_MAX];
    snprintf(text, sizeof(text), "moved to %s", o->peer);
    tenant_end(t, FERRY__END_KIND__END_MOVED, text);
    t->transient = true;
}

static void keep(struct tenant *t)
{
    struct err err;
    if (t->transient && definition_sync(t->dirfd, &err) < 0)
        log_warn("%s: %s", t->name, err.text);
    t->transient = false;
}

/* A guest that was taken over has begun to run, also when nobody was told of it yet: what was the
 * end of a start is the end of a guest. */
static Ferry__VmState judge_ours(struct tenant *t, const struct ownership *o,
                                 const Ferry__WorkerStatus *record, Ferry__VmState to)
{
    if (!o->epoch || !record || record->state == FERRY__WORKER_STATE__WORKER_NEW)
        return to;
    keep(t);
    if (record->state == FERRY__WORKER_STATE__WORKER_ENDED || !t->ending ||
        t->ending->kind != FERRY__END_KIND__END_START_FAILED)
        return to;
    tenant_end(t, FERRY__END_KIND__END_WORKER_DIED,
               "the worker died when the guest had just come here");
    return FERRY__VM_STATE__VM_CRASHED;
}

Ferry__VmState tenant_owner_judge(struct tenant *t, const Ferry__WorkerStatus *record,
                                  Ferry__VmState to)
{
    struct ownership o;
    struct err err = {0};
    if (t->stand_in)
        return to;
    if (tenant_owner_read(t, &o, &err) < 0)
        log_error("%s: %s", t->name, err.text);
    switch (o.owner) {
    case FERRY__OWNER__OWNER_HANDED_OFF:
        begin_doubt(t, &o);
        return to;
    case FERRY__OWNER__OWNER_GONE:
        go(t, &o);
        return FERRY__VM_STATE__VM_STOPPED;
    case FERRY__OWNER__OWNER_INCOMING:
    case FERRY__OWNER__OWNER_TOMBSTONE:
        t->transient |= tenant_in(t, STATE_BIT(STARTING)) || !t->ending;
        return to;
    default:
        return judge_ours(t, &o, record, to);
    }
}

/* the way out --------------------------------------------------------------------------------- */

/* A damaged record is written anew. */
static int write_record(struct tenant *t, const struct uuid *uuid, bool keep, struct err *err)
{
    struct ownership o = OWNERSHIP_NONE;
    int fd = root_open_owner(t->registry->root, uuid, err);
    int rc = fd < 0 ? fd : ownership_open(&o, fd, uuid, err);
    if (rc == -EBADMSG)
        rc = 0;
    if (rc == 0)
        rc = ownership_write(&o, keep ? FERRY__OWNER__OWNER_OURS : FERRY__OWNER__OWNER_GONE,
                             o.epoch, NULL, err);
    if (rc == 0)
        rc = ownership_sync(&o, err);
    if (rc == 0 && !keep)
        go(t, &o);
    ownership_close(&o);
    return rc;
}

/* That it was in doubt is history. */
static void take_back(struct tenant *t)
{
    char text[ERR_TEXT_MAX];
    snprintf(text, sizeof(text), "%s", tenant_ending_text(t));
    char *doubt = strstr(text, IN_DOUBT);
    if (!doubt)
        return;
    *doubt = '\0';
    tenant_end(t, t->ending->kind, text);
    tenant_store(t);
}

int tenant_owner_resolve(struct tenant *t, bool keep, struct err *err)
{
    struct uuid uuid;
    if (!take_uuid(t->config, &uuid))
        return err_set(err, EINVAL, "'%s' has no uuid", t->name);
    int rc = write_record(t, &uuid, keep, err);
    if (rc < 0)
        return rc;
    t->in_doubt = false;
    log_info("%s: no longer in doubt: %s", t->name,
             keep ? "it may be started here" : "it lives at its peer");
    if (keep)
        take_back(t);
    return keep ? 0 : registry_remove(t, err);
}

/* The record last: alone it harms nobody. */
int tenant_owner_remove(struct tenant *t, struct err *err)
{
    struct uuid uuid;
    struct ownership o;
    struct err late = {0};
    const struct root *root = t->registry->root;
    bool has_uuid = take_uuid(t->config, &uuid);
    if (tenant_owner_read(t, &o, &late) == 0 && o.owner == FERRY__OWNER__OWNER_HANDED_OFF)
        return tenant_owner_check(t, err);
    int rc = registry_remove(t, err);
    if (rc == 0 && has_uuid && root_remove_owner(root, &uuid, &late) < 0)
        log_warn("%s", late.text);
    return rc;
}
