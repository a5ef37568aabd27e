/*
 * A tenant's worker, from spawn or adoption to its death. [loop]
 *
 * The happy path: tenant_start spawns and sends; the worker's answer moves the tenant from starting
 * to running or paused; its news keep the state; when process and connection are both gone, the
 * record it left and what was asked of it say how it ended.
 *
 * A worker that talks nonsense, or nothing at its hello, is killed and its VM is `crashed`. A
 * worker that closed its connection and does not exit within 5 s, too.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "daemon/daemon.h"
#include "daemon/registry.h"
#include "daemon/spawn.h"
#include "daemon/worker_link.h"

/* How long a worker whose start failed has to go by itself. */
#define TENANT_QUIT_MS 1000u

/*
 * Starts it: from stopped or crashed to starting; watch what comes of it. When it fails here the
 * tenant is as before. A start that fails later leads back to stopped, with gone_code and the
 * ending's text saying why.
 */
int tenant_start(struct daemon *d, struct tenant *t, bool paused, const struct spawn_saved *saved,
                 struct err *err);

/* SIGKILL to the worker; ends in `stopped` with that text. */
void tenant_kill(struct tenant *t, const char *why);

bool tenant_is_killed(const struct tenant *t);

/* A request to its worker; see worker_link_ask. */
int tenant_ask(struct tenant *t, Ferry__WorkerRequest__BodyCase what, uint64_t limit_ms,
               worker_link_answer *answer, void *ctx, struct err *err);
int tenant_call(struct tenant *t, Ferry__WorkerRequest *request, uint64_t limit_ms,
                worker_link_answer *answer, void *ctx, struct err *err);
void tenant_forget(struct tenant *t, const void *ctx);

/* Lets the worker's status become the tenant's. */
void tenant_apply(struct tenant *t, const Ferry__WorkerStatus *status);

/* Keeps how it ended; a worker that gives no sentence gets ours. */
void tenant_take_ending(struct tenant *t, const Ferry__Ending *ending);

/* Where a worker's last word leads: one that says that it could not live has crashed. */
Ferry__VmState tenant_ended_state(const Ferry__Ending *ending);

/* Lets go of the worker without ending it. */
void tenant_release(struct tenant *t);

/* The last lines of the worker's log, at most `size` - 1 bytes of printable UTF-8. */
void tenant_log_tail(const struct tenant *t, char *to, size_t size);
