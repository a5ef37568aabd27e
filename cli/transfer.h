/*
 * The bytes of a snapshot between ferryd and somewhere else: a file, a pipe, a store.
 *
 * vmctl moves them, so that whoever runs it needs the rights to what is read or written there, and
 * ferryd has no part in it. Only what is whole stays at the other end: a failure, and Ctrl-C, which
 * cancels and waits for ferryd's answer, leave nothing.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"
#include "cli/interrupt.h"
#include "cli/progress.h"
#include "proto/ferry.pb-c.h"

/* What write and close return when all that was written is void: begin again at the first byte. */
#define TRANSFER_AGAIN 1

/* The other end. All may wait; a signal (`interrupt`) ends that with -ECANCELED. */
struct transfer_end {
    /* All of it. */
    int (*write)(struct transfer_end *end, const void *data, size_t len, struct err *err);
    /* Up to `max`; 0 behind the last byte of what is whole, -EAGAIN when `fd` will tell. */
    ssize_t (*read)(struct transfer_end *end, void *to, size_t max, struct err *err);
    /* Of a write: only with `whole` does it stay. Of a read: nothing more is wanted. */
    int (*close)(struct transfer_end *end, bool whole, struct err *err);
    int fd;                            /* owned by the end; readable when read has something */
    uint64_t total;                    /* to be read, 0 as long as it is not known */
    const struct interrupt *interrupt; /* borrowed; set by the transfer */
    struct progress *progress;         /* borrowed, likewise; its line goes before others come */
};

struct transfer {
    const char *run, *name; /* borrowed */
    const char *undone;     /* how things are when it is cancelled */
    struct transfer_end *end;
    uint64_t bytes; /* that were moved */
};

/* The end is closed, also when it fails. */
int transfer_export(struct transfer *t, bool alone, struct err *err);

/* The same. The reply has a SnapshotDetail with a summary; freed by the caller. `name` NULL keeps
 * that of the exporter. */
int transfer_import(struct transfer *t, const char *name, Ferry__Reply **reply, struct err *err);

/* A file as the other end; it holds what it opened until close. */
struct transfer_file {
    struct transfer_end end; /* first */
    const char *path;        /* borrowed */
    int dirfd;               /* owned; of a new file, else -1 */
    char name[256], temp[300];
    bool plain; /* a new file, which must not be half there */
};

/* A new file, or what is there already and is none (a pipe, a device); "-" is standard output. */
int transfer_file_create(struct transfer_file *f, const char *path, struct err *err);

/* "-" is standard input. */
int transfer_file_open(struct transfer_file *f, const char *path, struct err *err);

/* A URL as the other end: a process of its own, ferry-store, moves the bytes between it and us. It
 * has our rights, environment and credentials. */
struct transfer_store {
    struct transfer_end end; /* first */
    pid_t pid;
    int pidfd; /* owned */
    bool put, over;
};

/* What has "://" in it. */
bool transfer_is_url(const char *text);
int transfer_store_open(struct transfer_store *s, const char *url, bool put, struct err *err);
