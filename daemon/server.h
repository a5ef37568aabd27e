/*
 * The socket for clients, RUN/ferryd.sock, and who is connected. The socket's mode lets in nobody
 * who may do nothing: the owner; the group, when there is one; everybody, when reads are open.
 * [loop]
 */
#pragma once

#include "daemon/daemon.h"

#define SERVER_CLIENTS_MAX 256u

int server_open(struct daemon *d, struct err *err);

/* Ends all clients and removes the socket. */
void server_close(struct daemon *d);
