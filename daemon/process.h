/* A process that can be recognised again: its number alone may be another's by now. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"

#define BOOT_ID_SIZE 40

struct process {
    pid_t pid;      /* 0 for none */
    uint64_t start; /* field 22 of /proc/PID/stat */
    int pidfd;      /* owned */
};

struct process_usage {
    uint64_t rss_bytes, cpu_ns;
};

/* Names this boot of the host; in another one, numbers and start times mean nothing. */
void process_boot_id(char id[BOOT_ID_SIZE]);

/* Opens `pid`; with `start`, only when it is the very process that began then (else -ESRCH). */
int process_open(struct process *p, pid_t pid, const uint64_t *start, struct err *err);
void process_close(struct process *p);

void process_kill(const struct process *p);
int process_usage(const struct process *p, struct process_usage *usage);

/* Whether it has that very file open. */
bool process_has_open(const struct process *p, int file);

/*
 * How a process that has ended did so, as a sentence: "worker exited with status 1", "worker killed
 * by signal 9 (SIGKILL)". Reaps it when it was our child.
 */
void process_epitaph(const struct process *p, char *text, size_t size);
