/* See host.h. */
#include "tests/kvm/host.h"
#include "tests/temp.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "base/err.h"
#include "base/fs.h"
#include "base/now.h"

#define ARGS_MAX 40
#define OUTPUT_MAX 65536
#define HOSTS_MAX 64 /* at once, in one test program */
#define CONSOLE_MAX (2u << 20)

/* Between two looks at something that another process changes. */
static void look_again_soon(void)
{
    nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
}

static void find_build(struct host *h)
{
    char exe[4096];
    ssize_t n = readlink("/proc/self/exe", exe, sizeof(exe) - 1);
    assert_true(n > 0);
    exe[n] = '\0';
    snprintf(h->build, sizeof(h->build), "%s/..", dirname(exe));
}

void host_start_ferryd(struct host *h)
{
    char program[4200], root[100], run[100], log[100];
    char *argv[12] = {"ferryd", "--root", root, "--run", run, "--log", "debug"};
    unsigned n = 7;
    snprintf(program, sizeof(program), "%s/bin/ferryd", h->build);
    snprintf(root, sizeof(root), "%s/root", h->dir);
    snprintf(run, sizeof(run), "%s/run", h->dir);
    snprintf(log, sizeof(log), "%s/ferryd.log", h->dir);
    if (h->address[0]) {
        argv[n++] = "--listen";
        argv[n++] = h->address;
    }
    if (h->tls[0]) {
        argv[n++] = "--tls";
        argv[n++] = h->tls;
    }
    if (h->insecure)
        argv[n++] = "--insecure";
    h->ferryd = fork();
    assert_true(h->ferryd >= 0);
    if (h->ferryd == 0) {
        int fd = open(log, O_WRONLY | O_CREAT | O_APPEND, 0600);
        dup2(fd, 1);
        dup2(fd, 2);
        if (h->before_ferryd)
            h->before_ferryd();
        execv(program, argv);
        _exit(127);
    }
    host_expect(h, "protocol", 10000, "version");
}

/* Calls back for each process whose messages go below `dir`: the daemon and the workers of a host.
 */
static unsigned each_process(const char *dir, void (*call)(pid_t pid))
{
    unsigned n = 0;
    DIR *proc = opendir("/proc");
    for (struct dirent *e; proc && (e = readdir(proc));) {
        char path[300], target[4096];
        snprintf(path, sizeof(path), "/proc/%.20s/fd/2", e->d_name);
        ssize_t len = readlink(path, target, sizeof(target) - 1);
        pid_t pid = atoi(e->d_name); /* 0 for what is no process */
        if (len <= 0 || pid <= 1 || pid == getpid())
            continue;
        target[len] = '\0';
        if (strncmp(target, dir, strlen(dir)) != 0)
            continue;
        n++;
        if (call)
            call(pid);
    }
    if (proc)
        closedir(proc);
    return n;
}

static void kill_hard(pid_t pid)
{
    kill(pid, SIGKILL);
}

/* A failed test leaves host_stop out: its guests would run on for ever. What they wrote stays. */
static char started[HOSTS_MAX][sizeof(((struct host *)0)->dir)];

static void end_forgotten(void)
{
    for (unsigned i = 0; i < HOSTS_MAX; i++)
        if (started[i][0])
            each_process(started[i], kill_hard);
}

static void remember(const struct host *h)
{
    static bool at_exit;
    unsigned i = 0;
    while (i + 1 < HOSTS_MAX && started[i][0])
        i++;
    memcpy(started[i], h->dir, sizeof(h->dir));
    if (!at_exit)
        atexit(end_forgotten);
    at_exit = true;
}

static void forget(const struct host *h)
{
    for (unsigned i = 0; i < HOSTS_MAX; i++)
        if (strcmp(started[i], h->dir) == 0)
            started[i][0] = '\0';
}

static void prepare(struct host *h)
{
    memset(h, 0, sizeof(*h));
    find_build(h);
    assert_true(temp_dir(h->dir, sizeof(h->dir)));
    remember(h);
}

void host_start(struct host *h)
{
    prepare(h);
    host_start_ferryd(h);
}

/* The port that it was given, from its log; the next ferryd listens there again. */
static void learn_address(struct host *h)
{
    char path[100], line[512];
    snprintf(path, sizeof(path), "%s/ferryd.log", h->dir);
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    while (fgets(line, sizeof(line), f))
        sscanf(line, "%*s info ferryd: listens for other hosts on %63s", h->address);
    fclose(f);
    assert_null(strstr(h->address, ":0"));
}

static void start_listening(struct host *h)
{
    snprintf(h->address, sizeof(h->address), "%s:0", h->insecure ? "0.0.0.0" : "127.0.0.1");
    host_start_ferryd(h);
    learn_address(h);
}

void host_start_listening(struct host *h)
{
    prepare(h);
    start_listening(h);
}

void host_start_beyond(struct host *h, void (*before)(void))
{
    prepare(h);
    h->insecure = true;
    h->before_ferryd = before;
    start_listening(h);
}

