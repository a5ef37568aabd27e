/*
 * What all virtio devices have in common: status, features, queues, their state, and how the driver
 * and the device wake each other. docs/adding-a-device.md shows a device on top of it.
 *
 *      device (machine/devices/virtio_*.c)      struct virtio_class: what it can, what it does
 *         │  virtio_pop, virtio_push, virtio_tell
 *      virtio.c                                 this
 *         │  struct virtio_transport_ops
 *      transport (mmio.c)                       registers and interrupts as the guest sees them
 *
 * The happy path: the driver negotiates features, lays out its queues, says DRIVER_OK; the
 * transport then connects its doorbells. A ring of a doorbell makes the class's `work` run on the
 * I/O thread, which takes chains, works and gives them back. One lock a device: it is held while
 * any function of the class runs.
 *
 * A driver that breaks a rule of the rings breaks its device, and nothing else: the status then has
 * NEEDS_RESET, and nothing is done until the driver resets the device.
 */
#pragma once

#include <pthread.h>

#include "machine/counters.h"
#include "machine/device.h"
#include "machine/virtio/queue.h"
#include "machine/watch.h"

#define VIRTIO_QUEUES_MAX 32

/* Chains that one call of `work` takes before other devices have their turn. */
#define VIRTIO_TURN 64

#define VIRTIO_STATUS_ACKNOWLEDGE 0x01
#define VIRTIO_STATUS_DRIVER 0x02
#define VIRTIO_STATUS_DRIVER_OK 0x04
#define VIRTIO_STATUS_FEATURES_OK 0x08
#define VIRTIO_STATUS_NEEDS_RESET 0x40
#define VIRTIO_STATUS_FAILED 0x80

#define VIRTIO_ISR_QUEUE 0x1
#define VIRTIO_ISR_CONFIG 0x2

#define VIRTIO_F_INDIRECT (1ull << 28)
#define VIRTIO_F_EVENT_INDEX (1ull << 29)
#define VIRTIO_F_VERSION_1 (1ull << 32)

/* Ids of the standard. */
#define VIRTIO_ID_NET 1
#define VIRTIO_ID_BLOCK 2
#define VIRTIO_ID_RNG 4

struct virtio;

/* What a device gives to the core. All are called under its lock; those that are not needed may be
 * NULL. */
struct virtio_class {
    const char *name; /* as in the device's row */
    uint32_t id;      /* VIRTIO_ID_* */
    uint16_t queue_size;
    /* Counters of the device's own, behind those of the core; at most COUNTER_OWN_MAX. */
    const char *const *counters;
    unsigned ncounters;

    /* There may be chains in `queue`, of which at most VIRTIO_TURN should be taken; true when there
     * are more. Also after each resume. [io] */
    bool (*work)(void *dev, unsigned queue);
    /* DRIVER_OK: driver_features is final. [vcpu], and after a load [loop] */
    void (*start)(void *dev);
    /* A reset: when it returns, nothing touches guest memory any more and no chain is held. [vcpu],
     * [loop] */
    void (*stop)(void *dev);
    /* The driver writes the device's own registers. [vcpu] */
    void (*write_config)(void *dev, uint64_t offset, const uint8_t *data, unsigned len);
    /* Before a save: requests in flight are ended and given back. [loop] */
    void (*drain)(void *dev);
};

struct virtio_transport_ops {
    /* Between the two, a driver's notification of queue i is to signal queues[i].doorbell. */
    void (*connect)(void *transport);
    void (*disconnect)(void *transport);
    /* isr says why; queue is -1 for a change of the configuration. [io] [vcpu] */
    void (*interrupt)(void *transport, int queue);
    /* Interrupts that may have been on their way at a save are given again. [loop] */
    void (*resume)(void *transport);
    void (*free)(void *transport);
};

struct virtio_queue {
    struct virtq ring;
    struct virtio *virtio; /* borrowed: whose it is */
    int doorbell;          /* owned eventfd */
    struct watch watch;
};

