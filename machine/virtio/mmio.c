/* See mmio.h. */
#include "machine/virtio/mmio.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/le.h"
#include "machine/layout.h"

#define MAGIC 0x74726976u /* "virt" */
#define VERSION 2u
#define VENDOR 0x59524546u /* "FERY" */
#define REG_BYTES 4u
#define CONFIG 0x100u
#define NO_SUCH_MEMORY 0xffffffffu

enum {
    REG_MAGIC = 0x000,
    REG_VERSION = 0x004,
    REG_DEVICE_ID = 0x008,
    REG_VENDOR_ID = 0x00c,
    REG_DEVICE_FEATURES = 0x010,
    REG_DEVICE_FEATURES_SELECT = 0x014,
    REG_DRIVER_FEATURES = 0x020,
    REG_DRIVER_FEATURES_SELECT = 0x024,
    REG_QUEUE_SELECT = 0x030,
    REG_QUEUE_SIZE_MAX = 0x034,
    REG_QUEUE_SIZE = 0x038,
    REG_QUEUE_READY = 0x044,
    REG_QUEUE_NOTIFY = 0x050,
    REG_INTERRUPT_STATUS = 0x060,
    REG_INTERRUPT_ACK = 0x064,
    REG_STATUS = 0x070,
    REG_DESC_LOW = 0x080,
    REG_DESC_HIGH = 0x084,
    REG_AVAIL_LOW = 0x090,
    REG_AVAIL_HIGH = 0x094,
    REG_USED_LOW = 0x0a0,
    REG_USED_HIGH = 0x0a4,
    REG_SHARED_LENGTH_LOW = 0x0b0,
    REG_SHARED_LENGTH_HIGH = 0x0b4,
    REG_SHARED_BASE_LOW = 0x0b8,
    REG_SHARED_BASE_HIGH = 0x0bc,
    REG_GENERATION = 0x0fc,
};

struct mmio {
    struct virtio *virtio; /* borrowed */
    uint64_t gpa;
    unsigned gsi;
    struct irq_sink irq;
    struct event_sink events;
    int line_fd;           /* owned eventfd */
    bool by_fd;            /* the line is raised through line_fd */
    uint32_t doorbells_on; /* a bit for each queue whose doorbell KVM rings */
};

/* ISA lines first: a kernel without ACPI knows no others. Those of the chips and of devices that
 * PCs are probed for are left out. */
static const uint8_t gsis[VIRTIO_MMIO_WINDOWS] = {10, 11, 14, 15, 12, 7,  6,  3,
                                                  16, 17, 18, 19, 20, 21, 22, 23};

uint64_t virtio_mmio_gpa(unsigned index)
{
    return LAYOUT_VIRTIO_GPA + (uint64_t)index * LAYOUT_VIRTIO_BYTES;
}

unsigned virtio_mmio_gsi(unsigned index)
{
    return gsis[index];
}

static uint32_t read_queue(struct virtio *v, uint64_t offset)
{
    const struct virtq *q = virtio_selected(v);
    if (!q)
        return 0;
    return offset == REG_QUEUE_SIZE_MAX ? q->size_max : q->ready;
}

/* Under the lock. */
static uint32_t read_register(struct virtio *v, uint64_t offset)
{
    switch (offset) {
    case REG_MAGIC:
        return MAGIC;
    case REG_VERSION:
        return VERSION;
    case REG_DEVICE_ID:
        return v->class->id;
    case REG_VENDOR_ID:
        return VENDOR;
    case REG_DEVICE_FEATURES:
        return virtio_device_features(v);
    case REG_QUEUE_SIZE_MAX:
    case REG_QUEUE_READY:
        return read_queue(v, offset);
    case REG_INTERRUPT_STATUS:
        return v->isr;
    case REG_STATUS:
        return v->status;
    case REG_GENERATION:
        return v->generation;
    case REG_SHARED_LENGTH_LOW:
    case REG_SHARED_LENGTH_HIGH:
    case REG_SHARED_BASE_LOW:
    case REG_SHARED_BASE_HIGH:
        return NO_SUCH_MEMORY;
    default:
        return 0;
    }
}

static void put_half(uint64_t *to, bool high, uint32_t value)
{
    unsigned shift = high ? 32 : 0;
    *to = (*to & ~(0xffffffffull << shift)) | (uint64_t)value << shift;
}

/* Without effect on a queue that is ready, and once the driver said that all is set up. A size that
 * does not fit its field is kept as one that no queue can have. */
static void set_up_queue(struct virtio *v, uint64_t offset, uint32_t value)
{
    struct virtq *q = virtio_selected(v);
    bool high = offset & 4;
    if (!virtio_may_set_up(v, q))
        return;
    if (offset == REG_QUEUE_SIZE)
        q->size = value <= q->size_max ? (uint16_t)value : 0;
    else if ((offset & ~4ull) == REG_DESC_LOW)
        put_half(&q->desc_gpa, high, value);
    else if ((offset & ~4ull) == REG_AVAIL_LOW)
        put_half(&q->avail_gpa, high, value);
    else
        put_half(&q->used_gpa, high, value);
}

