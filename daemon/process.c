/* See process.h. */
#include "daemon/process.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"

#ifndef P_PIDFD /* glibc before 2.36 */
#define P_PIDFD 3
#endif

static ssize_t read_text(const char *path, char *to, size_t size)
{
    CLEAN(clean_fd) int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, to, size - 1);
    to[n > 0 ? n : 0] = '\0';
    return n;
}

void process_boot_id(char id[BOOT_ID_SIZE])
{
    read_text("/proc/sys/kernel/random/boot_id", id, BOOT_ID_SIZE);
    id[strcspn(id, "\n")] = '\0';
}

/* Field `n` of /proc/PID/stat, counted as in proc(5); the name in field 2 may hold anything. */
static const char *stat_field(const char *stat, int n)
{
    const char *at = strrchr(stat, ')');
    for (int i = 2; at && i < n; i++) {
        at = strchr(at, ' ');
        at = at ? at + 1 : NULL;
    }
    return at;
}

static int read_stat(pid_t pid, char *stat, size_t size)
{
    char path[40];
    snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
    ssize_t n = read_text(path, stat, size);
    if (n < 0 && errno != ENOENT)
        return -errno;
    return n > 0 ? 0 : -ESRCH;
}

static int start_time(pid_t pid, uint64_t *start)
{
    char stat[1024];
    int rc = read_stat(pid, stat, sizeof(stat));
    if (rc < 0)
        return rc;
    const char *field = stat_field(stat, 22);
    if (!field)
        return -ESRCH;
    *start = strtoull(field, NULL, 10);
    return 0;
}

/* The start time is read after the pidfd is open: when it is the right one, then a process of that
 * number has lived since, so the pidfd cannot be another's. */
int process_open(struct process *p, pid_t pid, const uint64_t *start, struct err *err)
{
    *p = (struct process){.pid = pid, .pidfd = -1};
    if (pid <= 0)
        return err_set(err, ESRCH, "%d is no process", (int)pid);
    p->pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
    if (p->pidfd < 0)
        return err_sys(err, errno, "cannot open the process %d", (int)pid);
    int rc = start_time(pid, &p->start);
    if (rc == 0 && (!start || *start == p->start))
        return 0;
    process_close(p);
    if (rc < 0 && rc != -ESRCH)
        return err_sys(err, -rc, "cannot look at the process %d", (int)pid);
    return err_set(err, ESRCH, "the process %d is another one by now", (int)pid);
}

void process_close(struct process *p)
{
    clean_fd(&p->pidfd);
    p->pid = 0;
}

void process_kill(const struct process *p)
{
    if (p->pidfd >= 0)
        syscall(SYS_pidfd_send_signal, p->pidfd, SIGKILL, NULL, 0);
}

int process_usage(const struct process *p, struct process_usage *usage)
{
    char stat[1024];
    if (read_stat(p->pid, stat, sizeof(stat)) < 0)
        return -ESRCH;
    const char *user = stat_field(stat, 14), *system = stat_field(stat, 15);
    const char *rss = stat_field(stat, 24);
    if (!user || !system || !rss)
        return -ESRCH;
    uint64_t ticks = strtoull(user, NULL, 10) + strtoull(system, NULL, 10);
    usage->cpu_ns = ticks * (1000000000ull / (uint64_t)sysconf(_SC_CLK_TCK));
    usage->rss_bytes = strtoull(rss, NULL, 10) * (uint64_t)sysconf(_SC_PAGESIZE);
    return 0;
}

/* What a mapped page that cannot be had looks like. */
#define NO_MEMORY                                                                                  \
    ": memory that it has mapped cannot be read: its snapshot was cut short, or the disk under "   \
    "it "                                                                                          \
    "fails"

void process_epitaph(const struct process *p, char *text, size_t size)
{
    siginfo_t info = {0};
    if (waitid((idtype_t)P_PIDFD, (id_t)p->pidfd, &info, WEXITED | WNOHANG) < 0)
        snprintf(text, size,
                 "worker died; it was the child of an earlier ferryd, so how is unknown");
    else if (info.si_code == CLD_EXITED)
        snprintf(text, size, "worker exited with status %d", info.si_status);
    else if (sigabbrev_np(info.si_status))
        snprintf(text, size, "worker killed by signal %d (SIG%s)%s", info.si_status,
                 sigabbrev_np(info.si_status), info.si_status == SIGBUS ? NO_MEMORY : "");
    else
        snprintf(text, size, "worker killed by signal %d", info.si_status);
}

bool process_has_open(const struct process *p, int file)
{
    char path[40];
    struct stat wanted, st;
    bool found = false;
    snprintf(path, sizeof(path), "/proc/%d/fd", (int)p->pid);
    DIR *dir = opendir(path);
    if (dir && fstat(file, &wanted) == 0)
        for (struct dirent *e; !found && (e = readdir(dir));)
            found = fstatat(dirfd(dir), e->d_name, &st, 0) == 0 && st.st_dev == wanted.st_dev &&
                    st.st_ino == wanted.st_ino;
    if (dir)
        closedir(dir);
    return found;
}
