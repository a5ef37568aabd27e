/*
 * The worker's first conversation, before its loop runs: hello, then `start` with the descriptors.
 * It blocks: there is nothing else to do yet, and ferryd closes the socket when it loses patience.
 */
#pragma once

#include "daemon/fds.h"
#include "proto/worker.pb-c.h"

/* Receives hellos (answered) and the first other request, which the caller frees with frame_free.
 */
int worker_start_receive(int socket, const char *name, Ferry__WorkerRequest **request,
                         struct fds *fds, struct err *err);

/* Answers the start request: with failure's sentence, or when failure is NULL with the status that
 * the guest begins with. */
int worker_start_reply(int socket, uint32_t id, Ferry__WorkerStatus *status,
                       const struct err *failure, struct err *err);

/* Sends any reply on a blocking socket. */
int worker_start_send(int socket, const Ferry__WorkerReply *reply, struct err *err);
