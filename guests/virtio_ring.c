/* See virtio.h: the rings. Fields are little-endian, as this CPU is. */
#include "virtio.h"

#define NEXT 1
#define WRITE 2
#define INDIRECT 4
#define NO_INTERRUPT 1
#define NO_NOTIFY 1

static volatile uint16_t *used_words(const struct vq *q)
{
    return (volatile uint16_t *)q->rings->used;
}

static bool has_event(const struct vq *q)
{
    return q->dev->features & VIRTIO_EVENT_INDEX;
}

static void fill(struct vq_desc *desc, const struct vq_seg *seg, bool more)
{
    desc->addr = (uintptr_t)seg->at;
    desc->len = seg->len;
    desc->flags = (uint16_t)((seg->in ? WRITE : 0) | (more ? NEXT : 0));
}

static unsigned add_direct(struct vq *q, const struct vq_seg *segs, unsigned count)
{
    unsigned head = q->free_head, at = head;

    for (unsigned i = 0; i < count; i++) {
        fill(&q->rings->desc[at], &segs[i], i + 1 < count);
        at = q->rings->desc[at].next;
    }
    q->free_head = (uint16_t)at;
    q->free_count = (uint16_t)(q->free_count - count);
    q->busy[head] = (uint8_t)count;
    return head;
}

static unsigned add_indirect(struct vq *q, const struct vq_seg *segs, unsigned count)
{
    unsigned head = q->free_head;
    struct vq_desc *table = q->rings->tables[head], *desc = &q->rings->desc[head];

    for (unsigned i = 0; i < count; i++) {
        fill(&table[i], &segs[i], i + 1 < count);
        table[i].next = (uint16_t)(i + 1);
    }
    q->free_head = desc->next;
    q->free_count--;
    desc->addr = (uintptr_t)table;
    desc->len = count * (uint32_t)sizeof(*table);
    desc->flags = INDIRECT;
    q->busy[head] = 1;
    return head;
}

int vq_add(struct vq *q, const struct vq_seg *segs, unsigned count, bool indirect)
{
    unsigned head;

    indirect = indirect && (q->dev->features & VIRTIO_INDIRECT);
    if (q->free_count < (indirect ? 1 : count))
        return -1;
    head = indirect ? add_indirect(q, segs, count) : add_direct(q, segs, count);
    q->rings->avail[2 + q->added % q->size] = (uint16_t)head;
    q->added++;
    return (int)head;
}

void vq_kick(struct vq *q)
{
    uint16_t before = q->kicked, event;
    bool ring;

    if (q->added == before)
        return;
    __atomic_store_n(&q->rings->avail[1], q->added, __ATOMIC_RELEASE);
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    event = used_words(q)[2 + 4 * q->size];
    if (has_event(q))
        ring = (uint16_t)(q->added - event - 1) < (uint16_t)(q->added - before);
    else
        ring = !(used_words(q)[0] & NO_NOTIFY);
    q->kicked = q->added;
    if (!ring)
        return;
    q->kicks++;
    virtio_put(q->dev, VM_NOTIFY, q->index);
}

static void give_back(struct vq *q, unsigned head)
{
    unsigned last = head;

    for (unsigned i = 1; i < q->busy[head]; i++)
        last = q->rings->desc[last].next;
    q->rings->desc[last].next = q->free_head;
    q->free_head = (uint16_t)head;
    q->free_count = (uint16_t)(q->free_count + q->busy[head]);
    q->busy[head] = 0;
}

static uint16_t used_index(const struct vq *q)
{
    return __atomic_load_n(&used_words(q)[1], __ATOMIC_ACQUIRE);
}

int vq_take(struct vq *q, unsigned *head, uint32_t *len)
{
    unsigned slot = q->taken % q->size;

    if (used_index(q) == q->taken)
        return 0;
    *head = q->rings->used[1 + 2 * slot];
    *len = q->rings->used[2 + 2 * slot];
    if (*head >= q->size || !q->busy[*head])
        return -1;
    give_back(q, *head);
    q->taken++;
    return 1;
}

bool vq_ask(struct vq *q)
{
    q->rings->avail[0] = 0;
    q->rings->avail[2 + q->size] = q->taken;
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    return used_index(q) == q->taken;
}

void vq_hush(struct vq *q)
{
    q->rings->avail[0] = NO_INTERRUPT;
}

const char *vq_wait(struct vq *q, uint64_t timeout_ns)
{
    struct cpu *cpu = cpu_self();
    volatile uint32_t *irqs = &cpu->irqs[VECTOR_PIN + q->dev->pin];
    uint64_t end = clock_ns() + timeout_ns;
    const char *wrong = NULL;

    while (vq_ask(q)) {
        uint32_t seen = *irqs;

        if (used_index(q) != q->taken)
            break;
        if (clock_ns() > end) {
            wrong = "a request is never finished";
            break;
        }
        cpu_wait(irqs, seen);
        if (*irqs != seen) {
            virtio_put(q->dev, VM_ISR_ACK, virtio_get(q->dev, VM_ISR));
        } else if (clock_ns() > end && used_index(q) != q->taken) {
            wrong = "a request was finished, but no interrupt came";
            break;
        }
    }
    vq_hush(q);
    return wrong;
}
