/*
 * See queue.h. The rings, little-endian, of `size` elements:
 *
 *     descriptors    u64 address | u32 length | u16 flags | u16 next      for each
 *     available      u16 flags | u16 index | u16 heads[size] | u16 used_event
 *     used           u16 flags | u16 index | {u32 head, u32 length}[size] | u16 avail_event
 */
#include "machine/virtio/queue.h"

#include <errno.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <string.h>

#include "base/le.h"

#define DESC_BYTES 16u
#define DESC_NEXT 1u
#define DESC_WRITE 2u
#define DESC_INDIRECT 4u

#define RING_INDEX 2u
#define RING_ELEMENTS 4u
#define AVAIL_BYTES 2u
#define USED_BYTES 8u
#define NO_INTERRUPT 1u /* of the available ring's flags */
#define NO_NOTIFY 1u    /* of the used ring's flags */

// clang-format off
const struct field virtq_fields[] = {
    FIELD(1, struct virtq, size),
    FIELD(2, struct virtq, ready),
    FIELD(3, struct virtq, desc_gpa),
    FIELD(4, struct virtq, avail_gpa),
    FIELD(5, struct virtq, used_gpa),
    FIELD(6, struct virtq, next_avail),
    FIELD(7, struct virtq, next_used),
    FIELD_END,
};
// clang-format on

struct desc {
    uint64_t gpa;
    uint32_t len;
    uint16_t flags, next;
};

/* A table of descriptors: the queue's own, or one that a descriptor points to. */
struct table {
    const uint8_t *at;
    uint32_t count;
    bool indirect;
};

/* The rings are shared with running vCPUs: each index is one access, in order with what it
 * announces. The rings are aligned (virtq_enable), and this host is little-endian as the guest. */
static uint16_t ring_get(const uint8_t *at)
{
    return __atomic_load_n((const uint16_t *)(const void *)at, __ATOMIC_ACQUIRE);
}

static void ring_put(uint8_t *at, uint16_t value)
{
    __atomic_store_n((uint16_t *)(void *)at, value, __ATOMIC_RELEASE);
}

static uint64_t desc_bytes(const struct virtq *q)
{
    return (uint64_t)DESC_BYTES * q->size;
}

/* With the event field behind the elements, whether it is negotiated or not. */
static uint64_t avail_bytes(const struct virtq *q)
{
    return RING_ELEMENTS + (uint64_t)AVAIL_BYTES * q->size + 2;
}

static uint64_t used_bytes(const struct virtq *q)
{
    return RING_ELEMENTS + (uint64_t)USED_BYTES * q->size + 2;
}

static const uint8_t *used_event(const struct virtq *q)
{
    return q->avail + avail_bytes(q) - 2;
}

static uint8_t *avail_event(const struct virtq *q)
{
    return q->used + used_bytes(q) - 2;
}

void virtq_init(struct virtq *q, struct mem *mem, uint16_t size_max)
{
    *q = (struct virtq){.mem = mem, .size_max = size_max};
    virtq_reset(q);
}

void virtq_reset(struct virtq *q)
{
    *q = (struct virtq){.mem = q->mem, .size_max = q->size_max, .size = q->size_max};
}

static uint8_t *map_ring(const struct virtq *q, const char *name, uint64_t gpa, uint64_t bytes,
                         uint64_t align, struct err *err)
{
    if (gpa % align) {
        err_set(err, EINVAL, "%s at 0x%" PRIx64 " is not aligned to %" PRIu64, name, gpa, align);
        return NULL;
    }
    uint8_t *at = mem_borrow(q->mem, gpa, bytes, false, err);
    if (!at)
        err_wrap(err, "%s", name);
    return at;
}

static bool overlap(uint64_t a, uint64_t a_bytes, uint64_t b, uint64_t b_bytes)
{
    return a < b + b_bytes && b < a + a_bytes;
}

static int map_rings(struct virtq *q, struct err *err)
{
    uint64_t desc = desc_bytes(q), avail = avail_bytes(q), used = used_bytes(q);
    q->desc = map_ring(q, "descriptor table", q->desc_gpa, desc, DESC_BYTES, err);
    if (q->desc)
        q->avail = map_ring(q, "available ring", q->avail_gpa, avail, 2, err);
    if (q->desc && q->avail)
        q->used = map_ring(q, "used ring", q->used_gpa, used, 4, err);
    if (!q->desc || !q->avail || !q->used)
        return -err->code;
    /* All three lie in RAM, so no sum wraps. */
    if (overlap(q->desc_gpa, desc, q->avail_gpa, avail) ||
        overlap(q->desc_gpa, desc, q->used_gpa, used) ||
        overlap(q->avail_gpa, avail, q->used_gpa, used))
        return err_set(err, EINVAL, "the rings overlap");
    return 0;
}

