/*
 * A split virtqueue, seen from the device: from the rings that a driver laid out in its memory to
 * chains of checked buffers, and back.
 *
 *     virtq_enable -> virtq_pop -> (the device's work) -> virtq_push -> virtq_wants_interrupt
 *                 until virtq_pop says that there is nothing, then virtq_rest
 *
 * The rings belong to the guest, which may change any byte at any moment: each number is read once
 * into a variable of our own and checked there. What cannot be (a loop, an address outside of RAM,
 * an index that jumps) is an error with one sentence; nothing was popped then, and the device
 * should stop until the driver resets it. The same checks stand between a restored state and
 * memory.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/err.h"
#include "machine/mem.h"
#include "vmstate/field.h"

#define VIRTQ_SIZE_MAX 256 /* a power of two */
#define VIRTQ_SEGS_MAX 256

struct virtq {
    /* State: what the driver set, and how far the device is. */
    uint16_t size;
    bool ready;
    uint64_t desc_gpa, avail_gpa, used_gpa;
    uint16_t next_avail, next_used; /* both count without end */

    /* Not saved: of the device, or derived. */
    struct mem *mem; /* borrowed */
    uint16_t size_max;
    bool indirect, event_index;   /* negotiated */
    uint8_t *desc, *avail, *used; /* borrowed of mem, valid while ready */
    uint16_t told_used;           /* next_used when the driver was last asked */
    bool told;                    /* told_used is valid */
};

extern const struct field virtq_fields[];

/* Buffers of one request: first those that the device reads, then those that it writes. */
struct virtq_chain {
    uint16_t head;
    uint16_t nout, nin;
    uint64_t out_bytes, in_bytes;
    struct iovec iov[VIRTQ_SEGS_MAX]; /* nout, then nin */
    uint64_t gpa[VIRTQ_SEGS_MAX];     /* of each */
};

void virtq_init(struct virtq *q, struct mem *mem, uint16_t size_max);
/* As after a reset of the device. */
void virtq_reset(struct virtq *q);

/* Checks what the driver (or a restored state) says and makes the queue ready. */
int virtq_enable(struct virtq *q, struct err *err);

/* The next chain: 1, 0 when there is none, -errno for rings that cannot be. */
int virtq_pop(struct virtq *q, struct virtq_chain *chain, struct err *err);

/* Puts back what the last `count` pops took, which nobody has given back. */
void virtq_unpop(struct virtq *q, uint16_t count);

/* Gives the chain back with the first `written` bytes of its writable buffers filled. */
void virtq_push(struct virtq *q, const struct virtq_chain *chain, uint64_t written);

/* The same for several chains that the driver has to see at once: each goes to its place behind
 * what was pushed, and then `count` of them are there. */
void virtq_fill(struct virtq *q, uint16_t place, const struct virtq_chain *chain, uint64_t written);
void virtq_publish(struct virtq *q, uint16_t count);

/* Whether the driver wants to hear of what was pushed since it was last asked. */
bool virtq_wants_interrupt(struct virtq *q);

/* While a device works off a queue, the driver need not ring. */
void virtq_busy(struct virtq *q);
/* From now on the driver rings for the next chain; true when there is one already. */
bool virtq_rest(struct virtq *q);

/* Bytes between a chain's readable or writable buffers and a place of our own, from `at` on: less
 * than `len` when they end before. */
uint64_t virtq_read(const struct virtq_chain *chain, uint64_t at, void *to, uint64_t len);
uint64_t virtq_write(const struct virtq_chain *chain, uint64_t at, const void *from, uint64_t len);
