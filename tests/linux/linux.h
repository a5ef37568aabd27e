/*
 * Linux guests of a host: their kernel and initial RAM disk, and talking to their init
 * (guest/init.c) over the console.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "tests/kvm/host.h"

#define LINUX_CPUS_MAX 8u

struct linux_kernel {
    char dir[4096]; /* vmlinux and bzImage lie there */
};

/* Finds what the tests boot, and builds the kernel when nobody has yet; skips all of the tests,
 * with the reason, where that cannot be done. */
void linux_need(struct linux_kernel *k);

/* The same for the path of Debian's own cloud kernel. */
void linux_need_stock(char *path, size_t size);

struct linux_options {
    const char *name;
    const char *kernel;  /* vmlinux or bzImage */
    const char *cmdline; /* more words for it, with '~' for a blank; NULL: none */
    unsigned cpus;
    bool from_disk;   /* one of its own, instead of the initial RAM disk */
    const char *more; /* options of `vmctl start`; NULL: none */
};

/* Starts our kernel with what it needs to run where a guest's kernel is emulated. */
void linux_start(struct host *h, const struct linux_kernel *k, const struct linux_options *o);

/* The disk of a guest that is off needs no repair. */
void linux_expect_clean_disk(struct host *h, const char *name);

/* Waits until the guest's console has said `text` so many times, as whole lines. */
void linux_expect(struct host *h, const char *name, const char *text, unsigned times);

/* Tells init `words`, waits for its answer and returns the status in it. `answer` (may be NULL)
 * gets the lines from there on. */
int linux_ask(struct host *h, const char *name, char *answer, size_t size, const char *words);

/* The judges go on: each counts further than it had, and nothing has failed. */
void linux_expect_healthy(struct host *h, const char *name, unsigned cpus);

/* The kernel log tells of no trouble since this was asked before. On a host that is busy a kernel
 * that is emulated may come too late for its own watchdog: that counts only when it is not
 * `booting`. */
void linux_expect_no_complaint(struct host *h, const char *name, bool booting);
