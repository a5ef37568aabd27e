/*
 * A disk: an open file or block device on which many requests are under way at once.
 *
 *     disk_queue, disk_queue, ... disk_kick -> disk_reap until NULL
 *     later event_fd becomes readable       -> disk_reap until NULL
 *
 * Requests are done by io_uring where the host has it, else by a few threads. They end in any
 * order. A flush covers the writes that had ended when it was queued.
 *
 * No request fails for being half done: a short transfer is carried on, a hint that the file system
 * does not know (discard) is no error, zeroes that it cannot make are written.
 *
 * The caller sees to it that one thread at a time is in here.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/err.h"

#define DISK_SECTOR 512u
#define DISK_IN_FLIGHT_MAX 256u /* disk_queue takes no more */

enum disk_kind { DISK_READ, DISK_WRITE, DISK_FLUSH, DISK_DISCARD, DISK_ZEROES };

/* Lives with its caller until it is reaped. */
struct disk_op {
    enum disk_kind kind;
    uint64_t at, bytes;      /* within the disk; nothing for a flush */
    const struct iovec *iov; /* of a read or write: exactly `bytes` */
    unsigned niov;
    bool keep;     /* of zeroes: their blocks stay allocated */
    int result;    /* when reaped: 0 or -errno */
    uint64_t done; /* of the engine, as the rest */
    bool by_writing;
    struct iovec zeroes;
    struct disk_op *next;
};

struct disk;

struct disk_engine {
    const char *name;
    int (*init)(struct disk *d, struct err *err);
    void (*fini)(struct disk *d);
    void (*queue)(struct disk *d, struct disk_op *op);
    void (*kick)(struct disk *d);
    struct disk_op *(*reap)(struct disk *d, bool wait);
};

extern const struct disk_engine disk_ring, disk_pool;

struct disk {
    int fd;         /* borrowed */
    uint64_t bytes; /* whole sectors */
    int event_fd;   /* owned: readable when something has ended */
    unsigned in_flight;
    const struct disk_engine *engine;
    void *data; /* the engine's */
};

/* `engine` NULL: the best that there is. Refuses what is no disk. */
int disk_init(struct disk *d, int fd, const struct disk_engine *engine, struct err *err);

/* Waits for what is in flight and drops it. */
void disk_fini(struct disk *d);

void disk_queue(struct disk *d, struct disk_op *op);
/* What was queued begins; reap then: what ends at once tells nobody. */
void disk_kick(struct disk *d);
/* One that has ended, or NULL; with `wait` NULL only when nothing is in flight. */
struct disk_op *disk_reap(struct disk *d, bool wait);

/* Whether a file may be a disk, and how large it is. */
int disk_check(int fd, uint64_t *bytes, struct err *err);

/* Another number after each change of a file's bytes, while nothing is in flight: its time of
 * modification, which a copy may keep. 0 for a block device, whose changes cannot be seen. */
uint64_t disk_generation(const struct disk *d);

/* ---- for engines ---- */

/* Does the rest of a request, blocking; 0 or -errno. [any] */
int disk_do(const struct disk *d, struct disk_op *op);
/* The mode of fallocate for a discard or zeroes. */
int disk_fallocate_mode(const struct disk_op *op);
/* The next piece of zeroes that are written. */
void disk_next_zeroes(struct disk_op *op);
