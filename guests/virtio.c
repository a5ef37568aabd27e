/* See virtio.h: finding devices and setting them up. */
#include "virtio.h"

#define MAGIC 0x74726976

static const char option[] = "virtio_mmio.device=";

/* "4K@0xd0000000:5": the size does not matter. */
static bool parse_window(const char *text, uint64_t *addr, unsigned *pin)
{
    uint64_t value = 0;
    unsigned number = 0;

    while (*text && *text != '@')
        text++;
    if (memcmp(text, "@0x", 3))
        return false;
    for (text += 3; *text && *text != ':'; text++)
        value = value << 4 | (unsigned)(*text <= '9' ? *text - '0' : (*text | 0x20) - 'a' + 10);
    if (*text++ != ':')
        return false;
    for (; *text >= '0' && *text <= '9'; text++)
        number = number * 10 + (unsigned)(*text - '0');
    *addr = value;
    *pin = number;
    return true;
}

static unsigned windows_of_cmdline(uint64_t *addrs, unsigned *pins, unsigned max)
{
    unsigned n = 0;

    for (const char *at = cmdline_get(); *at && n < max; at++)
        if (!memcmp(at, option, sizeof(option) - 1) &&
            parse_window(at + sizeof(option) - 1, &addrs[n], &pins[n]))
            n++;
    return n;
}

unsigned virtio_windows(uint64_t *addrs, unsigned *pins, unsigned max)
{
    if (cmdline_has("acpi=off"))
        return windows_of_cmdline(addrs, pins, max);
    return acpi_virtio(addrs, pins, max);
}

bool virtio_find(struct virtio_dev *d, uint32_t id, unsigned nth)
{
    uint64_t addrs[VIRTIO_WINDOWS];
    unsigned pins[VIRTIO_WINDOWS], n = virtio_windows(addrs, pins, VIRTIO_WINDOWS);

    for (unsigned i = 0; i < n; i++) {
        *d = (struct virtio_dev){.base = addrs[i], .pin = pins[i], .id = id};
        if (virtio_get(d, VM_MAGIC) == MAGIC && virtio_get(d, VM_VERSION) == 2 &&
            virtio_get(d, VM_DEVICE) == id && nth-- == 0)
            return true;
    }
    return false;
}

static uint64_t read_offered(const struct virtio_dev *d)
{
    uint64_t low;

    virtio_put(d, VM_DEVICE_FEATURES_SELECT, 0);
    low = virtio_get(d, VM_DEVICE_FEATURES);
    virtio_put(d, VM_DEVICE_FEATURES_SELECT, 1);
    return low | (uint64_t)virtio_get(d, VM_DEVICE_FEATURES) << 32;
}

const char *virtio_begin(struct virtio_dev *d, uint64_t want)
{
    virtio_reset(d);
    virtio_put(d, VM_STATUS, 1);
    virtio_put(d, VM_STATUS, 3);
    d->offered = read_offered(d);
    d->features = d->offered & (want | VIRTIO_VERSION_1);
    virtio_put(d, VM_DRIVER_FEATURES_SELECT, 0);
    virtio_put(d, VM_DRIVER_FEATURES, (uint32_t)d->features);
    virtio_put(d, VM_DRIVER_FEATURES_SELECT, 1);
    virtio_put(d, VM_DRIVER_FEATURES, (uint32_t)(d->features >> 32));
    virtio_put(d, VM_STATUS, 0x0b);
    if (!(d->offered & VIRTIO_VERSION_1))
        return "the device does not offer VERSION_1";
    return virtio_get(d, VM_STATUS) == 0x0b ? NULL : "FEATURES_OK does not stick";
}

static void put_address(const struct virtio_dev *d, unsigned reg, const volatile void *at)
{
    virtio_put(d, reg, (uint32_t)(uintptr_t)at);
    virtio_put(d, reg + 4, (uint32_t)((uintptr_t)at >> 32));
}

static void init_rings(struct vq *q)
{
    memset(q->rings, 0, sizeof(*q->rings));
    for (unsigned i = 0; i < q->size; i++)
        q->rings->desc[i].next = (uint16_t)(i + 1);
    q->free_count = (uint16_t)q->size;
}

const char *virtio_add_queue(struct virtio_dev *d, unsigned index, struct vq_rings *rings,
                             unsigned size)
{
    struct vq *q = &d->queues[index];
    unsigned max;

    virtio_put(d, VM_QUEUE_SELECT, index);
    if (virtio_get(d, VM_QUEUE_READY))
        return "a queue is ready before it was set up";
    max = virtio_get(d, VM_QUEUE_SIZE_MAX);
    if (!max)
        return "there is no such queue";
    *q = (struct vq){.dev = d, .rings = rings, .index = index, .size = size < max ? size : max};
    init_rings(q);
    virtio_put(d, VM_QUEUE_SIZE, q->size);
    put_address(d, VM_DESC, rings->desc);
    put_address(d, VM_AVAIL, rings->avail);
    put_address(d, VM_USED, rings->used);
    virtio_put(d, VM_QUEUE_READY, 1);
    if (!virtio_get(d, VM_QUEUE_READY))
        return "the queue does not become ready";
    d->nqueues = index + 1;
    return NULL;
}

/* The timer wakes vq_wait now and then, to see whether an interrupt was lost. */
void virtio_go(struct virtio_dev *d)
{
    lapic_timer((uint32_t)(lapic_timer_hz() / 10), true);
    irq_route(d->pin, false, false);
    virtio_put(d, VM_STATUS, VIRTIO_OK);
}

void virtio_reset(struct virtio_dev *d)
{
    virtio_put(d, VM_STATUS, 0);
    while (virtio_get(d, VM_STATUS))
        cpu_relax();
}
