/* See registry.h. */
#include "daemon/registry.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "base/now.h"
#include "daemon/definition.h"
#include "daemon/tenant_run.h"
#include "proto/frame.h"

#define ENDING_BYTES_MAX 4096u

#define TO(name) STATE_BIT(name)

// clang-format off
static const struct sm_state lifecycle[] = {
    [FERRY__VM_STATE__VM_STOPPED]  = {"stopped",  TO(STARTING)},
    [FERRY__VM_STATE__VM_STARTING] = {"starting", TO(RUNNING) | TO(PAUSED) | TO(FAILED) | TO(STOPPED) | TO(CRASHED)},
    [FERRY__VM_STATE__VM_RUNNING]  = {"running",  TO(PAUSED) | TO(STOPPING) | TO(FAILED) | TO(STOPPED) | TO(CRASHED) | TO(IN_DOUBT)},
    [FERRY__VM_STATE__VM_PAUSED]   = {"paused",   TO(RUNNING) | TO(STOPPING) | TO(FAILED) | TO(STOPPED) | TO(CRASHED) | TO(IN_DOUBT)},
    [FERRY__VM_STATE__VM_STOPPING] = {"stopping", TO(RUNNING) | TO(FAILED) | TO(STOPPED) | TO(CRASHED) | TO(IN_DOUBT)},
    [FERRY__VM_STATE__VM_FAILED]   = {"failed",   TO(RUNNING) | TO(PAUSED) | TO(STOPPED) | TO(CRASHED)},
    [FERRY__VM_STATE__VM_CRASHED]  = {"crashed",  TO(STARTING)},
    [FERRY__VM_STATE__VM_IN_DOUBT] = {"in doubt", TO(RUNNING) | TO(PAUSED) | TO(STOPPED) | TO(CRASHED)},
};
// clang-format on
#define STATES (sizeof(lifecycle) / sizeof(lifecycle[0]))

void registry_init(struct registry *r, struct events *events, const struct root *root)
{
    *r = (struct registry){.events = events, .root = root};
    TAILQ_INIT(&r->all);
    TAILQ_INIT(&r->stand_ins);
    process_boot_id(r->boot_id);
}

static void tenant_free(struct tenant *t)
{
    frame_free((ProtobufCMessage *)t->config);
    frame_free((ProtobufCMessage *)t->ending);
    process_close(&t->process);
    clean_fd(&t->dirfd);
    free(t);
}

struct tenant *registry_find(const struct registry *r, const char *name)
{
    struct tenant *t;
    TAILQ_FOREACH(t, &r->all, all)
    if (strcmp(t->name, name) == 0)
        return t;
    return NULL;
}

struct tenant *registry_find_stand_in(const struct registry *r, const char *vm)
{
    struct tenant *t;
    TAILQ_FOREACH(t, &r->stand_ins, all)
    if (strcmp(t->config->name, vm) == 0)
        return t;
    return NULL;
}

static void insert(struct registry *r, struct tenant *t)
{
    struct tenant *at;
    TAILQ_FOREACH(at, &r->all, all)
    if (strcmp(at->name, t->name) > 0)
        break;
    if (at)
        TAILQ_INSERT_BEFORE(at, t, all);
    else
        TAILQ_INSERT_TAIL(&r->all, t, all);
    r->count++;
}

/* Takes the config over, also when it fails. */
static struct tenant *tenant_new(struct registry *r, Ferry__MachineConfig *config, struct err *err)
{
    struct tenant *t = calloc(1, sizeof(*t));
    if (!t) {
        frame_free((ProtobufCMessage *)config);
        err_set(err, ENOMEM, "no memory for a VM");
        return NULL;
    }
    *t = (struct tenant){.registry = r,
                         .config = config,
                         .name = config->name,
                         .dirfd = -1,
                         .process = {.pidfd = -1}};
    TAILQ_INIT(&t->watches);
    sm_init(&t->sm, lifecycle, STATES, FERRY__VM_STATE__VM_STOPPED);
    return t;
}

static int make_files(struct tenant *t, struct err *err)
{
    const struct root *root = t->registry->root;
    t->dirfd = root_make_vm(root, t->name, err);
    if (t->dirfd < 0)
        return t->dirfd;
    int rc = definition_write(t->dirfd, t->config, err);
    if (rc < 0) {
        struct err ignored;
        root_remove_vm(root, t->name, &ignored);
    }
    return rc;
}

