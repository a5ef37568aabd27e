/* See stand_in.h. */
#include "daemon/stand_in.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/name.h"
#include "daemon/process.h"
#include "daemon/record.h"
#include "daemon/spawn.h"
#include "proto/frame.h"

#define RECORD "record"
#define OLD_RECORD "old"
#define PATIENCE_MS 5000 /* for a worker to end */

void stand_in_name(const char *vm, char name[STAND_IN_NAME_SIZE])
{
    snprintf(name, STAND_IN_NAME_SIZE, ".%.*s", NAME_MAX_CHARS, vm);
}

static bool has(int dirfd, const char *name)
{
    return dirfd >= 0 && faccessat(dirfd, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

int stand_in_make(const struct root *r, const char *vm, struct err *err)
{
    char name[STAND_IN_NAME_SIZE];
    stand_in_name(vm, name);
    CLEAN(clean_fd) int dir = root_make_vm(r, name, err);
    CLEAN(clean_fd) int of_vm = dir < 0 ? -1 : root_open_vm(r, vm, err);
    if (of_vm < 0)
        return -err->code;
    if (linkat(of_vm, "log", dir, "log", 0) < 0 && errno != ENOENT)
        return err_sys(err, errno, "cannot keep the log of '%s'", vm);
    return steal_fd(&dir);
}

/* Over what is there. What is not there is not missed: not every VM has a log.1, or a console. */
static void move_files(int from, int to, struct err *late)
{
    static const char *const names[] = {"definition", "console",     "log.1",
                                        "log",        "worker.sock", "jobs.sock"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (renameat(from, names[i], to, names[i]) < 0 && errno != ENOENT && !late->code)
            err_sys(late, errno, "cannot put '%s' in its place", names[i]);
}

static int open_run(const struct root *r, const char *name, struct err *err)
{
    int fd = openat(r->run_vms_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    return fd < 0 ? err_sys(err, errno, "cannot open directory '%s/vms/%s'", r->run, name) : fd;
}

/* All behind the record. It may be done again. */
static int complete(const struct root *r, const char *vm, int from, int to, struct err *late,
                    struct err *err)
{
    char name[STAND_IN_NAME_SIZE];
    stand_in_name(vm, name);
    move_files(from, to, late);
    int rc = root_make_run(r, vm, err);
    CLEAN(clean_fd) int run_from = rc < 0 ? -1 : open_run(r, name, err);
    CLEAN(clean_fd) int run_to = run_from < 0 ? -1 : open_run(r, vm, err);
    if (run_to < 0)
        return -err->code;
    move_files(run_from, run_to, late);
    return 0;
}

/* A VM that never ran has no record; an empty one says that this has begun. */
static int keep_old_record(int from, int to, struct err *err)
{
    if (linkat(to, RECORD, from, OLD_RECORD, 0) == 0)
        return 0;
    int fd = errno == ENOENT
                 ? openat(from, OLD_RECORD, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600)
                 : -1;
    if (fd < 0)
        return err_sys(err, errno, "cannot keep the old record");
    close(fd);
    return 0;
}

int stand_in_commit(const struct root *r, const char *vm, struct err *late, struct err *err)
{
    char name[STAND_IN_NAME_SIZE];
    stand_in_name(vm, name);
    *late = (struct err){0};
    CLEAN(clean_fd) int from = root_open_vm(r, name, err);
    CLEAN(clean_fd) int to = from < 0 ? -1 : root_open_vm(r, vm, err);
    if (to < 0)
        return -err->code;
    int rc = keep_old_record(from, to, err);
    if (rc == 0 && renameat(from, RECORD, to, RECORD) < 0)
        rc = err_sys(err, errno, "cannot put the new record in its place");
    if (rc < 0)
        return rc;
    complete(r, vm, from, to, late, late);
    return 0;
}

/* recovery ------------------------------------------------------------------------------------ */

/* Its own word, believed only when that process has the file open. Nothing yet: it dies by itself,
 * because it has nobody to answer to. */
static int find_holder(int record, struct process *process, struct err *err)
{
    Ferry__WorkerStatus *status = NULL;
    int rc = record_read(record, NULL, &status, err);
    if (rc < 0)
        return rc;
    rc = process_open(process, (pid_t)status->pid, NULL, err);
    frame_free((ProtobufCMessage *)status);
    if (rc == 0 && !process_has_open(process, record)) {
        process_close(process);
        rc = err_set(err, ESRCH, "the process that its record names is not the worker");
    }
    return rc;
}

static int end_worker(int dirfd, const char *record_name, struct err *err)
{
    struct process process = {.pidfd = -1};
    CLEAN(clean_fd) int record = openat(dirfd, record_name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    for (int waited = 0; record >= 0 && spawn_record_is_held(record); waited++) {
        if (waited == PATIENCE_MS / 5)
            return err_set(err, EBUSY, "a worker that is to end does not");
        if (find_holder(record, &process, err) < 0) {
            poll(NULL, 0, 5); /* it is on its way out, or is about to say who it is */
            continue;
        }
        process_kill(&process);
        struct pollfd gone = {.fd = process.pidfd, .events = POLLIN};
        poll(&gone, 1, PATIENCE_MS);
        process_close(&process);
    }
    return 0;
}

static int recover_one(const struct root *r, const char *name, struct err *err)
{
    const char *vm = name + 1;
    struct err late = {0}, ignored;
    CLEAN(clean_fd) int from = root_open_vm(r, name, err);
    if (from < 0)
        return from;
    CLEAN(clean_fd) int to = root_open_vm(r, vm, &ignored);
    bool committed = to >= 0 && has(from, OLD_RECORD) && !has(from, RECORD);
    int rc = end_worker(from, committed ? OLD_RECORD : RECORD, err);
    if (rc == 0 && committed && complete(r, vm, from, to, &late, &ignored) < 0)
        log_warn("%s: %s", vm, ignored.text);
    if (late.code)
        log_warn("%s: %s", vm, late.text);
    if (rc == 0)
        log_info("%s: a restore in its place was interrupted: %s", vm,
                 committed ? "it is the restored one" : "it stays as it was");
    return rc == 0 ? root_remove_vm(r, name, err) : rc;
}

int stand_in_recover(const struct root *r, struct err *err)
{
    struct dirent **names;
    struct err failed;
    int n = scandirat(r->vms_fd, ".", &names, NULL, alphasort);
    if (n < 0)
        return err_sys(err, errno, "cannot list '%s/vms'", r->root);
    for (int i = 0; i < n; i++) {
        const char *name = names[i]->d_name;
        if (name[0] == '.' && name_valid(name + 1) && recover_one(r, name, &failed) < 0)
            log_error("%s: %s", name, failed.text);
        free(names[i]);
    }
    free(names);
    return 0;
}
