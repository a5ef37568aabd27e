/* See spawn.h. */
#include "daemon/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/uuid.h"
#include "daemon/fds.h"
#include "daemon/record.h"
#include "daemon/worker_link.h"
#include "proto/frame.h"

#define WORKER_FD 3
#define WORKER_BACKLOG 16
#define LOG_KEPT_BYTES (1 << 20) /* a longer log becomes log.1 at the next start */
#define HELLO_ID 1u
#define USERFAULTFD_PATH "/dev/userfaultfd"

extern char **environ;

void spawn_fini(struct spawn *s)
{
    for (size_t i = 0; i < SPAWN_FILES; i++)
        clean_fd(&s->fds[i]);
    clean_fd(&s->socket);
    disks_fini(&s->disks);
    nets_fini(&s->nets);
}

int spawn_open_kvm(const char *path, struct err *err)
{
    int fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd >= 0)
        return fd;
    if (errno == ENOENT || errno == ENODEV || errno == ENXIO)
        return err_set(err, errno,
                       "there is no KVM here (%s): load it with `modprobe kvm_intel` or `modprobe "
                       "kvm_amd`, and see that virtualization is on in the firmware",
                       path);
    if (errno == EACCES || errno == EPERM)
        return err_set(err, errno,
                       "ferryd may not open %s: run it as root or add its user to the group kvm",
                       path);
    return err_sys(err, errno, "cannot open %s", path);
}

