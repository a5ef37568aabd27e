/*
 * One host as a user sees it: a ferryd on roots of its own, and vmctl commands against it.
 */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

struct host {
    char dir[64]; /* holds root/, run/ and ferryd.log; removed at the end */
    char build[4096];
    char address[64]; /* where it listens for other hosts; empty when it does not */
    char tls[80];     /* what it is for other hosts; empty: it speaks without TLS */
    pid_t ferryd;
    bool insecure;               /* listens beyond loopback without TLS */
    void (*before_ferryd)(void); /* called in its process; NULL for nothing */
};

/* Starts ferryd and waits until it answers. */
void host_start(struct host *h);

/* The same, and it listens for other hosts. */
void host_start_listening(struct host *h);

/* The same over TLS; `write` puts what it needs into a directory of the host's. */
void host_start_listening_tls(struct host *h, void (*write)(void *ctx, const char *dir), void *ctx);

/* The same on every address, after `before` in ferryd's process, which may put it elsewhere. */
void host_start_beyond(struct host *h, void (*before)(void));

/* The daemon alone, for tests that kill it: its guests and roots stay. */
void host_start_ferryd(struct host *h);
void host_kill_ferryd(struct host *h);

/* Ends all guests and the daemon; fails the test when anything is left behind. */
void host_stop(struct host *h);

/* Runs `vmctl ARGS` (split at blanks; %G is the guests' directory) and returns its exit status; its
 * output (both streams, at most 64 KiB) goes to `out`, which may be NULL. */
int host_run(struct host *h, char *out, size_t size, const char *args, ...)
    __attribute__((format(printf, 4, 5)));

/* The same, and fails the test unless the command succeeds. */
void host_must(struct host *h, const char *args, ...) __attribute__((format(printf, 2, 3)));

/* Begins `vmctl ARGS`, as it stands, beside the test, without its output; the caller waits for it.
 */
pid_t host_begin(struct host *h, const char *args);

/* The same, for one that is refused with these words. */
void host_refuses(struct host *h, const char *words, const char *args);

/* Repeats `vmctl ARGS` until its output holds `text`; fails the test after timeout_ms. */
void host_expect(struct host *h, const char *text, unsigned timeout_ms, const char *args, ...)
    __attribute__((format(printf, 4, 5)));

/* Presses the power button: the guest checks all that it has once more and ends without an error.
 */
void host_must_end_well(struct host *h, const char *name);
/* The guest says another line and has found nothing wrong in all that it said since its start. */
void host_expect_healthy(struct host *h, const char *name);

/* Waits until the VM is in that state, as `vmctl show` tells it. */
void host_expect_state(struct host *h, const char *name, const char *state, unsigned timeout_ms);

/* Types `line` at the guest's console and waits until its log holds `wanted`. */
void host_type(struct host *h, const char *name, const char *line, const char *wanted,
               unsigned timeout_ms);

/* The number behind `"key":` in `vmctl show NAME --json`; -1 without one. */
long host_number(struct host *h, const char *name, const char *key);

/* Of its worker; fails the test when there is none. */
pid_t host_pid(struct host *h, const char *name);

/* Entries of a directory below the host's own. */
unsigned host_count_entries(const struct host *h, const char *where);

/* Open descriptors, threads and resident KiB of a process. */
struct host_usage {
    unsigned fds, threads;
    unsigned long rss_kib, anon_kib;
};
struct host_usage host_usage(pid_t pid);