struct virtio {
    const struct virtio_class *class;
    void *dev; /* the device around this */
    pthread_mutex_t lock;
    struct mem *mem;
    const struct virtio_transport_ops *transport_ops;
    void *transport;                  /* owned */
    struct device_counters *counters; /* borrowed */
    const uint8_t *config;            /* borrowed of the device: its registers as read */
    size_t config_bytes;
    uint64_t offered;
    uint32_t made; /* queues that there are; nqueues comes out of a load */
    bool quiesced, connected;
    struct warn_sink warn;
    unsigned warnings; /* said so far */

    /* State. */
    uint32_t device_features_select, driver_features_select, queue_select;
    uint64_t driver_features;
    uint8_t status, isr;
    uint32_t generation; /* of the configuration */
    uint32_t nqueues;
    struct virtio_queue queues[VIRTIO_QUEUES_MAX];
};

/* For the device's own table: FIELD_STRUCT(1, struct virtio_rng, virtio, virtio_fields). */
extern const struct field virtio_fields[];

/* What a device says of itself at init; beside `features` the core offers its own. */
struct virtio_setup {
    const struct virtio_class *class;
    void *dev;
    uint64_t features;
    unsigned queues;
    const uint8_t *config; /* may be NULL */
    size_t config_bytes;
};

/* Puts the device on its transport; on failure nothing is left. */
int virtio_init(struct virtio *v, const struct virtio_setup *setup, const struct device_env *env,
                struct err *err);
void virtio_fini(struct virtio *v);

/* The same for the device's row; `struct virtio` is then its first member. */
void virtio_device_fini(void *dev);
void virtio_device_quiesce(void *dev);
void virtio_device_resume(void *dev);
void virtio_device_reset(void *dev);

/* For post_load: whether what was loaded can be, and the rings taken up again. */
int virtio_post_load(struct virtio *v, struct err *err);

/* ---- for devices, under the lock ---- */

static inline bool virtio_has(const struct virtio *v, uint64_t feature)
{
    return v->driver_features & feature;
}

/* Whether there is a driver whose queues may be worked on. */
bool virtio_runs(const struct virtio *v);

/* True with the next chain of a queue. False when there is none now: the driver will ring for the
 * next one; or when the driver broke a rule: its device is then broken. */
bool virtio_pop(struct virtio *v, unsigned queue, struct virtq_chain *chain);
void virtio_push(struct virtio *v, unsigned queue, const struct virtq_chain *chain,
                 uint64_t written);
/* Several chains as one answer: see virtq_fill; and what was popped for one that cannot be given.
 */
void virtio_fill(struct virtio *v, unsigned queue, uint16_t place, const struct virtq_chain *chain,
                 uint64_t written);
void virtio_publish(struct virtio *v, unsigned queue, uint16_t count);
void virtio_unpop(struct virtio *v, unsigned queue, uint16_t count);
/* After pushing: interrupts the driver if it wants to hear of it. */
void virtio_tell(struct virtio *v, unsigned queue);

/* `work` is called for the queue soon, when all others had their turn. [any] */
void virtio_ring(struct virtio *v, unsigned queue);

/* The driver did what cannot be: `what` is counted, and the device needs a reset. */
void virtio_break(struct virtio *v, const struct err *what);

/* The device's registers have changed: the driver is told to read them again. */
void virtio_config_changed(struct virtio *v);

/* One of the class's own counters, by its place. */
static inline void virtio_count(struct virtio *v, unsigned counter, uint64_t n)
{
    counter_grow(v->counters, COUNTER_DEVICE_COMMON + counter, n);
}

/* ---- for transports, which hold the lock ---- */

void virtio_set_status(struct virtio *v, uint32_t value);
uint32_t virtio_device_features(struct virtio *v);
void virtio_set_driver_features(struct virtio *v, uint32_t bits);
void virtio_read_config(struct virtio *v, uint64_t offset, uint8_t *data, unsigned len);
void virtio_write_config(struct virtio *v, uint64_t offset, const uint8_t *data, unsigned len);
/* The selected queue, or NULL; and whether its size and addresses may be written now. */
struct virtq *virtio_selected(struct virtio *v);
bool virtio_may_set_up(const struct virtio *v, const struct virtq *q);
void virtio_set_ready(struct virtio *v, bool ready);
/* A notification that no doorbell took. */
void virtio_notified(struct virtio *v, uint32_t queue);
