/*
 * virtio-rng as its driver sees it: requests of every shape, many at a time; each is finished once,
 * with no byte written beyond what the device says, and what it says is random.
 *
 *   size=N        places of the queue, 64      noindirect, noevent   features left alone
 *   batch=N       requests at a time, up to 16
 */
#include "virtio.h"

#define WAIT_NS 5000000000ul
#define BATCH_MAX 16
#define ROOM 4096
#define PATTERN 0xa5
#define SEGS_MAX 4
#define RANDOM_LEAST 64 /* so many random bytes are not all the same */

struct request {
    uint8_t bytes[ROOM];
    struct vq_seg segs[SEGS_MAX];
    unsigned count;
    uint32_t total;
    bool busy;
};

const char guest_name[] = "rng";
static struct life life;
static struct virtio_dev dev;
static struct vq_rings rings;
static struct request requests[BATCH_MAX], *by_head[VQ_MAX];
static uint64_t random_state, nr_requests, nr_bytes;
static uint32_t last_crc;

/* Segments with a gap of a few bytes between them, in which the pattern must stay. */
static void lay_out(struct request *r)
{
    uint32_t at = 8;

    memset(r->bytes, PATTERN, sizeof(r->bytes));
    r->count = 1 + random_next(&random_state) % SEGS_MAX;
    r->total = 0;
    for (unsigned i = 0; i < r->count; i++) {
        uint32_t len =
            1 + random_next(&random_state) % (random_next(&random_state) % 4 ? 100 : 900);

        r->segs[i] = (struct vq_seg){.at = r->bytes + at, .len = len, .in = true};
        r->total += len;
        at += len + 8;
    }
}

static void check(struct request *r, uint32_t len)
{
    uint32_t left = len, same = 0, crc = crc32_update(0, r->bytes, sizeof(r->bytes));

    if (!len || len > r->total)
        life_error(&life, "a request of %u bytes was finished with %u", r->total, len);
    for (unsigned i = 0, at = 0; i < r->count; i++) {
        uint8_t *seg = r->segs[i].at;
        uint32_t filled = r->segs[i].len < left ? r->segs[i].len : left;

        for (; r->bytes + at < seg; at++)
            if (r->bytes[at] != PATTERN)
                life_error(&life, "a byte before segment %u was written", i);
        for (uint32_t k = filled; k < r->segs[i].len; k++)
            if (seg[k] != PATTERN)
                life_error(&life, "byte %u of segment %u was written, beyond the length", k, i);
        for (uint32_t k = 0; k < filled; k++)
            same += seg[k] == PATTERN;
        at += r->segs[i].len;
        left -= filled;
    }
    if (len >= RANDOM_LEAST && same > len / 4)
        life_error(&life, "%u of %u bytes were not written", same, len);
    if (len >= RANDOM_LEAST && crc == last_crc)
        life_error(&life, "the same random bytes twice");
    last_crc = crc;
    nr_bytes += len;
}

static unsigned submit(struct vq *q, unsigned batch)
{
    unsigned n = 0;

    for (unsigned i = 0; i < batch; i++) {
        struct request *r = &requests[i];
        int head;

        lay_out(r);
        head = vq_add(q, r->segs, r->count, random_next(&random_state) & 1);
        if (head < 0)
            break;
        by_head[head] = r;
        r->busy = true;
        n++;
    }
    vq_kick(q);
    return n;
}

static void collect(struct vq *q, unsigned n)
{
    while (n) {
        const char *wrong = vq_wait(q, WAIT_NS);
        unsigned head;
        uint32_t len;
        int got;

        if (wrong) {
            life_error(&life, "%s: %u to come, added=%u used=%u status=%x isr=%x", wrong, n,
                       q->added, q->taken, virtio_get(q->dev, VM_STATUS),
                       virtio_get(q->dev, VM_ISR));
            life_finish(&life);
        }
        while ((got = vq_take(q, &head, &len)) > 0) {
            if (!by_head[head] || !by_head[head]->busy)
                life_error(&life, "request %u was finished twice", head);
            else
                check(by_head[head], len);
            by_head[head]->busy = false;
            nr_requests++;
            n--;
        }
        if (got < 0) {
            life_error(&life, "the device gives back %u, which it does not have", head);
            life_finish(&life);
        }
    }
}

static void begin(void)
{
    uint64_t want = (cmdline_has("noindirect") ? 0 : VIRTIO_INDIRECT) |
                    (cmdline_has("noevent") ? 0 : VIRTIO_EVENT_INDEX);
    const char *wrong;

    if (!virtio_find(&dev, VIRTIO_RNG, 0)) {
        say("FAIL there is no virtio-rng");
        power_off();
    }
    wrong = virtio_begin(&dev, want);
    if (!wrong)
        wrong = virtio_add_queue(&dev, 0, &rings, (unsigned)cmdline_number("size", 64));
    if (wrong) {
        say("FAIL %s", wrong);
        power_off();
    }
    virtio_go(&dev);
}

static void print_line(uint64_t now)
{
    struct cpu *cpu = cpu_self();

    say("ms=%lu requests=%lu bytes=%lu kicks=%lu irqs=%u errors=%lu",
        (now - life.started_ns) / 1000000, nr_requests, nr_bytes, dev.queues[0].kicks,
        cpu->irqs[VECTOR_PIN + dev.pin], life.errors);
}

void guest_main(void)
{
    unsigned batch = (unsigned)cmdline_number("batch", BATCH_MAX);

    say("ready");
    irq_init();
    clock_init_cpu();
    random_state = random_seed();
    begin();
    life_begin(&life, 100);
    for (;;) {
        uint64_t now;

        collect(&dev.queues[0], submit(&dev.queues[0], 1 + random_next(&random_state) % batch));
        now = clock_ns();
        if (!life_due(&life, now))
            continue;
        if (life_inject(&life))
            life_error(&life, "injected");
        print_line(now);
        if (life_line(&life))
            life_finish(&life);
    }
}