void host_start_listening_tls(struct host *h, void (*write)(void *ctx, const char *dir), void *ctx)
{
    prepare(h);
    snprintf(h->tls, sizeof(h->tls), "%s/tls", h->dir);
    write(ctx, h->tls);
    start_listening(h);
}

void host_kill_ferryd(struct host *h)
{
    int status;
    assert_int_equal(kill(h->ferryd, SIGKILL), 0);
    assert_int_equal(waitpid(h->ferryd, &status, 0), h->ferryd);
}

static unsigned split(char *text, char **argv, unsigned max)
{
    unsigned n = 0;
    for (char *save, *word = strtok_r(text, " ", &save); word && n + 1 < max;
         word = strtok_r(NULL, " ", &save))
        argv[n++] = word;
    argv[n] = NULL;
    return n;
}

/* A '~' in an argument stands for a blank. */
static void unescape(char **argv)
{
    for (; *argv; argv++)
        for (char *c = *argv; *c; c++)
            if (*c == '~')
                *c = ' ';
}

static void exec_vmctl(const struct host *h, const char *args, int in, int out)
{
    char text[4096], run[100], program[4200], guests[4200], *argv[ARGS_MAX + 3];
    size_t n = 0;
    snprintf(program, sizeof(program), "%s/bin/vmctl", h->build);
    snprintf(guests, sizeof(guests), "%s/guests", h->build);
    snprintf(run, sizeof(run), "%s/run", h->dir);
    for (const char *p = args; *p && n < sizeof(text) - sizeof(guests);)
        if (p[0] == '%' && p[1] == 'G') {
            n += (size_t)snprintf(text + n, sizeof(text) - n, "%s", guests);
            p += 2;
        } else {
            text[n++] = *p++;
        }
    text[n] = '\0';
    argv[0] = "vmctl";
    argv[1] = "--run";
    argv[2] = run;
    split(text, argv + 3, ARGS_MAX);
    unescape(argv + 3);
    dup2(in, 0);
    dup2(out, 1);
    dup2(out, 2);
    execv(program, argv);
    _exit(127);
}

static void drain(int fd, char *out, size_t size)
{
    char spill[4096];
    size_t n = 0;
    for (;;) {
        bool fits = out && n + 1 < size;
        ssize_t got = read(fd, fits ? out + n : spill, fits ? size - n - 1 : sizeof(spill));
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            break;
        if (fits)
            n += (size_t)got;
    }
    if (out)
        out[n] = '\0';
}

static int nothing(int how)
{
    return open("/dev/null", how | O_CLOEXEC);
}

static int run_args(struct host *h, char *out, size_t size, const char *args)
{
    int pipefd[2], status;
    assert_int_equal(pipe2(pipefd, O_CLOEXEC), 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0)
        exec_vmctl(h, args, nothing(O_RDONLY), pipefd[1]);
    close(pipefd[1]);
    drain(pipefd[0], out, size);
    close(pipefd[0]);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

pid_t host_begin(struct host *h, const char *args)
{
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0)
        exec_vmctl(h, args, nothing(O_RDONLY), nothing(O_WRONLY));
    return pid;
}

#define FORMAT(to)                                                                                 \
    char to[4096];                                                                                 \
    va_list list;                                                                                  \
    va_start(list, args);                                                                          \
    vsnprintf(to, sizeof(to), args, list);                                                         \
    va_end(list)

int host_run(struct host *h, char *out, size_t size, const char *args, ...)
{
    FORMAT(text);
    return run_args(h, out, size, text);
}

static void show_log(const struct host *h)
{
    char command[200];
    snprintf(command, sizeof(command), "tail -n 30 %s/ferryd.log; tail -n 15 %s/root/vms/*/log",
             h->dir, h->dir);
    if (system(command) != 0)
        print_message("(no log)\n");
}

void host_must(struct host *h, const char *args, ...)
{
    char out[OUTPUT_MAX];
    FORMAT(text);
    int status = run_args(h, out, sizeof(out), text);
    if (status != 0) {
        show_log(h);
        fail_msg("'vmctl %s' exits with %d: %s", text, status, out);
    }
}

void host_expect(struct host *h, const char *wanted, unsigned timeout_ms, const char *args, ...)
{
    static char out[OUTPUT_MAX];
    uint64_t until = now_ns() + timeout_ms * 1000000ull;
    FORMAT(text);
    for (;;) {
        run_args(h, out, sizeof(out), text);
        if (strstr(out, wanted))
            return;
        if (now_ns() > until)
            break;
        look_again_soon();
    }
    show_log(h);
    fail_msg("'vmctl %s' does not say '%s' within %u ms but: %s", text, wanted, timeout_ms, out);
}

void host_expect_state(struct host *h, const char *name, const char *state, unsigned timeout_ms)
{
    char row[64]; /* of a table: the VM's log, which is below it, has such words, too */
    snprintf(row, sizeof(row), "\nstate       %s\n", state);
    host_expect(h, row, timeout_ms, "show %s", name);
}