int virtq_enable(struct virtq *q, struct err *err)
{
    q->desc = q->avail = q->used = NULL;
    q->ready = q->told = false;
    if (q->size == 0 || q->size > q->size_max || (q->size & (q->size - 1)))
        return err_set(err, EINVAL, "size %u is not a power of two up to %u", q->size, q->size_max);
    int rc = map_rings(q, err);
    q->ready = rc == 0;
    return rc;
}

static struct desc read_desc(const struct table *t, uint32_t index)
{
    uint8_t raw[DESC_BYTES];
    memcpy(raw, t->at + (size_t)index * DESC_BYTES, sizeof(raw));
    return (struct desc){.gpa = le_get(raw, 8),
                         .len = (uint32_t)le_get(raw + 8, 4),
                         .flags = (uint16_t)le_get(raw + 12, 2),
                         .next = (uint16_t)le_get(raw + 14, 2)};
}

static int enter_indirect(const struct virtq *q, const struct desc *d, struct table *t,
                          struct err *err)
{
    if (!q->indirect)
        return err_set(err, EBADMSG, "an indirect descriptor, which was not negotiated");
    if (t->indirect)
        return err_set(err, EBADMSG, "an indirect descriptor within an indirect table");
    if (d->flags & DESC_NEXT)
        return err_set(err, EBADMSG, "an indirect descriptor that has a next one");
    if (d->len == 0 || d->len % DESC_BYTES || d->len / DESC_BYTES > VIRTQ_SEGS_MAX)
        return err_set(err, EBADMSG, "an indirect table of %" PRIu32 " bytes", d->len);
    const uint8_t *at = mem_borrow(q->mem, d->gpa, d->len, false, err);
    if (!at)
        return err_wrap(err, "indirect table");
    *t = (struct table){.at = at, .count = d->len / DESC_BYTES, .indirect = true};
    return 0;
}

static int add_segment(const struct virtq *q, const struct desc *d, struct virtq_chain *c,
                       struct err *err)
{
    unsigned n = c->nout + c->nin;
    bool in = d->flags & DESC_WRITE;
    if (n == VIRTQ_SEGS_MAX)
        return err_set(err, EBADMSG, "a chain of more than %d buffers", VIRTQ_SEGS_MAX);
    if (d->len == 0)
        return err_set(err, EBADMSG, "a buffer of 0 bytes");
    if (!in && c->nin)
        return err_set(err, EBADMSG, "a readable buffer behind a writable one");
    void *at = mem_borrow(q->mem, d->gpa, d->len, false, err);
    if (!at)
        return err_wrap(err, "buffer");
    c->iov[n] = (struct iovec){.iov_base = at, .iov_len = d->len};
    c->gpa[n] = d->gpa;
    *(in ? &c->nin : &c->nout) += 1;
    *(in ? &c->in_bytes : &c->out_bytes) += d->len;
    return 0;
}

/* A table has no more descriptors than it has places: more steps than that are a loop. */
static int walk(const struct virtq *q, struct virtq_chain *c, struct err *err)
{
    struct table t = {.at = q->desc, .count = q->size};
    uint32_t index = c->head;
    for (uint32_t steps = 0;; steps++) {
        if (index >= t.count)
            return err_set(err, EBADMSG, "descriptor %" PRIu32 " of %" PRIu32, index, t.count);
        if (steps == t.count)
            return err_set(err, EBADMSG, "a chain that is a loop");
        struct desc d = read_desc(&t, index);
        int rc =
            d.flags & DESC_INDIRECT ? enter_indirect(q, &d, &t, err) : add_segment(q, &d, c, err);
        if (rc < 0)
            return rc;
        if (d.flags & DESC_INDIRECT) {
            index = 0;
            steps = UINT32_MAX; /* the first step in this table is number 0 */
        } else if (d.flags & DESC_NEXT) {
            index = d.next;
        } else {
            return 0;
        }
    }
}