/* Found before it is opened: to open a device may set it off, and other hosts name paths, too. */
int spawn_open_image(const char *path, const char *what, struct err *err)
{
    struct stat st;
    char same[40];
    CLEAN(clean_fd) int place = open(path, O_PATH | O_CLOEXEC);
    if (place < 0 || fstat(place, &st) < 0)
        return err_sys(err, errno, "cannot open the %s '%s'", what, path);
    if (!S_ISREG(st.st_mode))
        return err_set(err, EINVAL, "the %s '%s' is not a plain file", what, path);
    snprintf(same, sizeof(same), "/proc/self/fd/%d", place);
    CLEAN(clean_fd) int fd = open(same, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return err_sys(err, errno, "cannot open the %s '%s'", what, path);
    return steal_fd(&fd);
}

static int open_images(struct spawn *s, const Ferry__MachineConfig *config, struct err *err)
{
    int rc = s->fds[SPAWN_KERNEL] = spawn_open_image(config->kernel, "kernel", err);
    if (rc >= 0 && config->initrd[0])
        rc = s->fds[SPAWN_INITRD] = spawn_open_image(config->initrd, "initrd", err);
    return rc < 0 ? rc : 0;
}

/* What a machine cannot be without, wherever it begins. */
static int open_rest(struct spawn *s, const char *kvm, const Ferry__MachineConfig *config,
                     struct err *err)
{
    int rc = s->fds[SPAWN_KVM] = spawn_open_kvm(kvm, err);
    if (rc >= 0)
        rc = disks_open(&s->disks, config, err);
    return rc < 0 ? rc : nets_open(&s->nets, config, err);
}

int spawn_open_inputs(struct spawn *s, const char *kvm, const Ferry__MachineConfig *config,
                      struct err *err)
{
    int rc = open_images(s, config, err);
    return rc < 0 ? rc : open_rest(s, kvm, config, err);
}

int spawn_open_for_saved(struct spawn *s, const char *kvm, const Ferry__MachineConfig *config,
                         struct err *missing, struct err *err)
{
    *missing = (struct err){0};
    if (open_images(s, config, missing) < 0) {
        clean_fd(&s->fds[SPAWN_KERNEL]);
        clean_fd(&s->fds[SPAWN_INITRD]);
    }
    s->fds[SPAWN_USERFAULTFD] = open(USERFAULTFD_PATH, O_RDWR | O_CLOEXEC);
    return open_rest(s, kvm, config, err);
}

/* A file of this start alone: a reader of the one before keeps what it has open. */
static int make_file(int dirfd, const char *name, struct err *err)
{
    if (unlinkat(dirfd, name, 0) < 0 && errno != ENOENT)
        return err_sys(err, errno, "cannot replace '%s'", name);
    int fd = openat(dirfd, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    return fd < 0 ? err_sys(err, errno, "cannot make '%s'", name) : fd;
}

int spawn_check_free(int dirfd, const char *name, struct err *err)
{
    CLEAN(clean_fd) int fd = openat(dirfd, "record", O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd >= 0 && spawn_record_is_held(fd))
        return err_set(err, EBUSY, "an older worker of '%s' still runs", name);
    return 0;
}

int spawn_make_files(struct spawn *s, const struct root *root, int dirfd, const char *name,
                     struct err *err)
{
    int rc = root_make_run(root, name, err);
    if (rc >= 0)
        rc = s->fds[SPAWN_LISTENER] = root_listen_worker(root, name, WORKER_BACKLOG, err);
    if (rc >= 0)
        rc = s->fds[SPAWN_RECORD] = make_file(dirfd, "record", err);
    if (rc >= 0 && flock(s->fds[SPAWN_RECORD], LOCK_EX | LOCK_NB) < 0)
        rc = err_sys(err, errno, "cannot lock 'record'");
    if (rc >= 0)
        rc = record_reserve(s->fds[SPAWN_RECORD], err);
    if (rc >= 0)
        rc = s->fds[SPAWN_CONSOLE] = make_file(dirfd, "console", err);
    if (rc >= 0)
        rc = s->fds[SPAWN_JOBS] = root_listen_jobs(root, name, WORKER_BACKLOG, err);
    return rc < 0 ? rc : 0;
}

bool spawn_record_is_held(int fd)
{
    if (flock(fd, LOCK_EX | LOCK_NB) < 0)
        return errno == EWOULDBLOCK;
    flock(fd, LOCK_UN);
    return false;
}

static int open_log(int dirfd, struct err *err)
{
    struct stat st;
    if (fstatat(dirfd, "log", &st, AT_SYMLINK_NOFOLLOW) == 0 && st.st_size > LOG_KEPT_BYTES)
        renameat(dirfd, "log", dirfd, "log.1");
    int fd = openat(dirfd, "log", O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    return fd < 0 ? err_sys(err, errno, "cannot open 'log'") : fd;
}

static int set_attributes(posix_spawnattr_t *attr)
{
    sigset_t none, all;
    sigemptyset(&none);
    sigfillset(&all);
    int rc = posix_spawnattr_setsigmask(attr, &none);
    if (rc == 0)
        rc = posix_spawnattr_setsigdefault(attr, &all);
    if (rc == 0)
        rc = posix_spawnattr_setflags(attr, POSIX_SPAWN_SETSID | POSIX_SPAWN_SETSIGMASK |
                                                POSIX_SPAWN_SETSIGDEF);
    return rc;
}

static int set_actions(posix_spawn_file_actions_t *actions, int log, int socket)
{
    int rc = posix_spawn_file_actions_addopen(actions, 0, "/dev/null", O_RDONLY, 0);
    if (rc == 0)
        rc = posix_spawn_file_actions_adddup2(actions, log, 1);
    if (rc == 0)
        rc = posix_spawn_file_actions_adddup2(actions, log, 2);
    if (rc == 0)
        rc = posix_spawn_file_actions_adddup2(actions, socket, WORKER_FD);
    if (rc == 0)
        rc = posix_spawn_file_actions_addclosefrom_np(actions, WORKER_FD + 1);
    if (rc == 0)
        rc = posix_spawn_file_actions_addchdir_np(actions, "/");
    return rc;
}

static int run(const char *worker, char *const argv[], int log, int socket, pid_t *pid)
{
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attr;
    int rc = posix_spawn_file_actions_init(&actions);
    if (rc)
        return rc;
    rc = posix_spawnattr_init(&attr);
    if (rc == 0) {
        rc = set_attributes(&attr);
        if (rc == 0)
            rc = set_actions(&actions, log, socket);
        if (rc == 0)
            rc = posix_spawn(pid, worker, &actions, &attr, argv, environ);
        posix_spawnattr_destroy(&attr);
    }
    posix_spawn_file_actions_destroy(&actions);
    return rc;
}

int spawn_run(struct spawn *s, const char *worker, int dirfd, const char *name,
              const char *log_level, struct process *process, struct err *err)
{
    char *argv[] = {(char *)worker,    "--fd",   "3",          "--log",
                    (char *)log_level, "--name", (char *)name, NULL};
    int pair[2];
    pid_t pid;
    CLEAN(clean_fd) int log = open_log(dirfd, err);
    if (log < 0)
        return log;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
        return err_sys(err, errno, "cannot make a socketpair");
    s->socket = pair[0];
    CLEAN(clean_fd) int theirs = pair[1];
    int rc = run(worker, argv, log, theirs, &pid);
    if (rc)
        return err_sys(err, rc, "cannot run the worker '%s'", worker);
    rc = process_open(process, pid, NULL, err);
    if (rc < 0) {
        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
    }
    return rc;
}

static int send_hello(int fd, struct err *err)
{
    Ferry__WorkerHello hello = FERRY__WORKER_HELLO__INIT;
    Ferry__WorkerRequest request = FERRY__WORKER_REQUEST__INIT;
    hello.min_version = hello.max_version = WORKER_PROTOCOL;
    hello.release = FERRY_VERSION;
    request.id = HELLO_ID;
    request.body_case = FERRY__WORKER_REQUEST__BODY_HELLO;
    request.hello = &hello;
    return fds_send_message(fd, &request.base, NULL, 0, err);
}

int spawn_send(struct spawn *s, const Ferry__MachineConfig *config, bool paused,
               const struct spawn_saved *saved, struct err *err)
{
    Ferry__WorkerStart start = FERRY__WORKER_START__INIT;
    Ferry__WorkerRestore restore = FERRY__WORKER_RESTORE__INIT;
    Ferry__WorkerRequest request = FERRY__WORKER_REQUEST__INIT;
    struct uuid generation;
    int fds[FDS_MAX];
    size_t n = 0;
    int rc = uuid_make(&generation, err);
    if (rc < 0)
        return rc;
    if (!saved || !saved->incoming) /* one that moves keeps its own */
        start.generation = (ProtobufCBinaryData){sizeof(generation.bytes), generation.bytes};
    start.config = (Ferry__MachineConfig *)config;
    start.paused = paused;
    request.id = SPAWN_START_ID;
    request.body_case = FERRY__WORKER_REQUEST__BODY_START;
    request.start = &start;
    for (size_t i = 0; i < SPAWN_USERFAULTFD; i++)
        if (s->fds[i] >= 0)
            fds[n++] = s->fds[i];
    for (unsigned i = 0; i < s->disks.count; i++)
        fds[n++] = s->disks.fds[i];
    for (unsigned i = 0; i < s->nets.count; i++)
        fds[n++] = s->nets.fds[i];
    if (saved && saved->incoming) {
        start.incoming = saved->incoming;
        fds[n++] = saved->peer_fd;
        fds[n++] = saved->owner_fd;
    } else if (saved) {
        restore.freeze_clock = saved->freeze_clock;
        restore.other_disks = saved->other_disks;
        restore.layers = saved->count;
        restore.lineage = saved->lineage;
        restore.n_lineage = saved->n_lineage;
        restore.userfaultfd = s->fds[SPAWN_USERFAULTFD] >= 0;
        restore.without_kernel = s->fds[SPAWN_KERNEL] < 0;
        start.restore = &restore;
        if (restore.userfaultfd)
            fds[n++] = s->fds[SPAWN_USERFAULTFD];
        for (unsigned i = 0; i < saved->count && n < FDS_MAX; i++)
            fds[n++] = saved->layers[i];
    }
    rc = send_hello(s->socket, err);
    if (rc == 0)
        rc = fds_send_message(s->socket, &request.base, fds, (unsigned)n, err);
    for (size_t i = 0; i < SPAWN_FILES; i++)
        clean_fd(&s->fds[i]);
    disks_fini(&s->disks);
    nets_fini(&s->nets);
    return rc;
}