/* Under the lock. */
static void write_register(struct virtio *v, uint64_t offset, uint32_t value)
{
    switch (offset) {
    case REG_DEVICE_FEATURES_SELECT:
        v->device_features_select = value;
        return;
    case REG_DRIVER_FEATURES:
        virtio_set_driver_features(v, value);
        return;
    case REG_DRIVER_FEATURES_SELECT:
        v->driver_features_select = value;
        return;
    case REG_QUEUE_SELECT:
        v->queue_select = value;
        return;
    case REG_QUEUE_READY:
        virtio_set_ready(v, value & 1);
        return;
    case REG_QUEUE_NOTIFY:
        virtio_notified(v, value);
        return;
    case REG_STATUS:
        virtio_set_status(v, value);
        return;
    case REG_INTERRUPT_ACK:
        v->isr &= (uint8_t)~value;
        return;
    case REG_QUEUE_SIZE:
    case REG_DESC_LOW:
    case REG_DESC_HIGH:
    case REG_AVAIL_LOW:
    case REG_AVAIL_HIGH:
    case REG_USED_LOW:
    case REG_USED_HIGH:
        set_up_queue(v, offset, value);
        return;
    default:
        return;
    }
}

/* Registers are whole words; the device's own may be read in any width. */
static void mmio_read(void *owner, uint64_t offset, uint8_t *data, unsigned len)
{
    struct mmio *m = owner;
    struct virtio *v = m->virtio;
    memset(data, 0, len);
    pthread_mutex_lock(&v->lock);
    if (offset >= CONFIG)
        virtio_read_config(v, offset - CONFIG, data, len);
    else if (len == REG_BYTES && offset % REG_BYTES == 0)
        le_put(data, read_register(v, offset), REG_BYTES);
    pthread_mutex_unlock(&v->lock);
}

static void mmio_write(void *owner, uint64_t offset, const uint8_t *data, unsigned len)
{
    struct mmio *m = owner;
    struct virtio *v = m->virtio;
    bool word = len == REG_BYTES && offset % REG_BYTES == 0;
    pthread_mutex_lock(&v->lock);
    if (offset >= CONFIG)
        virtio_write_config(v, offset - CONFIG, data, len);
    else if (word)
        write_register(v, offset, (uint32_t)le_get(data, len));
    pthread_mutex_unlock(&v->lock);
}

static const struct bus_ops bus_ops = {.read = mmio_read, .write = mmio_write};

/* What KVM does not take, arrives as an exit and is done by hand: nothing to report. */
static void mmio_connect(void *transport)
{
    struct mmio *m = transport;
    struct err ignored;
    if (!m->events.doorbell)
        return;
    m->by_fd = m->events.line(m->events.ctx, m->gsi, m->line_fd, true, &ignored) == 0;
    for (unsigned i = 0; i < m->virtio->made; i++)
        if (m->events.doorbell(m->events.ctx, m->gpa + REG_QUEUE_NOTIFY, i,
                               m->virtio->queues[i].doorbell, true, &ignored) == 0)
            m->doorbells_on |= 1u << i;
}

static void mmio_disconnect(void *transport)
{
    struct mmio *m = transport;
    struct err ignored;
    if (m->by_fd)
        m->events.line(m->events.ctx, m->gsi, m->line_fd, false, &ignored);
    m->by_fd = false;
    for (unsigned i = 0; i < m->virtio->made; i++)
        if (m->doorbells_on & 1u << i)
            m->events.doorbell(m->events.ctx, m->gpa + REG_QUEUE_NOTIFY, i,
                               m->virtio->queues[i].doorbell, false, &ignored);
    m->doorbells_on = 0;
}

static void mmio_interrupt(void *transport, int queue)
{
    struct mmio *m = transport;
    if (m->by_fd) {
        eventfd_write(m->line_fd, 1);
        return;
    }
    m->irq.set(m->irq.ctx, m->gsi, true);
    m->irq.set(m->irq.ctx, m->gsi, false);
}

static void mmio_resume(void *transport)
{
    struct mmio *m = transport;
    if (m->virtio->isr)
        mmio_interrupt(m, -1);
}

static void mmio_free(void *transport)
{
    struct mmio *m = transport;
    close(m->line_fd);
    free(m);
}

static const struct virtio_transport_ops transport_ops = {
    .connect = mmio_connect,
    .disconnect = mmio_disconnect,
    .interrupt = mmio_interrupt,
    .resume = mmio_resume,
    .free = mmio_free,
};

int virtio_mmio_attach(struct virtio *v, const struct device_env *env, struct err *err)
{
    if (env->slot >= VIRTIO_MMIO_WINDOWS)
        return err_set(err, ENOSPC, "more than %d virtio devices", VIRTIO_MMIO_WINDOWS);
    struct mmio *m = calloc(1, sizeof(*m));
    if (!m)
        return err_set(err, ENOMEM, "no memory for a virtio window");
    *m = (struct mmio){.virtio = v,
                       .gpa = virtio_mmio_gpa(env->slot),
                       .gsi = virtio_mmio_gsi(env->slot),
                       .irq = env->irq,
                       .events = env->events};
    m->line_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (m->line_fd < 0) {
        free(m);
        return err_sys(err, errno, "cannot make an interrupt descriptor");
    }
    int rc = bus_add(env->mmio, m->gpa, LAYOUT_VIRTIO_BYTES, &bus_ops, m, err);
    if (rc < 0) {
        mmio_free(m);
        return rc;
    }
    v->transport = m;
    v->transport_ops = &transport_ops;
    return 0;
}
