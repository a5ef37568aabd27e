/*
 * A driver for virtio over MMIO as Linux has one: devices found by ACPI or the command line, split
 * queues with indirect descriptors and event index as negotiated, interrupts of the IOAPIC.
 * It trusts the device in nothing that it can check.
 */
#ifndef GUESTS_VIRTIO_H
#define GUESTS_VIRTIO_H

#include "guest.h"

#define VIRTIO_NET 1
#define VIRTIO_RNG 4
#define VIRTIO_BLK 2

#define VIRTIO_INDIRECT (1ul << 28)
#define VIRTIO_EVENT_INDEX (1ul << 29)
#define VIRTIO_VERSION_1 (1ul << 32)

#define VIRTIO_OK 0x0f /* ACKNOWLEDGE, DRIVER, DRIVER_OK, FEATURES_OK */
#define VIRTIO_NEEDS_RESET 0x40

#define VQ_MAX 256
#define VQ_SEGS 16 /* in one request */
#define VIRTIO_QUEUES 8
#define VIRTIO_WINDOWS 32

enum {
    VM_MAGIC = 0x000,
    VM_VERSION = 0x004,
    VM_DEVICE = 0x008,
    VM_DEVICE_FEATURES = 0x010,
    VM_DEVICE_FEATURES_SELECT = 0x014,
    VM_DRIVER_FEATURES = 0x020,
    VM_DRIVER_FEATURES_SELECT = 0x024,
    VM_QUEUE_SELECT = 0x030,
    VM_QUEUE_SIZE_MAX = 0x034,
    VM_QUEUE_SIZE = 0x038,
    VM_QUEUE_READY = 0x044,
    VM_NOTIFY = 0x050,
    VM_ISR = 0x060,
    VM_ISR_ACK = 0x064,
    VM_STATUS = 0x070,
    VM_DESC = 0x080,
    VM_AVAIL = 0x090,
    VM_USED = 0x0a0,
    VM_CONFIG = 0x100,
};

struct vq_desc {
    uint64_t addr;
    uint32_t len;
    uint16_t flags, next;
};

/* All that the device sees of a queue, and room for an indirect table of each request. */
struct vq_rings {
    struct vq_desc desc[VQ_MAX] __attribute__((aligned(4096)));
    volatile uint16_t avail[3 + VQ_MAX];
    volatile uint32_t used[2 + 2 * VQ_MAX] __attribute__((aligned(4096)));
    struct vq_desc tables[VQ_MAX][VQ_SEGS];
};

struct vq {
    struct virtio_dev *dev;
    struct vq_rings *rings;
    unsigned index, size;
    uint16_t free_head, free_count; /* descriptors, linked by next */
    uint16_t added, kicked, taken;  /* avail index; at the last kick; used entries taken */
    uint64_t kicks;
    uint8_t busy[VQ_MAX]; /* by head: how many descriptors its chain has, 0 when it is free */
};

struct virtio_dev {
    uintptr_t base;
    unsigned pin;
    uint32_t id;
    uint64_t offered, features;
    unsigned nqueues;
    struct vq queues[VIRTIO_QUEUES];
};

struct vq_seg {
    void *at;
    uint32_t len;
    bool in; /* the device writes it */
};

static inline uint32_t virtio_get(const struct virtio_dev *d, unsigned reg)
{
    return *(volatile uint32_t *)(d->base + reg);
}

static inline void virtio_put(const struct virtio_dev *d, unsigned reg, uint32_t value)
{
    *(volatile uint32_t *)(d->base + reg) = value;
}

/* Windows that the machine tells of; address and IOAPIC pin of each. */
unsigned virtio_windows(uint64_t *addrs, unsigned *pins, unsigned max);

/* The nth device of this id; false when there is none. */
bool virtio_find(struct virtio_dev *d, uint32_t id, unsigned nth);

/* From reset to FEATURES_OK with those of `want` that are offered; what is wrong, or NULL. */
const char *virtio_begin(struct virtio_dev *d, uint64_t want);
/* Queue `index` with at most `size` places. */
const char *virtio_add_queue(struct virtio_dev *d, unsigned index, struct vq_rings *rings,
                             unsigned size);
/* DRIVER_OK; interrupts come as VECTOR_PIN + d->pin. */
void virtio_go(struct virtio_dev *d);
void virtio_reset(struct virtio_dev *d);

/* One request; its head, or -1 when there is no room. */
int vq_add(struct vq *q, const struct vq_seg *segs, unsigned count, bool indirect);
/* Makes what was added known to the device; rings unless it said that it need not. */
void vq_kick(struct vq *q);
/* One finished request: 1; 0 for none; -1 when the device gave back what it does not have. */
int vq_take(struct vq *q, unsigned *head, uint32_t *len);

/* Asks for an interrupt at the next finished request; true when there is none to take yet. */
bool vq_ask(struct vq *q);
/* No interrupt is wanted for now. */
void vq_hush(struct vq *q);

/* Sleeps until there is something to take. What is wrong when it took too long, or NULL. */
const char *vq_wait(struct vq *q, uint64_t timeout_ns);

#endif
