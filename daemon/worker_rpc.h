/* The requests a worker answers: one row each, with the states of the guest in which they are
 * legal. What has no row is refused. [loop] */
#pragma once

#include "daemon/worker_session.h"

/* Answers the request, now or later; < 0 with a sentence closes the connection. */
int worker_rpc_handle(struct session *s, const Ferry__WorkerRequest *request, struct err *err);