struct tenant *registry_define(struct registry *r, Ferry__MachineConfig *config, struct err *err)
{
    if (r->count >= REGISTRY_MAX) {
        frame_free((ProtobufCMessage *)config);
        err_set(err, ENOSPC, "there are %u VMs already: rm one first", REGISTRY_MAX);
        return NULL;
    }
    struct tenant *t = tenant_new(r, config, err);
    if (t && make_files(t, err) < 0) {
        tenant_free(t);
        return NULL;
    }
    if (t)
        insert(r, t);
    return t;
}

struct tenant *registry_stand_in(struct registry *r, Ferry__MachineConfig *config, struct err *err)
{
    struct tenant *t = tenant_new(r, config, err);
    if (!t)
        return NULL;
    t->stand_in = true;
    stand_in_name(config->name, t->own_name);
    t->name = t->own_name;
    t->dirfd = stand_in_make(r->root, config->name, err);
    if (t->dirfd < 0 || definition_write(t->dirfd, config, err) < 0 ||
        definition_sync(t->dirfd, err) < 0) {
        struct err ignored;
        root_remove_vm(r->root, t->name, &ignored);
        tenant_free(t);
        return NULL;
    }
    TAILQ_INSERT_TAIL(&r->stand_ins, t, all);
    return t;
}

/* What is left of a state file that was lost with its host is nothing: then it is stopped. */
static void take_stored(struct tenant *t, Ferry__VmStored *stored)
{
    if (stored->state < STATES)
        t->sm.now = stored->state;
    t->boot_wall_ns = stored->boot_wall_ns;
    t->resets = stored->resets;
    t->ending = steal_ptr(&stored->ending);
}

struct tenant *registry_load(struct registry *r, const char *name, Ferry__VmStored **stored,
                             struct err *err)
{
    Ferry__MachineConfig *config = NULL;
    struct err lost = {0};
    CLEAN(clean_fd) int dirfd = root_open_vm(r->root, name, err);
    if (dirfd < 0 || definition_read(dirfd, name, &config, err) < 0)
        return NULL;
    struct tenant *t = tenant_new(r, config, err);
    if (!t)
        return NULL;
    t->dirfd = steal_fd(&dirfd);
    *stored = NULL;
    if (definition_read_state(t->dirfd, stored, &lost) == 0)
        take_stored(t, *stored);
    else if (lost.code != ENOENT)
        log_warn("%s: %s", name, lost.text);
    insert(r, t);
    return t;
}

static void tell(struct tenant *t, bool removed)
{
    struct tenant_watch *w;
    uint64_t move = ++t->moves;
    do { /* from the front again after each: anyone may have left */
        TAILQ_FOREACH(w, &t->watches, all)
        if (w->seen < move)
            break;
        if (w) {
            w->seen = move;
            w->moved(w, removed);
        }
    } while (w);
}

int registry_remove(struct tenant *t, struct err *err)
{
    struct registry *r = t->registry;
    int rc = root_remove_vm(r->root, t->name, err);
    if (rc < 0)
        return rc;
    log_info("%s: removed", t->name);
    tenant_event(t, FERRY__EVENT_KIND__EVENT_REMOVED, "");
    tell(t, true);
    TAILQ_REMOVE(t->stand_in ? &r->stand_ins : &r->all, t, all);
    r->count -= !t->stand_in;
    tenant_free(t);
    return 0;
}

/* The workers of stand-ins are ended by the next ferryd. */
void registry_fini(struct registry *r)
{
    struct tenant *t;
    while ((t = TAILQ_FIRST(&r->stand_ins))) {
        tell(t, true);
        TAILQ_REMOVE(&r->stand_ins, t, all);
        tenant_free(t);
    }
    while ((t = TAILQ_FIRST(&r->all))) {
        tell(t, true);
        TAILQ_REMOVE(&r->all, t, all);
        tenant_free(t);
    }
    r->count = 0;
}

Ferry__VmState tenant_state(const struct tenant *t)
{
    return (Ferry__VmState)t->sm.now;
}

const char *tenant_state_name(Ferry__VmState state)
{
    return (unsigned)state < STATES ? lifecycle[state].name : "unknown";
}

bool tenant_in(const struct tenant *t, uint32_t states)
{
    return states & SM_TO(t->sm.now);
}

#define SWAP(member)                                                                               \
    do {                                                                                           \
        __typeof__(t->member) other = s->member;                                                   \
        s->member = t->member;                                                                     \
        t->member = other;                                                                         \
    } while (0)

static void swap(struct tenant *t, struct tenant *s)
{
    SWAP(config);
    SWAP(process);
    SWAP(run);
    SWAP(sm.now);
    SWAP(ending);
    SWAP(origin);
    SWAP(tracked);
    SWAP(boot_wall_ns);
    SWAP(resets);
    SWAP(generation);
    SWAP(has_generation);
    SWAP(gone_code);
    t->name = t->config->name;
}

