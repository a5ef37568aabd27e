/*
 * See virtio.h.
 *
 *     0 ──► ACKNOWLEDGE, DRIVER ──► FEATURES_OK ──► DRIVER_OK ──► NEEDS_RESET
 *     ▲         features              queues         runs          broken
 *     └──────────────────────────── write of 0 ◄─────┴─────────────┘
 *
 * A driver only ever adds status bits, or begins anew with 0.
 */
#include "machine/virtio/virtio.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define DRIVER_STATUS                                                                              \
    (VIRTIO_STATUS_ACKNOWLEDGE | VIRTIO_STATUS_DRIVER | VIRTIO_STATUS_DRIVER_OK |                  \
     VIRTIO_STATUS_FEATURES_OK | VIRTIO_STATUS_FAILED)
#define WARNINGS_MAX 8
#define CORE_FEATURES (VIRTIO_F_INDIRECT | VIRTIO_F_EVENT_INDEX | VIRTIO_F_VERSION_1)

// clang-format off
static const struct field queue_fields[] = {
    FIELD_STRUCT(1, struct virtio_queue, ring, virtq_fields),
    FIELD_END,
};

const struct field virtio_fields[] = {
    FIELD(1, struct virtio, device_features_select),
    FIELD(2, struct virtio, driver_features_select),
    FIELD(3, struct virtio, queue_select),
    FIELD(4, struct virtio, driver_features),
    FIELD(5, struct virtio, status),
    FIELD(6, struct virtio, isr),
    FIELD(7, struct virtio, generation),
    FIELD_STRUCTS_USED(8, struct virtio, queues, nqueues, queue_fields),
    FIELD_END,
};
// clang-format on

static void count(struct virtio *v, enum counter_device kind)
{
    counter_grow(v->counters, kind, 1);
}

static void signal_fd(int fd)
{
    eventfd_write(fd, 1); /* fails only when it is full: then it is readable anyway */
}

bool virtio_runs(const struct virtio *v)
{
    return !v->quiesced && (v->status & VIRTIO_STATUS_DRIVER_OK) &&
           !(v->status & VIRTIO_STATUS_NEEDS_RESET);
}

static void interrupt(struct virtio *v, uint8_t why, int queue)
{
    v->isr |= why;
    count(v, COUNTER_DEVICE_INTERRUPTS);
    v->transport_ops->interrupt(v->transport, queue);
}

/* A guest that breaks its device again and again is told of only so often. */
static void warn(struct virtio *v, const struct err *what)
{
    char text[ERR_TEXT_MAX + 64];
    if (v->warnings == WARNINGS_MAX || !v->warn.say)
        return;
    v->warnings++;
    snprintf(text, sizeof(text), "%s: the driver broke a rule: %s", v->counters->name, what->text);
    v->warn.say(v->warn.ctx, text);
}

void virtio_break(struct virtio *v, const struct err *what)
{
    if (v->status & VIRTIO_STATUS_NEEDS_RESET)
        return;
    v->status |= VIRTIO_STATUS_NEEDS_RESET;
    count(v, COUNTER_DEVICE_BROKEN);
    warn(v, what);
    if (v->status & VIRTIO_STATUS_DRIVER_OK)
        interrupt(v, VIRTIO_ISR_CONFIG, -1);
}

void virtio_config_changed(struct virtio *v)
{
    v->generation++;
    if (virtio_runs(v))
        interrupt(v, VIRTIO_ISR_CONFIG, -1);
}

bool virtio_pop(struct virtio *v, unsigned queue, struct virtq_chain *chain)
{
    struct virtq *q = &v->queues[queue].ring;
    struct err err;
    if (!virtio_runs(v) || !q->ready)
        return false;
    int rc = virtq_pop(q, chain, &err);
    if (rc == 0 && virtq_rest(q)) {
        virtq_busy(q); /* one came in the moment between the two */
        rc = virtq_pop(q, chain, &err);
    }
    if (rc < 0) {
        err_wrap(&err, "queue %u", queue);
        virtio_break(v, &err);
    }
    if (rc > 0)
        count(v, COUNTER_DEVICE_REQUESTS);
    return rc > 0;
}

