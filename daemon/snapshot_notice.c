/* See snapshot_notice.h. */
#include "daemon/snapshot_notice.h"

#include <stdio.h>

#include "base/log.h"
#include "daemon/tenant.h"

static void tell(struct daemon *d, Ferry__EventKind kind, const char *vm, const char *text)
{
    Ferry__Event event = FERRY__EVENT__INIT;
    struct err err;
    event.kind = kind;
    event.vm = (char *)(uintptr_t)vm;
    event.text = (char *)(uintptr_t)text;
    if (events_add(&d->events, event, &err) < 0)
        log_warn("%s", err.text);
}

void snapshot_notice_created(struct daemon *d, const char *vm, const char *name, const char *parent)
{
    char text[2 * NAME_MAX_CHARS + 16];
    snprintf(text, sizeof(text), "%s%s%s", name, *parent ? ", on " : "", parent);
    tell(d, FERRY__EVENT_KIND__EVENT_SNAPSHOT_CREATED, vm, text);
}

void snapshot_notice_failed(struct daemon *d, const char *vm, const char *name,
                            const struct err *why)
{
    char text[NAME_MAX_CHARS + 3 + ERR_TEXT_MAX];
    snprintf(text, sizeof(text), "%s: %s", name, why->text);
    tell(d, FERRY__EVENT_KIND__EVENT_SNAPSHOT_FAILED, vm, text);
}

void snapshot_notice_removed(struct daemon *d, const char *vm, const struct snapshot_ref *snapshot)
{
    struct tenant *t;
    struct err err;
    tell(d, FERRY__EVENT_KIND__EVENT_SNAPSHOT_REMOVED, vm, snapshot->name);
    TAILQ_FOREACH(t, &d->registry.all, all)
    if (tenant_in(t, STATES_LIVE) && snapshot_ref_same(&t->tracked, snapshot) &&
        tenant_ask(t, FERRY__WORKER_REQUEST__BODY_UNTRACK, WORKER_PATIENCE_MS, NULL, NULL, &err) <
            0)
        log_warn("%s: %s", t->name, err.text);
}