int virtq_pop(struct virtq *q, struct virtq_chain *chain, struct err *err)
{
    uint16_t waiting = (uint16_t)(ring_get(q->avail + RING_INDEX) - q->next_avail);
    if (waiting == 0)
        return 0;
    if (waiting > q->size)
        return err_set(err, EBADMSG,
                       "the available index is %u ahead, more than the %u of the queue", waiting,
                       q->size);
    size_t slot = q->next_avail & (q->size - 1u);
    chain->head = ring_get(q->avail + RING_ELEMENTS + AVAIL_BYTES * slot);
    chain->nout = chain->nin = 0;
    chain->out_bytes = chain->in_bytes = 0;
    int rc = walk(q, chain, err);
    if (rc < 0)
        return rc;
    q->next_avail++;
    return 1;
}

void virtq_unpop(struct virtq *q, uint16_t count)
{
    q->next_avail = (uint16_t)(q->next_avail - count);
}

static void mark_written(const struct virtq *q, const struct virtq_chain *c, uint64_t written)
{
    for (unsigned i = c->nout; written && i < c->nout + c->nin; i++) {
        uint64_t part = c->iov[i].iov_len < written ? c->iov[i].iov_len : written;
        mem_mark_written(q->mem, c->gpa[i], part);
        written -= part;
    }
}

/* The marks come after the writes: a harvest between the two must not lose a page. */
void virtq_fill(struct virtq *q, uint16_t place, const struct virtq_chain *chain, uint64_t written)
{
    uint64_t slot = (uint16_t)(q->next_used + place) & (q->size - 1u);
    uint64_t at = RING_ELEMENTS + USED_BYTES * slot;
    mark_written(q, chain, written);
    le_put(q->used + at, chain->head, 4);
    le_put(q->used + at + 4, written, 4);
    mem_mark_written(q->mem, q->used_gpa + at, USED_BYTES);
}

void virtq_publish(struct virtq *q, uint16_t count)
{
    q->next_used = (uint16_t)(q->next_used + count);
    ring_put(q->used + RING_INDEX, q->next_used);
    mem_mark_written(q->mem, q->used_gpa, RING_ELEMENTS);
}

void virtq_push(struct virtq *q, const struct virtq_chain *chain, uint64_t written)
{
    virtq_fill(q, 0, chain, written);
    virtq_publish(q, 1);
}

/* Behind the store of the used index, before the load of what the driver wants of it: else both
 * sides may miss each other. */
bool virtq_wants_interrupt(struct virtq *q)
{
    uint16_t then = q->told_used, now = q->next_used;
    bool told = q->told;
    atomic_thread_fence(memory_order_seq_cst);
    if (!q->event_index)
        return !(ring_get(q->avail) & NO_INTERRUPT);
    uint16_t event = ring_get(used_event(q));
    q->told_used = now;
    q->told = true;
    return !told || (uint16_t)(now - event - 1) < (uint16_t)(now - then);
}

static void put_and_mark(struct virtq *q, uint8_t *at, uint16_t value)
{
    ring_put(at, value);
    mem_mark_written(q->mem, q->used_gpa + (uint64_t)(at - q->used), 2);
}

/* With the event index the driver is silent anyway until it passes the index it was told. */
void virtq_busy(struct virtq *q)
{
    if (!q->event_index)
        put_and_mark(q, q->used, NO_NOTIFY);
}

bool virtq_rest(struct virtq *q)
{
    if (q->event_index)
        put_and_mark(q, avail_event(q), q->next_avail);
    else
        put_and_mark(q, q->used, 0);
    atomic_thread_fence(memory_order_seq_cst);
    return ring_get(q->avail + RING_INDEX) != q->next_avail;
}

/* Copies to `to` (or from `from`) what lies in iov[first..end) behind `at`. */
static uint64_t copy(const struct virtq_chain *c, unsigned first, unsigned end, uint64_t at,
                     uint8_t *to, const uint8_t *from, uint64_t len)
{
    uint64_t done = 0;
    for (unsigned i = first; i < end && done < len; i++) {
        uint64_t have = c->iov[i].iov_len;
        if (at >= have) {
            at -= have;
            continue;
        }
        uint64_t part = have - at < len - done ? have - at : len - done;
        uint8_t *guest = (uint8_t *)c->iov[i].iov_base + at;
        if (to)
            memcpy(to + done, guest, part);
        else
            memcpy(guest, from + done, part);
        done += part;
        at = 0;
    }
    return done;
}

uint64_t virtq_read(const struct virtq_chain *chain, uint64_t at, void *to, uint64_t len)
{
    return copy(chain, 0, chain->nout, at, to, NULL, len);
}

uint64_t virtq_write(const struct virtq_chain *chain, uint64_t at, const void *from, uint64_t len)
{
    return copy(chain, chain->nout, chain->nout + chain->nin, at, NULL, from, len);
}
