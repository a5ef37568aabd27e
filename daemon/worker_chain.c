/* See worker_chain.h. */
#include "daemon/worker_chain.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define REASON_MAX 300

void chain_init(struct chain *c)
{
    *c = (struct chain){.busy = false};
    pthread_mutex_init(&c->lock, NULL);
}

void chain_fini(struct chain *c)
{
    pthread_mutex_destroy(&c->lock);
}

/* Once; the oldest one goes when there are too many. */
static unsigned append(struct snapshot_ref *refs, unsigned count, const struct snapshot_ref *ref)
{
    for (unsigned i = 0; i < count; i++)
        if (snapshot_ref_same(&refs[i], ref))
            return count;
    if (!snapshot_ref_is_set(ref))
        return count;
    if (count == SNAPSHOT_LINEAGE_MAX)
        memmove(refs, refs + 1, --count * sizeof(*refs));
    refs[count++] = *ref;
    return count;
}

void chain_set_lineage(struct chain *c, Ferry__SnapshotRef *const *refs, size_t count)
{
    pthread_mutex_lock(&c->lock);
    for (size_t i = 0; i < count; i++) {
        snapshot_ref_take(&c->origin, refs[i]);
        c->count = append(c->lineage, c->count, &c->origin);
    }
    pthread_mutex_unlock(&c->lock);
}

/* Locked. Which snapshots a diff could stand on, and why not on this one. */
static int refuse_parent(const struct chain *c, const struct snapshot_ref *parent, struct err *why)
{
    char known[REASON_MAX] = "its changes are not tracked";
    const struct snapshot_ref *other = c->on ? &c->tip : &c->origin;
    if (c->on)
        snprintf(known, sizeof(known), "its changes are tracked since '%s'", c->tip.name);
    else if (c->off_because[0])
        snprintf(known, sizeof(known), "%s", c->off_because);
    else if (snapshot_ref_is_set(&c->origin))
        snprintf(known, sizeof(known), "it was restored from '%s'", c->origin.name);
    if (strcmp(other->name, parent->name) == 0)
        return err_set(why, ENODATA,
                       "what changed since '%s' is not known: %s, but another one of "
                       "that name",
                       parent->name, known);
    return err_set(why, ENODATA, "what changed since '%s' is not known: %s", parent->name, known);
}

/* Locked. */
static int choose(struct chain *c, struct chain_capture *capture, struct err *err)
{
    const struct snapshot_ref none = {.name = ""};
    capture->way = capture->track ? CHAIN_BEGIN : CHAIN_ALONE;
    if (!snapshot_ref_is_set(&capture->parent))
        return 0;
    if (c->on && snapshot_ref_same(&capture->parent, &c->tip)) {
        capture->way = CHAIN_DIFF;
    } else if (capture->is_clone && snapshot_ref_same(&capture->parent, &c->origin)) {
        capture->way = CHAIN_ORIGIN;
    } else if (capture->or_full) {
        refuse_parent(c, &capture->parent, &capture->note);
        capture->parent = none;
    } else {
        return refuse_parent(c, &capture->parent, err);
    }
    return 0;
}

/* Locked. */
static int enter(struct chain *c, struct dirty *dirty, struct chain_capture *capture,
                 struct err *err)
{
    int rc = 0;
    if (capture->way == CHAIN_ALONE)
        return 0;
    if (c->busy)
        return err_set(err, EBUSY, "another snapshot of this chain is being taken: wait for it");
    if (!c->on)
        rc = dirty_attach(dirty, &c->consumer, err);
    c->busy = rc == 0;
    capture->tracked = &c->consumer.pages;
    return rc;
}

int chain_enter(struct chain *c, struct dirty *dirty, struct chain_capture *capture,
                struct err *err)
{
    pthread_mutex_lock(&c->lock);
    int rc = choose(c, capture, err);
    if (rc == 0)
        rc = enter(c, dirty, capture, err);
    pthread_mutex_unlock(&c->lock);
    return rc;
}

/* Locked. */
static void keep(struct chain *c, const struct chain_capture *capture)
{
    c->count = append(c->lineage, c->count, &capture->parent);
    c->on = capture->track;
    c->tip = capture->self;
    c->off_because[0] = '\0';
    if (!c->on)
        snprintf(c->off_because, sizeof(c->off_because),
                 "its changes are not tracked since the last one, '%s'", capture->self.name);
}

void chain_leave(struct chain *c, struct dirty *dirty, const struct chain_capture *capture,
                 const struct capture_result *result, bool kept)
{
    if (capture->way == CHAIN_ALONE)
        return;
    pthread_mutex_lock(&c->lock);
    if (kept)
        keep(c, capture);
    else if (result)
        capture_give_back(result, &c->consumer.pages);
    if (!c->on)
        dirty_detach(dirty, &c->consumer);
    c->busy = false;
    pthread_mutex_unlock(&c->lock);
}

/* Locked; nobody has entered. */
static void switch_off(struct chain *c, struct dirty *dirty, const char *why)
{
    if (c->on)
        dirty_detach(dirty, &c->consumer);
    c->on = false;
    snprintf(c->off_because, sizeof(c->off_because), "%s", why);
}

int chain_untrack(struct chain *c, struct dirty *dirty, struct err *err)
{
    int rc = 0;
    pthread_mutex_lock(&c->lock);
    if (c->busy)
        rc = err_set(err, EBUSY, "a snapshot of the chain is being taken: wait for it");
    else if (!c->on)
        rc = err_set(err, EALREADY, "its changes are not tracked");
    else
        switch_off(c, dirty, "its changes are not tracked any more");
    pthread_mutex_unlock(&c->lock);
    return rc;
}

void chain_cut(struct chain *c, struct dirty *dirty, const char *why)
{
    char text[sizeof(c->off_because)] = "";
    pthread_mutex_lock(&c->lock);
    if (c->on || snapshot_ref_is_set(&c->origin) || c->off_because[0])
        snprintf(text, sizeof(text), "it was %s since", why);
    switch_off(c, dirty, text);
    c->origin = (struct snapshot_ref){.name = ""};
    c->count = 0;
    pthread_mutex_unlock(&c->lock);
}

struct chain_view chain_view(struct chain *c)
{
    struct chain_view view = {.tip = {.name = ""}};
    pthread_mutex_lock(&c->lock);
    view.origin = c->origin;
    if (c->on)
        view.tip = c->tip;
    pthread_mutex_unlock(&c->lock);
    return view;
}

unsigned chain_lineage(struct chain *c, const struct snapshot_ref *parent,
                       struct snapshot_ref *refs)
{
    pthread_mutex_lock(&c->lock);
    unsigned count = c->count;
    memcpy(refs, c->lineage, count * sizeof(*refs));
    pthread_mutex_unlock(&c->lock);
    return append(refs, count, parent);
}