void host_must_end_well(struct host *h, const char *name)
{
    char *out = calloc(1, CONSOLE_MAX);
    assert_non_null(out);
    host_must(h, "stop %s --timeout 60s", name);
    host_run(h, out, CONSOLE_MAX, "console %s --log", name);
    const char *bad = strstr(out, "FAIL");
    if (bad || !strstr(out, ": ok lines="))
        fail_msg("%s: %.600s", name, bad ? bad : "it did not come to its end");
    free(out);
    host_must(h, "rm %s", name);
}

void host_type(struct host *h, const char *name, const char *line, const char *wanted,
               unsigned timeout_ms)
{
    int pipefd[2];
    char args[200];
    assert_int_equal(pipe2(pipefd, O_CLOEXEC), 0);
    snprintf(args, sizeof(args), "console %s", name);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0)
        exec_vmctl(h, args, pipefd[0], nothing(O_WRONLY));
    close(pipefd[0]);
    assert_int_equal(write(pipefd[1], line, strlen(line)), strlen(line));
    host_expect(h, wanted, timeout_ms, "console %s --log", name);
    close(pipefd[1]);
    kill(pid, SIGTERM);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
}

long host_number(struct host *h, const char *name, const char *key)
{
    static char out[OUTPUT_MAX];
    char word[100];
    if (host_run(h, out, sizeof(out), "show %s --json", name) != 0)
        return -1;
    snprintf(word, sizeof(word), "\"%s\":", key);
    const char *at = strstr(out, word);
    return at ? strtol(at + strlen(word), NULL, 10) : -1;
}

pid_t host_pid(struct host *h, const char *name)
{
    long pid = host_number(h, name, "pid");
    assert_true(pid > 1); /* kill() takes -1 for everybody */
    return (pid_t)pid;
}

static unsigned count_entries(const char *path)
{
    DIR *dir = opendir(path);
    unsigned n = 0;
    while (dir && readdir(dir))
        n++;
    if (dir)
        closedir(dir);
    return n > 2 ? n - 2 : 0;
}

static unsigned long status_kib(pid_t pid, const char *key)
{
    char path[64], line[256];
    unsigned long value = 0;
    snprintf(path, sizeof(path), "/proc/%d/status", pid);
    FILE *f = fopen(path, "r");
    while (f && fgets(line, sizeof(line), f))
        if (strncmp(line, key, strlen(key)) == 0)
            value = strtoul(line + strlen(key), NULL, 10);
    if (f)
        fclose(f);
    return value;
}

struct host_usage host_usage(pid_t pid)
{
    char path[64];
    struct host_usage usage = {.rss_kib = status_kib(pid, "VmRSS:"),
                               .anon_kib = status_kib(pid, "RssAnon:")};
    snprintf(path, sizeof(path), "/proc/%d/fd", pid);
    usage.fds = count_entries(path);
    snprintf(path, sizeof(path), "/proc/%d/task", pid);
    usage.threads = count_entries(path);
    return usage;
}

static void kill_all(struct host *h)
{
    static char out[OUTPUT_MAX];
    host_run(h, out, sizeof(out), "list --names");
    for (char *save, *name = strtok_r(out, "\n", &save); name; name = strtok_r(NULL, "\n", &save))
        host_run(h, NULL, 0, "kill %s", name);
}

void host_stop(struct host *h)
{
    int status;
    struct err err;
    kill_all(h);
    assert_int_equal(kill(h->ferryd, SIGTERM), 0);
    assert_int_equal(waitpid(h->ferryd, &status, 0), h->ferryd);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    assert_int_equal(each_process(h->dir, NULL), 0);
    forget(h);
    assert_int_equal(fs_remove_tree(AT_FDCWD, h->dir, &err), 0);
}

void host_expect_healthy(struct host *h, const char *name)
{
    CLEAN(clean_free) char *all = calloc(1, CONSOLE_MAX);
    assert_non_null(all);
    host_expect(h, "errors=0", 20000, "console %s --log", name);
    host_run(h, all, CONSOLE_MAX, "console %s --log", name);
    const char *bad = strstr(all, "FAIL");
    for (const char *at = all; !bad && (at = strstr(at, "errors=")); at += 7)
        if (at[7] && strncmp(at, "errors=0", 8) != 0) /* the last line may still be coming */
            bad = at;
    if (bad)
        fail_msg("%s found an error: %.300s", name, bad);
}

void host_refuses(struct host *h, const char *words, const char *args)
{
    char out[65536];
    assert_int_equal(host_run(h, out, sizeof(out), "%s", args), 1);
    if (!strstr(out, words))
        fail_msg("'%s' says '%s', without '%s'", args, out, words);
}

unsigned host_count_entries(const struct host *h, const char *where)
{
    char path[200];
    unsigned n = 0;
    snprintf(path, sizeof(path), "%s/%s", h->dir, where);
    DIR *dir = opendir(path);
    assert_non_null(dir);
    while (readdir(dir))
        n++;
    closedir(dir);
    return n;
}
