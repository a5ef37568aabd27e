/*
 * snapshot rm and prune: what goes, and what stays and why.
 *
 * The verdicts are told in parts that fit into a message. A request that leaves does not end what
 * was begun: a removal is done or not, one snapshot after the other.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/now.h"
#include "base/units.h"
#include "daemon/handlers.h"
#include "daemon/snapshot_notice.h"
#include "daemon/snapshot_task.h"
#include "proto/utf8.h"
#include "snapshot/prune.h"

#define PART_VERDICTS 1000u
#define WHY_SIZE 256u

struct removal_task {
    struct snapshot_task task; /* first; its list is what there was before */
    bool with_children, dry_run;
    uint64_t older_ms;
    char vm[NAME_MAX_CHARS + 1];
    struct prune_rule rule;
    struct prune_verdict *verdicts; /* owned; of each of the list; NULL for rm */
    struct catalogue_removed removed;
};

static void fini(struct snapshot_task *t)
{
    struct removal_task *r = (struct removal_task *)t;
    free(r->verdicts);
    catalogue_removed_fini(&r->removed);
}

/* verdicts ------------------------------------------------------------------------------------ */

struct part {
    struct request *rq; /* borrowed */
    Ferry__SnapshotVerdicts all;
    Ferry__SnapshotVerdict verdicts[PART_VERDICTS], *list[PART_VERDICTS];
    char why[PART_VERDICTS][WHY_SIZE];
};

static void part_send(struct part *p, bool last)
{
    Ferry__Reply reply = FERRY__REPLY__INIT;
    p->all.snapshots = p->list;
    reply.body_case = FERRY__REPLY__BODY_SNAPSHOT_VERDICTS;
    reply.snapshot_verdicts = &p->all;
    if (last)
        request_done(p->rq, &reply);
    else
        request_send(p->rq, &reply);
    p->all.n_snapshots = 0;
}

/* Its `why` is empty and the caller's to fill. */
static char *part_add(struct part *p, const char *name, uint64_t disk_bytes, bool removed)
{
    if (p->all.n_snapshots == PART_VERDICTS)
        part_send(p, false);
    size_t i = p->all.n_snapshots++;
    Ferry__SnapshotVerdict *v = p->list[i] = &p->verdicts[i];
    ferry__snapshot_verdict__init(v);
    v->name = (char *)(uintptr_t)name;
    v->removed = removed;
    v->disk_bytes = disk_bytes;
    v->why = p->why[i];
    p->why[i][0] = '\0';
    return p->why[i];
}

static struct part *part_new(struct snapshot_task *t)
{
    struct part *p = calloc(1, sizeof(*p));
    struct err err = {0};
    if (!p) {
        err_set(&err, ENOMEM, "no memory to tell what was removed");
        request_fail(t->rq, &err);
        return NULL;
    }
    p->rq = t->rq;
    ferry__snapshot_verdicts__init(&p->all);
    return p;
}

static void tell_why(const struct removal_task *r, size_t index, char why[WHY_SIZE])
{
    const struct catalogue_entry *e = &r->task.list.entries[index];
    const struct prune_verdict *v = &r->verdicts[index];
    char time[32];
    if (v->why == PRUNE_DAMAGED)
        snprintf(why, WHY_SIZE, "%s", e->problem);
    else if (v->why == PRUNE_NEWEST && r->rule.keep == 1)
        snprintf(why, WHY_SIZE, "the newest of '%s'", e->vm_name);
    else if (v->why == PRUNE_NEWEST)
        snprintf(why, WHY_SIZE, "one of the newest %u of '%s'", r->rule.keep, e->vm_name);
    else if (v->why == PRUNE_YOUNG)
        snprintf(why, WHY_SIZE, "younger than %s",
                 units_format_time(r->older_ms, time, sizeof(time)));
    else if (v->why == PRUNE_NEEDED)
        snprintf(why, WHY_SIZE, "needed by '%s'", r->task.list.entries[v->by].name);
    utf8_clean(why);
}

static uint64_t disk_bytes_of(const struct removal_task *r, const char *name)
{
    const struct catalogue_entry *e = catalogue_find(&r->task.list, name);
    return e ? e->disk_bytes : 0;
}

static void reply_verdicts(struct snapshot_task *t)
{
    struct removal_task *r = (struct removal_task *)t;
    struct part *p = part_new(t);
    if (!p)
        return;
    for (size_t i = 0; i < r->removed.count; i++)
        part_add(p, r->removed.names[i], disk_bytes_of(r, r->removed.names[i]), true);
    for (size_t i = 0; r->verdicts && i < t->list.count; i++)
        if (r->verdicts[i].why != PRUNE_GOES && r->verdicts[i].why != PRUNE_OTHER_VM)
            tell_why(r, i,
                     part_add(p, t->list.entries[i].name, t->list.entries[i].disk_bytes, false));
    part_send(p, true);
    free(p);
}

