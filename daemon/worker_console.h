/*
 * The console between the guest and the sessions: reads, delayed answers to watches, and writes
 * that wait in line until the guest has read what came before. All [loop].
 */
#pragma once

#include "daemon/worker.h"

#define WORKER_CONSOLE_CHUNK 65536u
#define WORKER_WRITES_MAX                                                                          \
    32u /* a guest that does not read its console fills no more than these                         \
         */

struct session;

/* Answers from the scrollback. */
int worker_console_read(struct session *s, uint32_t id, const Ferry__WorkerConsoleRead *ask,
                        struct err *err);

/* Answers now, or once there is something behind ask->offset; one watch a session. */
int worker_console_watch(struct session *s, uint32_t id, const Ferry__WorkerConsoleWatch *ask,
                         struct err *err);

/* Answers once the guest's input queue has taken all of it. */
int worker_console_write(struct session *s, uint32_t id, const Ferry__WorkerConsoleWrite *ask,
                         struct err *err);

/* There is output, or room for input, or the guest is gone. */
void worker_console_wake(struct worker *w);

/* Nobody waits for the answers of this session any more; what it wrote is still typed. */
void worker_console_forget(struct session *s);
