/*
 * A request about snapshots, done in a task of its own (task.h), because all of it is reading and
 * writing disks.
 *
 *     snapshot_task_new ─► snapshot_task_start ─► run [job] ─► ended, then reply or failure [loop]
 *
 * The request may leave before its task: then it is cancelled, runs to its end unheard, and
 * `reply` is not called.
 */
#pragma once

#include <pthread.h>
#include <stdbool.h>

#include "base/err.h"
#include "base/name.h"
#include "daemon/request.h"
#include "daemon/task.h"
#include "proto/snapshot.pb-c.h"
#include "snapshot/catalogue.h"

struct snapshot_task;

/* What may be NULL is marked. */
struct snapshot_work {
    int (*run)(struct snapshot_task *t, struct err *err); /* [job] */
    void (*news)(struct snapshot_task *t);                /* [loop] NULL; after task_tell */
    void (*ended)(struct snapshot_task *t);               /* [loop] NULL; err.code tells how */
    /* [loop] NULL. True: there is more to wait for, then snapshot_task_finish is called. */
    bool (*waits)(struct snapshot_task *t);
    /* [loop] NULL: the reply is empty. Ends the request, or takes it over (state, drop). */
    void (*reply)(struct snapshot_task *t);
    void (*cancel)(struct snapshot_task *t); /* [loop] NULL; locked: has `run` end early */
    void (*fini)(struct snapshot_task *t);   /* [loop] NULL; of what is behind the task */
};

struct snapshot_progress {
    const char *stage; /* a constant; NULL before the first */
    uint64_t done_bytes, total_bytes;
    uint32_t round;
};

/* First in a struct that has more. */
struct snapshot_task {
    struct request *rq; /* [loop] borrowed; NULL once it left */
    struct daemon *daemon;
    const struct root *root;
    struct catalogue catalogue;
    const struct snapshot_work *work;
    struct err err;
    char name[NAME_MAX_CHARS + 1];     /* of the snapshot; empty without one */
    Ferry__SnapshotManifest *manifest; /* owned, of manifest_unpack; NULL without one */
    struct catalogue_list list;
    struct task *task;
    pthread_mutex_t lock; /* for the three below */
    bool cancelled, committed;
    struct snapshot_progress progress;
};

/* `size` bytes of zeros that begin with a task. The name is checked; NULL for none. */
void *snapshot_task_new(struct request *rq, const char *name, const struct snapshot_work *work,
                        size_t size, struct err *err);
void snapshot_task_free(struct snapshot_task *t);

/* The request is the task's from here on. On failure the task is freed. */
int snapshot_task_start(struct snapshot_task *t, struct err *err);

/* The reply, and the end of a task that waited. [loop] */
void snapshot_task_finish(struct snapshot_task *t);

/* Reads the manifest of `name` and the list, for a reply about it. [job] */
int snapshot_task_load(struct snapshot_task *t, struct err *err);

/* Tells the client, if it is still there. [job] */
void snapshot_task_tell(struct snapshot_task *t, const struct snapshot_progress *progress);

bool snapshot_task_is_cancelled(struct snapshot_task *t);

/* From here on it is not cancelled any more; -ECANCELED when it was. [job] */
int snapshot_task_commit(struct snapshot_task *t, struct err *err);