void tenant_exchange(struct tenant *t, struct tenant *s, const char *text)
{
    const char *from = sm_name(&t->sm);
    swap(t, s);
    t->incarnation++;
    tenant_run_adopt(t);
    tenant_run_adopt(s);
    log_info("%s: %s -> %s: restored in place %s", t->name, from, sm_name(&t->sm), text);
    tenant_store(t);
    tenant_event(t, FERRY__EVENT_KIND__EVENT_RESTORED, text);
    tenant_event(t, FERRY__EVENT_KIND__EVENT_STATE, "");
    tell(t, false);
}

int tenant_move(struct tenant *t, Ferry__VmState to, const char *text)
{
    const char *from = sm_name(&t->sm);
    if (sm_move(&t->sm, to) < 0) {
        log_error("%s: a move from %s to %s was asked for, which there is not", t->name, from,
                  tenant_state_name(to));
        return -EPERM;
    }
    log_info("%s: %s -> %s%s%s", t->name, from, sm_name(&t->sm), text[0] ? ": " : "", text);
    tenant_store(t);
    tenant_event(t, FERRY__EVENT_KIND__EVENT_STATE, text);
    tell(t, false);
    return 0;
}

static Ferry__Ending *ending_copy(const Ferry__Ending *ending)
{
    uint8_t packed[ENDING_BYTES_MAX];
    struct err ignored;
    size_t len = ferry__ending__get_packed_size(ending);
    if (len > sizeof(packed))
        return NULL;
    ferry__ending__pack(ending, packed);
    return (Ferry__Ending *)frame_unpack(&ferry__ending__descriptor, packed, len, &ignored);
}

void tenant_set_ending(struct tenant *t, const Ferry__Ending *ending)
{
    char text[ERR_TEXT_MAX];
    Ferry__Ending bounded = *ending;
    snprintf(text, sizeof(text), "%s", ending->text);
    bounded.text = text;
    Ferry__Ending *copy = ending_copy(&bounded);
    if (!copy) { /* a report too large, or a sentence cut in the middle of a letter */
        bounded.cpu = NULL;
        for (char *at = text; *at; at++)
            *at = (char)((*at & 0x80) ? '?' : *at);
        copy = ending_copy(&bounded);
    }
    if (!copy)
        return;
    frame_free((ProtobufCMessage *)t->ending);
    t->ending = copy;
}

void tenant_end(struct tenant *t, Ferry__EndKind kind, const char *text)
{
    Ferry__Ending ending = FERRY__ENDING__INIT;
    ending.kind = kind;
    ending.text = (char *)text;
    ending.wall_ns = now_wall_ns();
    tenant_set_ending(t, &ending);
}

const char *tenant_ending_text(const struct tenant *t)
{
    return t->ending ? t->ending->text : "";
}

void tenant_event(struct tenant *t, Ferry__EventKind kind, const char *text)
{
    struct err err;
    Ferry__Event event = FERRY__EVENT__INIT;
    if (t->stand_in)
        return;
    event.kind = kind;
    event.vm = (char *)t->name;
    event.state = tenant_state(t);
    event.text = (char *)text;
    if (events_add(t->registry->events, event, &err) < 0)
        log_warn("events: %s", err.text);
}

void tenant_store(struct tenant *t)
{
    struct err err;
    Ferry__VmStored stored = FERRY__VM_STORED__INIT;
    if (t->stand_in)
        return;
    stored.state = t->sm.now;
    stored.ending = t->ending;
    stored.pid = (uint32_t)t->process.pid;
    stored.pid_start = t->process.start;
    stored.boot_id = t->registry->boot_id;
    stored.boot_wall_ns = t->boot_wall_ns;
    stored.resets = t->resets;
    if (definition_write_state(t->dirfd, &stored, &err) < 0)
        log_warn("%s: %s", t->name, err.text);
}

void tenant_watch(struct tenant *t, struct tenant_watch *watch,
                  void (*moved)(struct tenant_watch *watch, bool removed))
{
    *watch = (struct tenant_watch){.tenant = t, .moved = moved, .seen = t->moves};
    TAILQ_INSERT_TAIL(&t->watches, watch, all);
}

void tenant_unwatch(struct tenant_watch *watch)
{
    if (!watch->tenant)
        return;
    TAILQ_REMOVE(&watch->tenant->watches, watch, all);
    watch->tenant = NULL;
}