void virtio_push(struct virtio *v, unsigned queue, const struct virtq_chain *chain,
                 uint64_t written)
{
    if (v->queues[queue].ring.ready)
        virtq_push(&v->queues[queue].ring, chain, written);
}

void virtio_fill(struct virtio *v, unsigned queue, uint16_t place, const struct virtq_chain *chain,
                 uint64_t written)
{
    virtq_fill(&v->queues[queue].ring, place, chain, written);
}

void virtio_publish(struct virtio *v, unsigned queue, uint16_t count)
{
    virtq_publish(&v->queues[queue].ring, count);
}

void virtio_unpop(struct virtio *v, unsigned queue, uint16_t count)
{
    virtq_unpop(&v->queues[queue].ring, count);
}

void virtio_tell(struct virtio *v, unsigned queue)
{
    struct virtq *q = &v->queues[queue].ring;
    if (q->ready && virtq_wants_interrupt(q))
        interrupt(v, VIRTIO_ISR_QUEUE, (int)queue);
}

void virtio_ring(struct virtio *v, unsigned queue)
{
    signal_fd(v->queues[queue].doorbell);
}

/* The doorbell's count is never read: its watch hears of each ring. [io] */
static void on_doorbell(void *owner)
{
    struct virtio_queue *q = owner;
    struct virtio *v = q->virtio;
    pthread_mutex_lock(&v->lock);
    count(v, COUNTER_DEVICE_WAKEUPS);
    if (virtio_runs(v) && q->ring.ready) {
        virtq_busy(&q->ring);
        if (v->class->work(v->dev, (unsigned)(q - v->queues)))
            signal_fd(q->doorbell);
    }
    pthread_mutex_unlock(&v->lock);
}

static void connect_all(struct virtio *v)
{
    if (v->connected)
        return;
    if (v->class->start)
        v->class->start(v->dev);
    v->transport_ops->connect(v->transport);
    v->connected = true;
}

static void disconnect_all(struct virtio *v)
{
    if (!v->connected)
        return;
    v->transport_ops->disconnect(v->transport);
    if (v->class->stop)
        v->class->stop(v->dev);
    v->connected = false;
}

static void reset(struct virtio *v)
{
    disconnect_all(v);
    v->device_features_select = v->driver_features_select = v->queue_select = 0;
    v->driver_features = 0;
    v->status = v->isr = 0;
    v->nqueues = v->made;
    for (unsigned i = 0; i < v->made; i++)
        virtq_reset(&v->queues[i].ring);
}

static bool features_possible(const struct virtio *v)
{
    return (v->driver_features & VIRTIO_F_VERSION_1) && !(v->driver_features & ~v->offered);
}

static void use_features(struct virtio *v)
{
    for (unsigned i = 0; i < v->made; i++) {
        v->queues[i].ring.indirect = virtio_has(v, VIRTIO_F_INDIRECT);
        v->queues[i].ring.event_index = virtio_has(v, VIRTIO_F_EVENT_INDEX);
    }
}

/* FEATURES_OK that does not stick says that the features cannot be; DRIVER_OK needs it. */
static void add_status(struct virtio *v, uint8_t bits)
{
    bool ran = v->status & VIRTIO_STATUS_DRIVER_OK;
    if ((bits & VIRTIO_STATUS_FEATURES_OK) && !features_possible(v))
        bits &= (uint8_t)~VIRTIO_STATUS_FEATURES_OK;
    if (!((v->status | bits) & VIRTIO_STATUS_FEATURES_OK))
        bits &= (uint8_t)~VIRTIO_STATUS_DRIVER_OK;
    v->status |= bits;
    if (ran || !(v->status & VIRTIO_STATUS_DRIVER_OK))
        return;
    use_features(v);
    connect_all(v);
    for (unsigned i = 0; i < v->made; i++) /* what was made available before */
        signal_fd(v->queues[i].doorbell);
}

