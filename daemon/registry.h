/*
 * The VMs of this ferryd. A tenant is one of them: its definition, its lifecycle state, how it
 * ended last. The registry is the only writer of a state; each move is one line in the log, one
 * event, and is told to all who watch the tenant. [loop]
 *
 *                     start            resume
 *       ┌─► stopped ─────────► starting ─────► running ◄──────► paused
 *       │      ▲ ▲                │  │          │  ▲  │  pause   │
 *       │      │ └─ not started ──┘  └─ paused ─┼──┼──┼────────► │
 *       │      │                           stop │  │  │          │ stop
 *       │      │ switched off, or killed        ▼  │  │          │ (resumes first)
 *       │      └──────────────────────────── stopping ◄──────────┘
 *       │                                     stop cancelled goes back to running
 *       │
 *       │ kill     the guest broke: running, paused, stopping, starting ──► failed
 *       └───────────────────────────────── reset goes back to running ◄──────┘
 *
 *       the worker died: any state that has one ──► crashed ── start ──► starting
 *       handed off to another host that does not answer: running, paused, stopping ──► in doubt,
 *       and from there back to running or paused, or to stopped when it runs there
 *       a kill leads from any state that has a worker to stopped
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "base/sm.h"
#include "base/uuid.h"
#include "daemon/events.h"
#include "daemon/process.h"
#include "daemon/root.h"
#include "daemon/snapshot_ref.h"
#include "daemon/stand_in.h"
#include "proto/ferry.pb-c.h"
#include "proto/state.pb-c.h"

/* As many as fit one list reply. */
#define REGISTRY_MAX 1024u

#define STATE_BIT(name) SM_TO(FERRY__VM_STATE__VM_##name)

/* States in which the VM has a worker. */
#define STATES_LIVE                                                                                \
    (STATE_BIT(STARTING) | STATE_BIT(RUNNING) | STATE_BIT(PAUSED) | STATE_BIT(STOPPING) |          \
     STATE_BIT(FAILED) | STATE_BIT(IN_DOUBT))
#define STATES_ALL (STATES_LIVE | STATE_BIT(STOPPED) | STATE_BIT(CRASHED))

struct tenant_run;
struct console_hub;

TAILQ_HEAD(tenant_list, tenant);
TAILQ_HEAD(tenant_watch_list, tenant_watch);

struct registry {
    struct tenant_list all; /* by name */
    struct tenant_list stand_ins;
    unsigned count;
    struct events *events;   /* borrowed */
    const struct root *root; /* borrowed */
    char boot_id[BOOT_ID_SIZE];
};

struct tenant {
    TAILQ_ENTRY(tenant) all;
    struct registry *registry; /* borrowed */
    const char *name;          /* borrowed from config, or own_name */
    char own_name[STAND_IN_NAME_SIZE];
    Ferry__MachineConfig *config;
    Ferry__Ending *ending; /* NULL when it never ended */
    int dirfd;
    struct sm sm;
    uint64_t boot_wall_ns;
    uint32_t resets;
    struct uuid generation; /* that its guest finds; valid with has_generation */
    bool has_generation;
    struct snapshot_ref origin, tracked; /* as its worker says */
    bool stand_in;                       /* for the VM in its config; see registry_stand_in */
    bool transient;                      /* being defined: forgotten when its first start fails */
    bool in_doubt;                       /* and its worker is dead; see tenant_owner.h */
    struct process process;              /* the worker's; pid 0 without one */
    struct tenant_run *run;              /* owned; NULL without a worker */
    struct console_hub *console;         /* owned; NULL while nobody listens */
    struct tenant_watch_list watches;
    uint64_t moves;
    unsigned incarnation; /* grows when another worker takes the place of its worker */
    int gone_code;        /* why the last start failed, as an errno */
};

/* Told of each move, and with `removed` when the tenant is about to be freed. It may unwatch itself
 * and others, and may not remove the tenant. */
struct tenant_watch {
    TAILQ_ENTRY(tenant_watch) all;
    struct tenant *tenant; /* borrowed; NULL while not watching */
    void (*moved)(struct tenant_watch *watch, bool removed);
    uint64_t seen;
};

void registry_init(struct registry *r, struct events *events, const struct root *root);

/* Frees all tenants; their files stay. */
void registry_fini(struct registry *r);

struct tenant *registry_find(const struct registry *r, const char *name);

/* Makes a stopped tenant and its directory; takes the config over, also when it fails. */
struct tenant *registry_define(struct registry *r, Ferry__MachineConfig *config, struct err *err);

/* A tenant that may take the place of the VM of that name (stand_in.h): called ".NAME", in nobody's
 * list, without events and state file. Takes the config over, also when it fails. */
struct tenant *registry_stand_in(struct registry *r, Ferry__MachineConfig *config, struct err *err);

/* The one for the VM of that name, or NULL. */
struct tenant *registry_find_stand_in(const struct registry *r, const char *vm);

/* Puts back one that is on disk, in the state that its file says. *stored is that file, for the
 * caller to free, or NULL. Returns NULL with ENOENT when the directory holds no definition. */
struct tenant *registry_load(struct registry *r, const char *name, Ferry__VmStored **stored,
                             struct err *err);

/* Forgets it and removes its files. It has no worker. */
int registry_remove(struct tenant *t, struct err *err);

Ferry__VmState tenant_state(const struct tenant *t);
const char *tenant_state_name(Ferry__VmState state);
bool tenant_in(const struct tenant *t, uint32_t states);

/* Each gets the other's worker, state and definition; names, files and watchers stay. `t` is told:
 * its event says `text`. Who waited for an answer of its worker hears that it is gone. */
void tenant_exchange(struct tenant *t, struct tenant *stand_in, const char *text);

/* `text` says why, or is empty. A move that the table does not have is refused and logged. */
int tenant_move(struct tenant *t, Ferry__VmState to, const char *text);

/* Takes a copy, bounded. */
void tenant_set_ending(struct tenant *t, const Ferry__Ending *ending);
void tenant_end(struct tenant *t, Ferry__EndKind kind, const char *text);
const char *tenant_ending_text(const struct tenant *t);

void tenant_event(struct tenant *t, Ferry__EventKind kind, const char *text);

/* Writes the state file. */
void tenant_store(struct tenant *t);

void tenant_watch(struct tenant *t, struct tenant_watch *watch,
                  void (*moved)(struct tenant_watch *watch, bool removed));
void tenant_unwatch(struct tenant_watch *watch);
