/*
 * Frames with descriptors, on a blocking unix socket: how a worker gets all that it may ever use.
 */
#pragma once

#include <stddef.h>

#include "base/buf.h"
#include "base/err.h"
#include "proto/frame.h"

#define FDS_MAX 96 /* a chain of snapshots has up to 64 layers, a directory each */

struct fds {
    int fd[FDS_MAX]; /* owned; -1 where there is none or it was taken */
    unsigned count;
};

void fds_init(struct fds *fds);
void fds_close(struct fds *fds);

/* The i-th descriptor, given away; -1 when there is none. */
int fds_take(struct fds *fds, unsigned i);

/* Sends one whole frame with descriptors (borrowed) on its first byte. */
int fds_send(int socket, const void *frame, size_t len, const int *fd, unsigned count,
             struct err *err);

/* Packs a message into a frame and sends it so. */
int fds_send_message(int socket, const ProtobufCMessage *message, const int *fd, unsigned count,
                     struct err *err);

/* Receives one frame's body into `body` (emptied first), and the descriptors that came with it. */
int fds_receive(int socket, struct buf *body, struct fds *fds, struct err *err);
