/*
 * Files as the other end of a transfer.
 *
 * A new file gets its name when it is whole and synced, never over another one. It holds a guest's
 * memory, so it is for its owner only. Where the filesystem has no nameless files it is called
 * .NAME.part-PID until then, which only a kill -9 leaves behind.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "cli/transfer.h"

static struct transfer_file *of(struct transfer_end *end)
{
    return (struct transfer_file *)end;
}

static int cancelled(const struct transfer_end *end, struct err *err)
{
    if (end->interrupt && interrupt_came(end->interrupt))
        return err_set(err, ECANCELED, "cancelled");
    return 0;
}

/* A pipe that is not read would hold a write, and no signal that came just before would end it. */
static int await_room(const struct transfer_end *end, struct err *err)
{
    struct pollfd fds[] = {{.fd = end->fd, .events = POLLOUT},
                           {.fd = end->interrupt->fd, .events = POLLIN}};
    int rc = cancelled(end, err);
    while (rc == 0 && poll(fds, 2, -1) < 0)
        rc = errno == EINTR ? cancelled(end, err) : err_sys(err, errno, "cannot wait for a pipe");
    return rc < 0 ? rc : cancelled(end, err);
}

static int write_file(struct transfer_end *end, const void *data, size_t len, struct err *err)
{
    const char *from = data;
    size_t most = of(end)->plain ? len : PIPE_BUF; /* what poll says there is room for */
    while (len) {
        int rc = await_room(end, err);
        if (rc < 0)
            return rc;
        ssize_t n = write(end->fd, from, len < most ? len : most);
        if (n < 0 && errno != EINTR && errno != EAGAIN)
            return err_sys(err, errno, "cannot write '%s'", of(end)->path);
        from += n > 0 ? n : 0;
        len -= n > 0 ? (size_t)n : 0;
    }
    return 0;
}

static ssize_t read_file(struct transfer_end *end, void *to, size_t max, struct err *err)
{
    ssize_t n = read(end->fd, to, max);
    if (n < 0 && (errno == EINTR || errno == EAGAIN))
        return -EAGAIN;
    return n < 0 ? err_sys(err, errno, "cannot read '%s'", of(end)->path) : n;
}

static int exists(const struct transfer_file *f, struct err *err)
{
    return err_set(err, EEXIST, "'%s' exists: remove it first, or give another name", f->path);
}

/* A nameless file is linked; one with a name of its own is renamed. Neither replaces anything. */
static int give_name(struct transfer_file *f, struct err *err)
{
    char self[64];
    int rc;
    snprintf(self, sizeof(self), "/proc/self/fd/%d", f->end.fd);
    if (f->temp[0])
        rc = renameat2(f->dirfd, f->temp, f->dirfd, f->name, RENAME_NOREPLACE);
    else
        rc = linkat(AT_FDCWD, self, f->dirfd, f->name, AT_SYMLINK_FOLLOW);
    if (rc == 0)
        f->temp[0] = '\0';
    if (rc < 0 && errno == EINVAL) /* a filesystem without that flag: the other name goes later */
        rc = linkat(f->dirfd, f->temp, f->dirfd, f->name, 0);
    if (rc < 0 && errno == EEXIST)
        return exists(f, err);
    return rc < 0 ? err_sys(err, errno, "cannot name '%s'", f->path) : 0;
}

static int finish(struct transfer_file *f, struct err *err)
{
    if (fsync(f->end.fd) < 0)
        return err_sys(err, errno, "cannot sync '%s'", f->path);
    int rc = give_name(f, err);
    if (rc == 0 && fsync(f->dirfd) < 0)
        return err_sys(err, errno, "cannot sync the directory of '%s'", f->path);
    return rc;
}

static int close_file(struct transfer_end *end, bool whole, struct err *err)
{
    struct transfer_file *f = of(end);
    int rc = whole && f->plain ? finish(f, err) : 0;
    if (f->temp[0])
        unlinkat(f->dirfd, f->temp, 0);
    if (end->fd > STDERR_FILENO && close(end->fd) < 0 && rc == 0 && whole)
        rc = err_sys(err, errno, "cannot write '%s'", f->path);
    end->fd = -1;
    clean_fd(&f->dirfd);
    return rc;
}

static void init(struct transfer_file *f, const char *path, int fd)
{
    *f = (struct transfer_file){.path = path, .dirfd = -1};
    f->end = (struct transfer_end){
        .write = write_file, .read = read_file, .close = close_file, .fd = fd};
}

static int split(struct transfer_file *f, char dir[PATH_MAX], struct err *err)
{
    const char *slash = strrchr(f->path, '/'), *name = slash ? slash + 1 : f->path;
    size_t n = slash ? (size_t)(slash - f->path) + 1 : 0;
    if (!*name || strlen(name) >= sizeof(f->name) - 1 || n >= PATH_MAX - 1)
        return err_set(err, EINVAL, "'%s' is no name of a file", f->path);
    snprintf(f->name, sizeof(f->name), "%s", name);
    snprintf(dir, PATH_MAX, "%.*s", n ? (int)n : 1, n ? f->path : ".");
    return 0;
}

static int create_plain(struct transfer_file *f, struct err *err)
{
    char dir[PATH_MAX];
    int rc = split(f, dir, err);
    if (rc < 0)
        return rc;
    f->dirfd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (f->dirfd < 0)
        return err_sys(err, errno, "cannot open the directory of '%s'", f->path);
    f->plain = true;
    f->end.fd = openat(f->dirfd, ".", O_TMPFILE | O_WRONLY | O_CLOEXEC, 0600);
    if (f->end.fd >= 0)
        return 0;
    snprintf(f->temp, sizeof(f->temp), ".%.200s.part-%d", f->name, (int)getpid());
    f->end.fd = openat(f->dirfd, f->temp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (f->end.fd >= 0)
        return 0;
    rc = err_sys(err, errno, "cannot make '%s'", f->path);
    f->temp[0] = '\0';
    clean_fd(&f->dirfd);
    return rc;
}

int transfer_file_create(struct transfer_file *f, const char *path, struct err *err)
{
    struct stat st;
    init(f, path, STDOUT_FILENO);
    if (strcmp(path, "-") == 0) {
        f->path = "standard output";
        if (isatty(STDOUT_FILENO))
            return err_set(err, EINVAL, "a terminal is no place for a snapshot: name a file");
        return 0;
    }
    f->end.fd = -1;
    if (stat(path, &st) < 0)
        return errno == ENOENT ? create_plain(f, err)
                               : err_sys(err, errno, "cannot make '%s'", path);
    if (S_ISREG(st.st_mode) || S_ISDIR(st.st_mode))
        return exists(f, err);
    f->end.fd = open(path, O_WRONLY | O_CLOEXEC | O_NOCTTY);
    return f->end.fd < 0 ? err_sys(err, errno, "cannot open '%s'", path) : 0;
}

int transfer_file_open(struct transfer_file *f, const char *path, struct err *err)
{
    struct stat st;
    init(f, path, STDIN_FILENO);
    if (strcmp(path, "-") == 0)
        f->path = "standard input";
    else if ((f->end.fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY)) < 0)
        return err_sys(err, errno, "cannot open '%s'", path);
    if (fstat(f->end.fd, &st) == 0 && S_ISREG(st.st_mode))
        f->end.total = (uint64_t)st.st_size;
    return 0;
}
