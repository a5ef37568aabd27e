/*
 * Starting a worker: opening all that it needs, running it, handing it over.
 *
 * The worker gets /dev/null as 0, its log as 1 and 2, and one end of a socketpair as 3; nothing
 * else is open in it. It leads a session of its own and does not hear when ferryd dies. Then a
 * hello and a start frame go over the socketpair, without waiting, the descriptors with the latter.
 */
#pragma once

#include <stdbool.h>

#include "base/err.h"
#include "base/log.h"
#include "daemon/disks.h"
#include "daemon/nets.h"
#include "daemon/process.h"
#include "daemon/root.h"
#include "proto/config.pb-c.h"
#include "proto/worker.pb-c.h"

#define SPAWN_START_ID 2u /* of the start request */

/* In the order in which WorkerStart names them. */
enum spawn_file {
    SPAWN_KVM,
    SPAWN_KERNEL,
    SPAWN_INITRD, /* -1 without one */
    SPAWN_LISTENER,
    SPAWN_RECORD,
    SPAWN_CONSOLE,
    SPAWN_JOBS,
    SPAWN_USERFAULTFD, /* only for a restore, -1 when it cannot be had */
    SPAWN_FILES,
};

struct spawn {
    int fds[SPAWN_FILES]; /* owned */
    int socket;           /* owned: ferryd's end */
    struct disks disks;
    struct nets nets;
};

/* A guest to go on with, instead of booting; all of it borrowed. */
struct spawn_saved {
    Ferry__WorkerIncoming *incoming; /* NULL: it comes from a snapshot; else from a peer: */
    int peer_fd, owner_fd;
    const int *layers; /* directories of the snapshot's chain, the full one's first */
    unsigned count;
    bool freeze_clock;
    uint32_t other_disks;         /* a bit for each that need not be as the guest left it */
    Ferry__SnapshotRef **lineage; /* what it comes from, oldest first, itself last */
    size_t n_lineage;
};

#define SPAWN_EMPTY                                                                                \
    {                                                                                              \
        .fds = {-1, -1, -1, -1, -1, -1, -1, -1}, .socket = -1                                      \
    }

void spawn_fini(struct spawn *s);

/* Opens what the VM is made from: /dev/kvm, kernel, initrd, disks, networks. Nothing is made yet.
 */
int spawn_open_inputs(struct spawn *s, const char *kvm, const Ferry__MachineConfig *config,
                      struct err *err);

/* One of them each; a descriptor, or -errno. */
int spawn_open_kvm(const char *path, struct err *err);
int spawn_open_image(const char *path, const char *what, struct err *err);
/* The same for a machine that goes on from a snapshot, with what memory may be filled through. It
 * needs kernel and initrd only for being reset: when one cannot be opened, `missing` says so (code
 * 0 otherwise) and it does without both. */
int spawn_open_for_saved(struct spawn *s, const char *kvm, const Ferry__MachineConfig *config,
                         struct err *missing, struct err *err);

/* A worker that nobody found again must not get a second one beside it. */
int spawn_check_free(int dirfd, const char *name, struct err *err);

/* Makes the socket, the record and the console file of VM `name`, whose directory is `dirfd`. */
int spawn_make_files(struct spawn *s, const struct root *root, int dirfd, const char *name,
                     struct err *err);

/* Runs the program `worker`; `process` is then it. */
int spawn_run(struct spawn *s, const char *worker, int dirfd, const char *name,
              const char *log_level, struct process *process, struct err *err);

/* Sends hello and start, and closes our copies of the files. `saved` may be NULL. */
int spawn_send(struct spawn *s, const Ferry__MachineConfig *config, bool paused,
               const struct spawn_saved *saved, struct err *err);

/* Whether a worker holds the record file that is open as `fd`. */
bool spawn_record_is_held(int fd);