void virtio_set_status(struct virtio *v, uint32_t value)
{
    if (value == 0)
        reset(v);
    else
        add_status(v, (uint8_t)(value & DRIVER_STATUS));
}

uint32_t virtio_device_features(struct virtio *v)
{
    return v->device_features_select > 1 ? 0
                                         : (uint32_t)(v->offered >> 32 * v->device_features_select);
}

void virtio_set_driver_features(struct virtio *v, uint32_t bits)
{
    unsigned shift = 32 * v->driver_features_select;
    if (v->driver_features_select > 1 || (v->status & VIRTIO_STATUS_FEATURES_OK))
        return;
    v->driver_features &= ~(0xffffffffull << shift);
    v->driver_features |= (uint64_t)bits << shift;
}

/* What lies behind the registers reads as zero. */
void virtio_read_config(struct virtio *v, uint64_t offset, uint8_t *data, unsigned len)
{
    memset(data, 0, len);
    if (offset < v->config_bytes)
        memcpy(data, v->config + offset,
               len < v->config_bytes - offset ? len : v->config_bytes - offset);
}

void virtio_write_config(struct virtio *v, uint64_t offset, const uint8_t *data, unsigned len)
{
    if (v->class->write_config && offset < v->config_bytes && len <= v->config_bytes - offset)
        v->class->write_config(v->dev, offset, data, len);
}

struct virtq *virtio_selected(struct virtio *v)
{
    return v->queue_select < v->made ? &v->queues[v->queue_select].ring : NULL;
}

bool virtio_may_set_up(const struct virtio *v, const struct virtq *q)
{
    return q && !q->ready && !(v->status & (VIRTIO_STATUS_DRIVER_OK | VIRTIO_STATUS_NEEDS_RESET));
}

/* A queue that is switched off takes the whole device's requests in flight with it: they may be its
 * own, and their memory is the driver's again. */
static void switch_off(struct virtio *v, struct virtq *q)
{
    if (v->connected && v->class->drain)
        v->class->drain(v->dev);
    q->ready = false;
}

void virtio_set_ready(struct virtio *v, bool ready)
{
    struct virtq *q = virtio_selected(v);
    struct err err;
    if (!ready && q && q->ready)
        switch_off(v, q);
    if (!ready || !virtio_may_set_up(v, q) || virtq_enable(q, &err) == 0)
        return;
    err_wrap(&err, "queue %" PRIu32, v->queue_select);
    virtio_break(v, &err);
}

void virtio_notified(struct virtio *v, uint32_t queue)
{
    if (queue < v->made && v->queues[queue].ring.ready)
        signal_fd(v->queues[queue].doorbell);
}

static int check_loaded(const struct virtio *v, struct err *err)
{
    bool features = v->status & VIRTIO_STATUS_FEATURES_OK;
    if (v->nqueues != v->made)
        return err_set(err, EBADMSG, "%" PRIu32 " queues, not %" PRIu32, v->nqueues, v->made);
    if (v->status & ~(DRIVER_STATUS | VIRTIO_STATUS_NEEDS_RESET))
        return err_set(err, EBADMSG, "status 0x%02x has unknown bits", v->status);
    if ((v->status & VIRTIO_STATUS_DRIVER_OK) && !features)
        return err_set(err, EBADMSG, "status 0x%02x is impossible", v->status);
    if (v->isr & ~(VIRTIO_ISR_QUEUE | VIRTIO_ISR_CONFIG))
        return err_set(err, EBADMSG, "isr 0x%02x has unknown bits", v->isr);
    if (features && !features_possible(v))
        return err_set(err, EBADMSG,
                       "driver_features 0x%" PRIx64 " are not among those offered, 0x%" PRIx64,
                       v->driver_features, v->offered);
    return 0;
}

