/*
 * A worker that lives: its process and the connection to it, joined. Internal to tenant.c and
 * adopt.c. It is over when the process is dead and the connection closed, in whatever order, so
 * that the last words in the socket are heard; a connection that outlives its process by a second
 * is cut.
 */
#pragma once

#include <uv.h>

#include "daemon/registry.h"
#include "daemon/timeout.h"
#include "daemon/worker_link.h"

struct tenant_run {
    uv_poll_t exited;      /* of the process's pidfd */
    struct tenant *tenant; /* NULL once let go: then only libuv holds this memory */
    struct worker_link *link;
    struct timeout *patience;
    bool dead, closed;
    bool killing; /* by request; `why` says whose */
    bool broken;  /* given up; `why` says what for */
    char why[ERR_TEXT_MAX];
    char epitaph[192];
    struct err start_failed; /* the worker's answer to start */
    bool paused;             /* how the start is to end */
    bool arriving;           /* adopted while its guest was on its way here */
    Ferry__WorkerState said;
    uint64_t reset_told_ns;
    void (*ready)(struct tenant *t); /* the hello has come; may be NULL */
};

/* Watches t->process; the link is there but not open. */
int tenant_run_new(uv_loop_t *loop, struct tenant *t, struct err *err);

/* Makes the worker that `t` was given, if any, its own; calls to it that are open are answered. */
void tenant_run_adopt(struct tenant *t);

/* Ends it the soft way, and after TENANT_QUIT_MS the hard way. */
void tenant_run_quit(struct tenant_run *run);

/* Gives it up: SIGKILL, and `crashed` with this text. */
void tenant_run_break(struct tenant_run *run, const char *why);
