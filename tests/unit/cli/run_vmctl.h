/* Runs the vmctl of this build as a process, with its output kept. */
#pragma once

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define RUN_WORDS_MAX 24

/* One run. Descriptors of -1 are chosen: nothing to read, output to memory. */
struct run {
    int in, out, err;
    pid_t pid;
    int status; /* exit status, or 128 and the signal */
    char *said, *complained;
};

static inline const char *run_path(void)
{
    static char path[512];
    const char *build = getenv("FERRY_BUILD");
    snprintf(path, sizeof(path), "%s/bin/vmctl", build ? build : "build-asan");
    return path;
}

static inline void run_begin(struct run *r, const char *run, const char *const *words)
{
    const char *argv[RUN_WORDS_MAX + 2] = {"vmctl"};
    for (unsigned i = 0; i < RUN_WORDS_MAX && words[i]; i++)
        argv[i + 1] = words[i];
    r->out = r->out < 0 ? memfd_create("out", 0) : r->out;
    r->err = r->err < 0 ? memfd_create("err", 0) : r->err;
    r->pid = fork();
    assert_true(r->pid >= 0);
    if (r->pid)
        return;
    int null = open("/dev/null", O_RDWR);
    dup2(r->in < 0 ? null : r->in, 0);
    dup2(r->out, 1);
    dup2(r->err, 2);
    closefrom(3);
    setenv("FERRY_RUN", run, 1);
    setenv("TZ", "UTC", 1);
    execv(run_path(), (char **)argv);
    _exit(99);
}

/* What a memory file holds; NULL for a pipe and the like. Closes it. */
static inline char *run_take(int fd)
{
    char *text = NULL;
    struct stat st;
    if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode)) {
        text = calloc(1, (size_t)st.st_size + 1);
        assert_int_equal(pread(fd, text, (size_t)st.st_size, 0), st.st_size);
    }
    close(fd);
    return text;
}

static inline int run_end(struct run *r)
{
    int status;
    assert_int_equal(waitpid(r->pid, &status, 0), r->pid);
    r->status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    r->said = run_take(r->out);
    r->complained = run_take(r->err);
    return r->status;
}

static inline void run_free(struct run *r)
{
    free(r->said);
    free(r->complained);
    r->said = r->complained = NULL;
}

#define RUN_NEW                                                                                    \
    {                                                                                              \
        .in = -1, .out = -1, .err = -1                                                             \
    }

/* The whole of it: words up to NULL; compares status and, where not NULL, all output. */
static inline void run_expect(const char *run, const char *const *words, int status,
                              const char *said, const char *complained)
{
    struct run r = RUN_NEW;
    run_begin(&r, run, words);
    if (run_end(&r) != status)
        print_error("vmctl %s: %d, said '%s', complained '%s'\n", words[0], r.status, r.said,
                    r.complained);
    assert_int_equal(r.status, status);
    if (said)
        assert_string_equal(r.said, said);
    if (complained)
        assert_string_equal(r.complained, complained);
    run_free(&r);
}

#define WORDS(...)                                                                                 \
    (const char *const[])                                                                          \
    {                                                                                              \
        __VA_ARGS__, NULL                                                                          \
    }
