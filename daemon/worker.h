/*
 * The worker's heart: one guest and its lifecycle. Everything here is [loop] unless marked.
 *
 *              start                       guest broke
 *     NEW ───────────► RUNNING ──────────────────────────► FAILED
 *      │ paused       pause │ ▲ resume                        │
 *      └──────────► PAUSED ◄┘ │        reset                  │
 *                     │  └────┴───────────────────────────────┘
 *                     ▼
 *                   ENDED   (from everywhere: the guest switched itself off, or quit)
 *
 * A vCPU that meets the end of its road tells so from its thread; the loop then acts: a shutdown
 * ends the worker, a reset builds the machine anew from the same config and descriptors, a fault
 * freezes the guest so that it can be looked at. Each change of state is written to the record file
 * first and told to all sessions then, so that a ferryd that was away learns it too.
 */
#pragma once

#include <pthread.h>
#include <uv.h>

#include "base/sm.h"
#include "daemon/fds.h"
#include "daemon/ownership.h"
#include "daemon/worker_chain.h"
#include "daemon/worker_devices.h"
#include "daemon/worker_job.h"
#include "daemon/worker_move.h"
#include "machine/console.h"
#include "machine/kvm.h"
#include "machine/machine.h"
#include "migrate/tls_session.h"
#include "proto/worker.pb-c.h"

#define WORKER_PROTOCOL_MIN 1
#define WORKER_PROTOCOL_MAX 1

struct restored;
struct session;
struct console_write;
struct arrival;

/* What has the loop end the worker though its guest met no end. */
enum worker_end { WORKER_END_NONE, WORKER_END_MOVED, WORKER_END_NOT_ARRIVED };

struct worker {
    uv_loop_t loop;
    uv_async_t woken;   /* from vCPU threads */
    uv_pipe_t listener; /* where a later ferryd finds us */
    uv_timer_t patience;
    bool has_listener;

    struct kvm kvm;
    Ferry__MachineConfig *config; /* owned, of frame_unpack */
    /* Owned; -1 for none. */
    int kvm_fd, kernel_fd, initrd_fd, listen_fd, record_fd, console_fd;
    struct worker_devices devices;
    struct chain chain;
    struct restored *restored; /* owned; what the machine goes on from; NULL once it was reset */
    struct console console;
    struct counters counters;
    struct machine *machine; /* owned; NULL once it ended */
    struct jobs jobs;
    unsigned holds; /* by jobs that need the guest to stand still for a moment */

    atomic_bool has_migration;
    struct worker_move move;
    struct ownership ownership; /* open during a migration, and while the guest is in doubt */
    int peer_fd;                /* owned: where a guest is to come from, until its job has it */
    struct tls_key peer_key;    /* of that */
    uint32_t start_id;          /* of a start request that is not answered yet; 0 for none */
    struct arrival *arrival;    /* owned; of a guest that comes from a peer (worker_receive.h) */

    struct sm life; /* enum _Ferry__WorkerState */
    struct report ending;
    uint64_t ending_wall_ns, boot_wall_ns;
    pthread_mutex_t record_lock;
    uint64_t record_seq; /* locked */
    uint64_t reset_logged_ns;
    uint32_t resets;

    struct session *sessions;
    struct console_write *writes; /* waiting for the guest to read, first come first */
    unsigned writes_waiting;

    pthread_mutex_t event_lock;
    bool has_event; /* locked, with event */
    struct report event;
    enum worker_end posted_end; /* locked, with posted */
    struct report posted;
    _Atomic unsigned watchers; /* sessions that wait for console output */
};

/* Takes the descriptors and the config out of a start request, and builds the machine. */
int worker_init(struct worker *w, Ferry__WorkerStart *start, struct fds *fds, struct err *err);

/* Runs the loop until the guest is gone; `first` is the connected socket of the ferryd that started
 * us (owned). */
int worker_run(struct worker *w, int first, bool paused, struct err *err);
void worker_fini(struct worker *w);

/* Fills our answer to ferryd's hello, or refuses its versions. */
int worker_negotiate(const Ferry__WorkerHello *theirs, Ferry__WorkerHello *ours, struct err *err);

/* The verbs of the RPC; legal states were checked by its table. */
int worker_pause(struct worker *w, struct err *err);
int worker_resume(struct worker *w, struct err *err);

/* When it fails the guest is gone (there is no machine): answer, then quit, which takes the
 * sessions along; unless it cannot be reset at all, then it goes on as it was. */
int worker_reset(struct worker *w, const char *by, struct err *err);
void worker_quit(struct worker *w);

/* For those who share the lifecycle: a move of state, told and written down; what the guest does
 * made what its state says; whether it has met an end that the loop has not heard of yet. [loop] */
void worker_enter(struct worker *w, unsigned state);
void worker_settle(struct worker *w);
bool worker_has_event(struct worker *w);

/* Has the loop end the worker. [any] */
void worker_post_end(struct worker *w, enum worker_end why, const struct report *report);

/* worker_status.c: for what nobody in this process can survive: the record says why, and the
 * process is gone. [any]
 */
_Noreturn void worker_die(struct worker *w, const char *why);

/* The guest stands still between the two, whatever its state says; for job_call_loop. */
int worker_hold(struct worker *w, struct err *err);
int worker_release(struct worker *w, struct err *err);

/* Writes and tells the status anew, because more than the state has changed; for job_call_loop. */
int worker_tell(struct worker *w, struct err *err);

/* Ends the tracking of a chain of diffs. */
int worker_untrack(struct worker *w, struct err *err);