static int check_queue(struct virtq *q, struct err *err)
{
    if (q->size > q->size_max)
        return err_set(err, EBADMSG, "size %u is more than %u", q->size, q->size_max);
    return q->ready ? virtq_enable(q, err) : 0;
}

int virtio_post_load(struct virtio *v, struct err *err)
{
    disconnect_all(v);
    int rc = check_loaded(v, err);
    for (unsigned i = 0; rc == 0 && i < v->made; i++) {
        rc = check_queue(&v->queues[i].ring, err);
        if (rc < 0)
            rc = err_wrap(err, "queue %u", i);
    }
    if (rc < 0)
        return err_wrap(err, "%s", v->class->name);
    use_features(v);
    return 0;
}

static int make_queue(struct virtio *v, unsigned index, const struct device_env *env,
                      struct err *err)
{
    struct virtio_queue *q = &v->queues[index];
    q->virtio = v;
    virtq_init(&q->ring, env->mem, v->class->queue_size);
    q->doorbell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (q->doorbell < 0)
        return err_sys(err, errno, "cannot make a doorbell");
    v->made++;
    return watch_add(&q->watch, env->watches, q->doorbell, on_doorbell, q, err);
}

int virtio_init(struct virtio *v, const struct virtio_setup *setup, const struct device_env *env,
                struct err *err)
{
    int rc = 0;
    *v = (struct virtio){
        .class = setup->class,
        .dev = setup->dev,
        .mem = env->mem,
        .warn = env->warn,
        .config = setup->config,
        .config_bytes = setup->config_bytes,
        .offered = setup->features | CORE_FEATURES,
        .quiesced = true,
    };
    v->counters = counter_device(env->counters, setup->class->name, env->instance,
                                 setup->class->counters, setup->class->ncounters);
    pthread_mutex_init(&v->lock, NULL);
    for (unsigned i = 0; rc == 0 && i < setup->queues; i++)
        rc = make_queue(v, i, env, err);
    v->nqueues = v->made;
    if (rc == 0)
        rc = env->virtio_attach(v, env, err);
    if (rc < 0)
        virtio_fini(v);
    return rc;
}

/* Watches first: they take the lock. */
void virtio_fini(struct virtio *v)
{
    for (unsigned i = 0; i < v->made; i++)
        watch_remove(&v->queues[i].watch);
    pthread_mutex_lock(&v->lock);
    disconnect_all(v);
    pthread_mutex_unlock(&v->lock);
    if (v->transport)
        v->transport_ops->free(v->transport);
    for (unsigned i = 0; i < v->made; i++)
        close(v->queues[i].doorbell);
    v->made = 0;
    pthread_mutex_destroy(&v->lock);
}

void virtio_device_fini(void *dev)
{
    virtio_fini(dev);
}

void virtio_device_quiesce(void *dev)
{
    struct virtio *v = dev;
    pthread_mutex_lock(&v->lock);
    if (v->connected && v->class->drain)
        v->class->drain(v->dev);
    v->quiesced = true;
    pthread_mutex_unlock(&v->lock);
}

/* An interrupt that was on its way may not have got into the saved controllers, and a ring of a
 * doorbell is never saved: both are given again. */
void virtio_device_resume(void *dev)
{
    struct virtio *v = dev;
    pthread_mutex_lock(&v->lock);
    v->quiesced = false;
    if (v->status & VIRTIO_STATUS_DRIVER_OK)
        connect_all(v);
    v->transport_ops->resume(v->transport);
    for (unsigned i = 0; i < v->made; i++)
        if (v->queues[i].ring.ready)
            signal_fd(v->queues[i].doorbell);
    pthread_mutex_unlock(&v->lock);
}

void virtio_device_reset(void *dev)
{
    struct virtio *v = dev;
    pthread_mutex_lock(&v->lock);
    reset(v);
    pthread_mutex_unlock(&v->lock);
}
