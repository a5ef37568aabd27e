/* See root.h. */
#include "daemon/root.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fs.h"
#include "base/name.h"
#include "base/uuid.h"
#include "daemon/lock.h"

#define SOCKET_PATH_MAX (sizeof(((struct sockaddr_un *)0)->sun_path) - 1)
#define WORKER_SOCKET "worker.sock"
#define JOBS_SOCKET "jobs.sock"

static int open_dir(int at, const char *name, struct err *err)
{
    int fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return fd < 0 ? err_sys(err, errno, "cannot open directory '%s'", name) : fd;
}

static int make_dir(int at, const char *name, struct err *err)
{
    if (mkdirat(at, name, 0700) < 0 && errno != EEXIST)
        return err_sys(err, errno, "cannot make directory '%s'", name);
    int fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    return fd < 0 ? err_sys(err, errno, "cannot open directory '%s'", name) : fd;
}

static int absolute(const char *path, char **out, struct err *err)
{
    *out = realpath(path, NULL);
    return *out ? 0 : err_sys(err, errno, "cannot find directory '%s'", path);
}

/* Only the socket that clients connect to needs a path: see address(). */
static int check_run(const char *run, struct err *err)
{
    size_t most = SOCKET_PATH_MAX - strlen("/" ROOT_CLIENT_SOCKET);
    if (strlen(run) <= most)
        return 0;
    return err_set(
        err, ENAMETOOLONG,
        "the run directory '%.200s' is too long for the socket in it: use one of at most "
        "%zu characters",
        run, most);
}

/* The mode is for a directory that we make; one that is there is its owner's. */
static int make_top(const char *path, mode_t mode, char **out, int *fd, struct err *err)
{
    bool made = access(path, F_OK) < 0 && errno == ENOENT;
    if (fs_make_dirs(path, 0755, err) < 0 || absolute(path, out, err) < 0)
        return -err->code;
    *fd = open_dir(AT_FDCWD, *out, err);
    if (*fd < 0)
        return *fd;
    if (made && fchmod(*fd, mode) < 0)
        return err_sys(err, errno, "cannot set the mode of '%s'", *out);
    return 0;
}

static int open_all(struct root *r, const char *root, const char *run, struct err *err)
{
    int rc = make_top(root, 0700, &r->root, &r->root_fd, err);
    if (rc == 0)
        rc = make_top(run, 0755, &r->run, &r->run_fd, err);
    if (rc == 0 && strcmp(r->root, r->run) == 0)
        rc = err_set(err, EINVAL, "the state root and the run directory must not be the same, '%s'",
                     r->run);
    if (rc == 0)
        rc = check_run(r->run, err);
    if (rc == 0)
        rc = r->root_lock = lock_take(r->root_fd, r->root, err);
    if (rc >= 0)
        rc = r->run_lock = lock_take(r->run_fd, r->run, err);
    if (rc >= 0)
        rc = r->vms_fd = make_dir(r->root_fd, "vms", err);
    if (rc >= 0)
        rc = r->snapshots_fd = make_dir(r->root_fd, "snapshots", err);
    if (rc >= 0)
        rc = r->owners_fd = make_dir(r->root_fd, "owners", err);
    if (rc >= 0)
        rc = r->migrations_fd = make_dir(r->root_fd, "migrations", err);
    if (rc >= 0)
        rc = r->run_vms_fd = make_dir(r->run_fd, "vms", err);
    return rc < 0 ? rc : 0;
}

int root_open(struct root *r, const char *root, const char *run, struct err *err)
{
    *r = (struct root){.root_fd = -1,
                       .vms_fd = -1,
                       .snapshots_fd = -1,
                       .owners_fd = -1,
                       .migrations_fd = -1,
                       .run_fd = -1,
                       .run_vms_fd = -1,
                       .root_lock = -1,
                       .run_lock = -1};
    int rc = open_all(r, root, run, err);
    if (rc < 0)
        root_close(r);
    return rc;
}

void root_close(struct root *r)
{
    int *fds[] = {&r->root_fd, &r->vms_fd,     &r->snapshots_fd, &r->owners_fd, &r->migrations_fd,
                  &r->run_fd,  &r->run_vms_fd, &r->root_lock,    &r->run_lock};
    for (size_t i = 0; i < sizeof(fds) / sizeof(fds[0]); i++)
        clean_fd(fds[i]);
    clean_free(&r->root);
    clean_free(&r->run);
}

int root_make_vm(const struct root *r, const char *name, struct err *err)
{
    if (mkdirat(r->vms_fd, name, 0700) == 0)
        return root_open_vm(r, name, err);
    if (errno == EEXIST)
        return err_set(err, EEXIST,
                       "'%s/vms/%s' is in the way: ferryd's log says what is wrong with it",
                       r->root, name);
    return err_sys(err, errno, "cannot make directory '%s/vms/%s'", r->root, name);
}

int root_make_run(const struct root *r, const char *name, struct err *err)
{
    int fd = make_dir(r->run_vms_fd, name, err);
    if (fd < 0)
        return fd;
    close(fd);
    return 0;
}

int root_remove_run(const struct root *r, const char *name, struct err *err)
{
    return fs_remove_tree(r->run_vms_fd, name, err);
}