/* What is gone is told to those who track their changes since it. */
static void on_ended(struct snapshot_task *t)
{
    struct removal_task *r = (struct removal_task *)t;
    for (size_t i = 0; !r->dry_run && i < r->removed.count; i++) {
        const struct catalogue_entry *e = catalogue_find(&t->list, r->removed.names[i]);
        struct snapshot_ref gone = {.name = ""};
        snprintf(gone.name, sizeof(gone.name), "%s", r->removed.names[i]);
        if (e && !e->is_copy)
            gone.uuid = e->uuid;
        snapshot_notice_removed(t->daemon, e ? e->vm_name : "", &gone);
    }
}

/* rm ------------------------------------------------------------------------------------------ */

static int run_remove(struct snapshot_task *t, struct err *err)
{
    struct removal_task *r = (struct removal_task *)t;
    int rc = catalogue_list(&t->catalogue, &t->list, err);
    return rc < 0 ? rc : catalogue_rm(&t->catalogue, t->name, r->with_children, &r->removed, err);
}

int handle_snapshot_remove(struct request *rq, struct err *err)
{
    static const struct snapshot_work work = {
        .run = run_remove, .ended = on_ended, .reply = reply_verdicts, .fini = fini};
    const Ferry__SnapshotRemoveRequest *ask = rq->message->snapshot_remove;
    struct removal_task *r = snapshot_task_new(rq, ask->name, &work, sizeof(*r), err);
    if (!r)
        return -err->code;
    r->with_children = ask->with_children;
    return snapshot_task_start(&r->task, err);
}

/* prune --------------------------------------------------------------------------------------- */

/* What would go is told as gone: who asked for a dry run knows that nothing went. */
static int pretend(struct removal_task *r, const struct catalogue_list *list, const size_t *order,
                   size_t count, struct err *err)
{
    r->removed.names = calloc(count + 1, sizeof(*r->removed.names));
    if (!r->removed.names)
        return err_set(err, ENOMEM, "no memory to tell what would be removed");
    for (; r->removed.count < count; r->removed.count++)
        snprintf(r->removed.names[r->removed.count], NAME_MAX_CHARS + 1, "%s",
                 list->entries[order[r->removed.count]].name);
    return 0;
}

static ssize_t choose(void *ctx, const struct catalogue_list *list, size_t *order, struct err *err)
{
    struct removal_task *r = ctx;
    r->verdicts = calloc(list->count + 1, sizeof(*r->verdicts));
    if (!r->verdicts)
        return err_set(err, ENOMEM, "no memory to look at %zu snapshots with", list->count);
    ssize_t n = prune_plan(list, &r->rule, r->verdicts, order, err);
    if (n < 0 || !r->dry_run)
        return n;
    return pretend(r, list, order, (size_t)n, err);
}

static int run_prune(struct snapshot_task *t, struct err *err)
{
    struct removal_task *r = (struct removal_task *)t;
    struct catalogue_removed *removed = &r->removed, none = {0};
    int rc =
        catalogue_rm_chosen(&t->catalogue, choose, r, &t->list, r->dry_run ? &none : removed, err);
    catalogue_removed_fini(&none);
    return rc;
}

static int set_rule(struct removal_task *r, const Ferry__SnapshotPruneRequest *ask, struct err *err)
{
    uint64_t now = now_wall_ns(), ms = 1000000;
    if (ask->keep == 0 && ask->older_ms == 0)
        return err_set(err, EINVAL, "prune needs a number to keep, or an age");
    if (*ask->vm && name_check(ask->vm, "the VM", err) < 0)
        return -err->code;
    snprintf(r->vm, sizeof(r->vm), "%s", ask->vm);
    r->older_ms = ask->older_ms;
    r->dry_run = ask->dry_run;
    r->rule = (struct prune_rule){
        .keep = ask->keep, .before_wall_ns = UINT64_MAX, .vm_name = r->vm[0] ? r->vm : NULL};
    if (ask->older_ms)
        r->rule.before_wall_ns = ask->older_ms < now / ms ? now - ask->older_ms * ms : 0;
    return 0;
}

int handle_snapshot_prune(struct request *rq, struct err *err)
{
    static const struct snapshot_work work = {
        .run = run_prune, .ended = on_ended, .reply = reply_verdicts, .fini = fini};
    struct removal_task *r = snapshot_task_new(rq, NULL, &work, sizeof(*r), err);
    if (!r)
        return -err->code;
    int rc = set_rule(r, rq->message->snapshot_prune, err);
    if (rc < 0) {
        snapshot_task_free(&r->task);
        return rc;
    }
    return snapshot_task_start(&r->task, err);
}
