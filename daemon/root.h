/*
 * The two directories of a ferryd.
 *
 *     ROOT/lock                 held while ferryd runs
 *     ROOT/events               the log of events
 *     ROOT/vms/NAME/definition  what the machine is made of
 *                   state       what ferryd knows of it
 *                   record      what its worker said last
 *                   console     what the guest said last, once its worker has ended
 *                   log         of its workers
 *     ROOT/snapshots/NAME       a snapshot (docs/snapshot-format.md)
 *     ROOT/owners/UUID          whose a guest is that was ever migrated (ownership.h)
 *     ROOT/migrations/NAME      how the last migration away from here went
 *     RUN/lock
 *     RUN/ferryd.sock           for clients
 *     RUN/vms/NAME/worker.sock  where a later ferryd finds the worker
 *                  jobs.sock    one connection a job
 *
 * All but RUN itself is for the owner only.
 */
#pragma once

#include <stdbool.h>

#include "base/err.h"

#define ROOT_CLIENT_SOCKET "ferryd.sock"

struct root {
    char *root, *run; /* owned; absolute */
    int vms_fd, snapshots_fd, owners_fd, migrations_fd, run_fd, run_vms_fd, root_fd;
    int root_lock, run_lock;
};

/* Makes what is missing, checks that clients can name the socket, takes both locks. */
int root_open(struct root *r, const char *root, const char *run, struct err *err);
void root_close(struct root *r);

/* Makes ROOT/vms/NAME, which must not be there; its descriptor. */
int root_make_vm(const struct root *r, const char *name, struct err *err);
int root_open_vm(const struct root *r, const char *name, struct err *err);

/* Removes all that is kept of a VM, its definition first. */
int root_remove_vm(const struct root *r, const char *name, struct err *err);

/* RUN/vms/NAME and what is in it: there while the VM has a worker. */
int root_make_run(const struct root *r, const char *name, struct err *err);
int root_remove_run(const struct root *r, const char *name, struct err *err);

/* ROOT/owners/UUID, made when it is missing; it is there after a crash of the host, too. */
struct uuid;
int root_open_owner(const struct root *r, const struct uuid *uuid, struct err *err);
/* Only when it is there: -ENOENT. */
int root_find_owner(const struct root *r, const struct uuid *uuid, struct err *err);
int root_remove_owner(const struct root *r, const struct uuid *uuid, struct err *err);

/* ROOT/migrations/NAME, made when it is missing and `make`. */
int root_open_migration(const struct root *r, const char *name, bool make, struct err *err);

/* A listening unix socket NAME in the directory, whose file has the given mode; replaces one that
 * is there. */
int root_listen(int dirfd, const char *name, unsigned mode, int backlog, struct err *err);

/* RUN/vms/NAME/worker.sock, made and found. */
int root_listen_worker(const struct root *r, const char *name, int backlog, struct err *err);
int root_connect_worker(const struct root *r, const char *name, struct err *err);

/* RUN/vms/NAME/jobs.sock; a connection to it blocks. */
int root_listen_jobs(const struct root *r, const char *name, int backlog, struct err *err);
int root_connect_jobs(const struct root *r, const char *name, struct err *err);