int root_open_vm(const struct root *r, const char *name, struct err *err)
{
    int fd = openat(r->vms_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    return fd < 0 ? err_sys(err, errno, "cannot open directory '%s/vms/%s'", r->root, name) : fd;
}

int root_remove_vm(const struct root *r, const char *name, struct err *err)
{
    char definition[NAME_MAX_CHARS + 16];
    snprintf(definition, sizeof(definition), "%s/definition", name);
    if (unlinkat(r->vms_fd, definition, 0) < 0 && errno != ENOENT && errno != ENOTDIR)
        return err_sys(err, errno, "cannot remove '%s/vms/%s'", r->root, definition);
    int rc = root_remove_run(r, name, err);
    return rc < 0 ? rc : fs_remove_tree(r->vms_fd, name, err);
}

int root_find_owner(const struct root *r, const struct uuid *uuid, struct err *err)
{
    char name[UUID_TEXT_SIZE];
    uuid_format(uuid, name);
    int fd = openat(r->owners_fd, name, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    return fd < 0 ? err_sys(err, errno, "cannot open '%s/owners/%s'", r->root, name) : fd;
}

int root_remove_owner(const struct root *r, const struct uuid *uuid, struct err *err)
{
    char name[UUID_TEXT_SIZE];
    uuid_format(uuid, name);
    if (unlinkat(r->owners_fd, name, 0) < 0 && errno != ENOENT)
        return err_sys(err, errno, "cannot remove '%s/owners/%s'", r->root, name);
    return 0;
}

int root_open_owner(const struct root *r, const struct uuid *uuid, struct err *err)
{
    char name[UUID_TEXT_SIZE];
    uuid_format(uuid, name);
    int fd = root_find_owner(r, uuid, err);
    if (fd != -ENOENT)
        return fd;
    fd = openat(r->owners_fd, name, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_CREAT, 0600);
    if (fd < 0)
        return err_sys(err, errno, "cannot make '%s/owners/%s'", r->root, name);
    if (fsync(r->owners_fd) == 0)
        return fd;
    err_sys(err, errno, "cannot sync '%s/owners'", r->root);
    close(fd);
    return -err->code;
}

int root_open_migration(const struct root *r, const char *name, bool make, struct err *err)
{
    int fd = openat(r->migrations_fd, name, O_RDWR | O_CLOEXEC | O_NOFOLLOW | (make ? O_CREAT : 0),
                    0600);
    return fd < 0 ? err_sys(err, errno, "cannot open '%s/migrations/%s'", r->root, name) : fd;
}

/* By way of an open directory, because a socket's path has room for 107 bytes only. */
static void address(struct sockaddr_un *at, int dirfd, const char *name)
{
    *at = (struct sockaddr_un){.sun_family = AF_UNIX};
    snprintf(at->sun_path, sizeof(at->sun_path), "/proc/self/fd/%d/%.60s", dirfd, name);
}

int root_listen(int dirfd, const char *name, unsigned mode, int backlog, struct err *err)
{
    struct sockaddr_un at;
    address(&at, dirfd, name);
    CLEAN(clean_fd) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return err_sys(err, errno, "cannot make a socket");
    if (unlinkat(dirfd, name, 0) < 0 && errno != ENOENT)
        return err_sys(err, errno, "cannot replace the socket '%s'", name);
    if (bind(fd, (struct sockaddr *)&at, sizeof(at)) < 0)
        return err_sys(err, errno, "cannot make the socket '%s'", name);
    if (fchmodat(dirfd, name, mode, 0) < 0 || listen(fd, backlog) < 0)
        return err_sys(err, errno, "cannot listen on the socket '%s'", name);
    return steal_fd(&fd);
}

static int open_run(const struct root *r, const char *name, struct err *err)
{
    int fd = openat(r->run_vms_fd, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    return fd < 0 ? err_sys(err, errno, "cannot open directory '%s/vms/%s'", r->run, name) : fd;
}

int root_listen_worker(const struct root *r, const char *name, int backlog, struct err *err)
{
    CLEAN(clean_fd) int dir = open_run(r, name, err);
    return dir < 0 ? dir : root_listen(dir, WORKER_SOCKET, 0600, backlog, err);
}

int root_listen_jobs(const struct root *r, const char *name, int backlog, struct err *err)
{
    CLEAN(clean_fd) int dir = open_run(r, name, err);
    return dir < 0 ? dir : root_listen(dir, JOBS_SOCKET, 0600, backlog, err);
}

static int reach(const struct root *r, const char *name, const char *socket_name, int flags,
                 struct err *err)
{
    struct sockaddr_un at;
    CLEAN(clean_fd) int dir = open_run(r, name, err);
    if (dir < 0)
        return dir;
    address(&at, dir, socket_name);
    CLEAN(clean_fd) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | flags, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&at, sizeof(at)) < 0)
        return err_sys(err, errno, "cannot reach the worker of '%s'", name);
    return steal_fd(&fd);
}

int root_connect_worker(const struct root *r, const char *name, struct err *err)
{
    return reach(r, name, WORKER_SOCKET, SOCK_NONBLOCK, err);
}

int root_connect_jobs(const struct root *r, const char *name, struct err *err)
{
    return reach(r, name, JOBS_SOCKET, 0, err);
}
