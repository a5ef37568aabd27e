/*
 * virtio-blk as its driver sees it: reads, writes, flushes and zeroes, many under way at once, on
 * every queue. What was written is read back whole; each request is finished once.
 *
 *   depth=N     requests under way, 16        blocks=N   of 4 KiB that are used, 1024
 *   fill        writes every block, flushes, ends; `check` reads them all back in another life;
 *   fill-stay   like fill, but lives on and leaves the disk alone
 *   ro          the disk is read-only, and must refuse every write
 *   noindirect, noevent   features left alone
 */
#include "virtio.h"

#define WAIT_NS 20000000000ul
#define DEPTH_MAX 32
#define BLOCK 4096u
#define BLOCKS_MAX 8192u
#define RUN_MAX 4u /* blocks of one request */
#define SECTORS (BLOCK / 512)
#define MAX_DATA_SEGS 8

#define F_READONLY (1ul << 5)
#define F_FLUSH (1ul << 9)
#define F_MQ (1ul << 12)
#define F_DISCARD (1ul << 13)
#define F_ZEROES (1ul << 14)

enum kind { READ = 0, WRITE = 1, FLUSH = 4, GET_ID = 8, DISCARD = 11, ZEROES = 13 };
#define UNKNOWN 0xffffffffu /* a version: discarded, anything may be read */

struct request {
    uint8_t data[RUN_MAX * BLOCK];
    struct {
        uint32_t type, reserved;
        uint64_t sector;
    } header;
    struct {
        uint64_t sector;
        uint32_t sectors, flags;
    } range;
    uint8_t status;
    bool busy;
    uint32_t block, count;
    uint32_t versions[RUN_MAX];
};

const char guest_name[] = "blk";
static struct life life;
static struct virtio_dev dev;
static struct vq_rings rings[VIRTIO_QUEUES];
static struct request requests[DEPTH_MAX], *by_head[VIRTIO_QUEUES][VQ_MAX];
static uint32_t version_of[BLOCKS_MAX], last_version;
static bool taken[BLOCKS_MAX];
static uint64_t random_state, seed, counts[16];
static uint32_t nr_blocks;
static unsigned nr_queues, depth, under_way;

static uint64_t word_at(uint32_t block, uint32_t version, unsigned i)
{
    return version ? random_mix(seed ^ (uint64_t)block << 40 ^ (uint64_t)version << 9 ^ i) : 0;
}

static void fill_block(void *to, uint32_t block, uint32_t version)
{
    uint64_t *words = to;

    for (unsigned i = 0; i < BLOCK / 8; i++)
        words[i] = word_at(block, version, i);
}

static void check_block(const void *from, uint32_t block, uint32_t version)
{
    const uint64_t *words = from;

    if (version == UNKNOWN)
        return;
    for (unsigned i = 0; i < BLOCK / 8; i++)
        if (words[i] != word_at(block, version, i)) {
            life_error(&life, "block %u version %u word %u reads %lx instead of %lx", block,
                       version, i, words[i], word_at(block, version, i));
            return;
        }
}

/* The data in pieces of odd lengths, as a file system's would not be, but may. */
static unsigned cut(struct vq_seg *segs, uint8_t *data, uint32_t bytes, bool in)
{
    unsigned n = 0;

    while (bytes) {
        uint32_t len = 1 + random_next(&random_state) % bytes;

        if (n == MAX_DATA_SEGS - 1 || random_next(&random_state) % 2)
            len = bytes;
        segs[n++] = (struct vq_seg){.at = data, .len = len, .in = in};
        data += len;
        bytes -= len;
    }
    return n;
}

static bool send(struct request *r, unsigned queue)
{
    struct vq_seg segs[VQ_SEGS] = {{&r->header, sizeof(r->header), false}};
    uint32_t type = r->header.type;
    unsigned n = 1;
    int head;

    if (type == READ || type == WRITE)
        n += cut(segs + n, r->data, r->count * BLOCK, type == READ);
    if (type == GET_ID)
        segs[n++] = (struct vq_seg){r->data, 20, true};
    if (type == DISCARD || type == ZEROES)
        segs[n++] = (struct vq_seg){&r->range, sizeof(r->range), false};
    segs[n++] = (struct vq_seg){&r->status, 1, true};
    r->status = 0xee;
    head = vq_add(&dev.queues[queue], segs, n, random_next(&random_state) & 1);
    if (head < 0)
        return false;
    r->busy = true;
    by_head[queue][head] = r;
    under_way++;
    return true;
}

static void aim(struct request *r, enum kind type, uint32_t block, uint32_t count)
{
    r->header.type = type;
    r->header.sector = type == READ || type == WRITE ? (uint64_t)block * SECTORS : 0;
    r->range.sector = (uint64_t)block * SECTORS;
    r->range.sectors = count * SECTORS;
    r->range.flags = 0;
    if (type == ZEROES)
        r->range.flags = random_next(&random_state) & 1;
    r->block = block;
    r->count = count;
    for (uint32_t i = 0; i < count; i++) {
        taken[block + i] = true;
        r->versions[i] = type == WRITE ? ++last_version : version_of[block + i];
        if (type == WRITE)
            fill_block(r->data + i * BLOCK, block + i, r->versions[i]);
        else if (type == READ)
            memset(r->data + i * BLOCK, 0xdd, BLOCK);
    }
}

static enum kind choose(void)
{
    unsigned dice = (unsigned)(random_next(&random_state) % 100);

    if (dice < 2 && dev.features & F_FLUSH)
        return FLUSH;
    if (dice < 4 && dev.features & F_DISCARD)
        return DISCARD;
    if (dice < 7 && dev.features & F_ZEROES)
        return ZEROES;
    return dice < 50 ? WRITE : READ;
}

/* A run of blocks that no other request touches; its length, 0 when there is none here. */
static uint32_t find_run(uint32_t block)
{
    uint32_t want = 1 + random_next(&random_state) % RUN_MAX, n = 0;

    while (n < want && block + n < nr_blocks && !taken[block + n])
        n++;
    return n;
}

static void release(struct request *r)
{
    for (uint32_t i = 0; i < r->count; i++)
        taken[r->block + i] = false;
    r->busy = false;
}

static void try_one(struct request *r, unsigned queue)
{
    enum kind type = choose();
    uint32_t block = (uint32_t)(random_next(&random_state) % nr_blocks);
    uint32_t count = type == FLUSH ? 0 : find_run(block);

    if (type != FLUSH && !count)
        return;
    aim(r, type, block, count);
    if (!send(r, queue))
        release(r);
}

static void judge(struct request *r, uint32_t len)
{
    uint32_t type = r->header.type;
    bool refused = (dev.offered & F_READONLY) && type == WRITE;

    counts[type]++;
    if (r->status != (refused ? 1 : 0))
        life_error(&life, "request of type %u at block %u ends with status %u", type, r->block,
                   r->status);
    if (len == 0 || (type == READ && len != r->count * BLOCK + 1))
        life_error(&life, "request of type %u is finished with length %u", type, len);
    for (uint32_t i = 0; i < r->count && r->status == 0; i++) {
        if (type == READ)
            check_block(r->data + i * BLOCK, r->block + i, r->versions[i]);
        else
            version_of[r->block + i] = type == WRITE     ? r->versions[i]
                                       : type == DISCARD ? UNKNOWN
                                                         : 0;
    }
    release(r);
}

static void die(const char *wrong, unsigned queue)
{
    struct vq *q = &dev.queues[queue];

    life_error(&life, "%s: queue %u, under way %u, added=%u used=%u status=%x isr=%x", wrong, queue,
               under_way, q->added, q->taken, virtio_get(&dev, VM_STATUS),
               virtio_get(&dev, VM_ISR));
    life_finish(&life);
}

static unsigned collect(unsigned queue)
{
    unsigned head, n = 0;
    uint32_t len;
    int got;

    while ((got = vq_take(&dev.queues[queue], &head, &len)) > 0) {
        struct request *r = by_head[queue][head];

        if (!r || !r->busy)
            die("a request is finished twice", queue);
        judge(r, len);
        under_way--;
        n++;
    }
    if (got < 0)
        die("the device gives back what it does not have", queue);
    return n;
}

/* Until nothing is under way in any queue. */
static void settle(void)
{
    for (unsigned q = 0; q < nr_queues; q++) {
        vq_kick(&dev.queues[q]);
        while (dev.queues[q].taken != dev.queues[q].added) {
            const char *wrong = vq_wait(&dev.queues[q], WAIT_NS);

            if (wrong)
                die(wrong, q);
            collect(q);
        }
    }
}

/* Fills the queues to the depth, then waits for one of them to give something back. */
static void step(void)
{
    unsigned queue = (unsigned)(random_next(&random_state) % nr_queues), done = 0;

    for (unsigned i = 0; i < depth && under_way < depth; i++)
        if (!requests[i].busy)
            try_one(&requests[i], (unsigned)(random_next(&random_state) % nr_queues));
    for (unsigned q = 0; q < nr_queues; q++)
        vq_kick(&dev.queues[q]);
    for (unsigned q = 0; q < nr_queues; q++)
        done += collect(q);
    if (!done && dev.queues[queue].taken != dev.queues[queue].added) {
        const char *wrong = vq_wait(&dev.queues[queue], WAIT_NS);

        if (wrong)
            die(wrong, queue);
        collect(queue);
    }
}

static void one(enum kind type, uint32_t block, uint32_t count)
{
    aim(&requests[0], type, block, count);
    if (!send(&requests[0], 0))
        die("there is no room in an empty queue", 0);
    settle();
}

static void check_id(void)
{
    char id[21] = "", want[21] = "";

    one(GET_ID, 0, 0);
    memcpy(id, requests[0].data, 20);
    if (cmdline_word("id", want, sizeof(want)) && !text_same(id, want))
        life_error(&life, "its id is '%s', not '%s'", id, want);
    say("id=%s", id);
}

/* Everything that a driver may not ask for is refused, and the device goes on. */
static void check_refusals(uint64_t sectors)
{
    static const struct {
        uint32_t type;
        uint64_t sector;
        uint8_t status;
    } wrong[] = {{READ, ~0ul, 1}, {WRITE, ~0ul, 1}, {READ, ~0ul >> 9, 1}, {77, 0, 2}, {2, 0, 2}};

    for (unsigned i = 0; i <= sizeof(wrong) / sizeof(wrong[0]); i++) {
        struct request *r = &requests[0];
        bool end = i == sizeof(wrong) / sizeof(wrong[0]);
        struct vq_seg segs[3] = {{&r->header, sizeof(r->header), false},
                                 {r->data, BLOCK, end || wrong[i].type != WRITE},
                                 {&r->status, 1, true}};
        unsigned head;
        uint32_t len;
        const char *bad;

        r->header.type = end ? READ : wrong[i].type;
        r->header.sector = end ? sectors - 1 : wrong[i].sector; /* its end is beyond the disk's */
        r->status = 0xee;
        vq_add(&dev.queues[0], segs, 3, i & 1);
        vq_kick(&dev.queues[0]);
        bad = vq_wait(&dev.queues[0], WAIT_NS);
        if (bad || vq_take(&dev.queues[0], &head, &len) != 1)
            die(bad ? bad : "nothing came back", 0);
        if (r->status != (end ? 1 : wrong[i].status))
            life_error(&life, "wrong request %u ends with status %u", i, r->status);
    }
}

static uint32_t config32(unsigned at)
{
    return virtio_get(&dev, VM_CONFIG + at);
}

static void begin(void)
{
    uint64_t want = F_READONLY | F_FLUSH | F_MQ | F_DISCARD | F_ZEROES |
                    (cmdline_has("noindirect") ? 0 : VIRTIO_INDIRECT) |
                    (cmdline_has("noevent") ? 0 : VIRTIO_EVENT_INDEX);
    const char *wrong = NULL;
    uint64_t sectors;

    if (!virtio_find(&dev, VIRTIO_BLK, (unsigned)cmdline_number("disk", 0)))
        wrong = "there is no such disk";
    if (!wrong)
        wrong = virtio_begin(&dev, want);
    nr_queues = !wrong && (dev.features & F_MQ) ? config32(34 & ~3u) >> 16 : 1;
    for (unsigned q = 0; !wrong && q < nr_queues; q++)
        wrong = virtio_add_queue(&dev, q, &rings[q], (unsigned)cmdline_number("size", 128));
    if (wrong) {
        say("FAIL %s", wrong);
        power_off();
    }
    virtio_go(&dev);
    sectors = config32(0) | (uint64_t)config32(4) << 32;
    nr_blocks = (uint32_t)cmdline_number("blocks", 1024);
    if (nr_blocks > sectors / SECTORS)
        nr_blocks = (uint32_t)(sectors / SECTORS);
    if (nr_blocks > BLOCKS_MAX)
        nr_blocks = BLOCKS_MAX;
    say("sectors=%lu queues=%u ro=%u", sectors, nr_queues, !!(dev.offered & F_READONLY));
    if (!(dev.offered & F_READONLY) == cmdline_has("ro"))
        life_error(&life, "the disk is not as it should be, read-only or not");
    check_id();
    check_refusals(sectors);
}

static void all_blocks(enum kind type)
{
    last_version = 0;
    for (uint32_t block = 0; block < nr_blocks; block++) {
        version_of[block] = block + 1; /* what `fill` gives it */
        one(type, block, 1);
    }
    if (type == WRITE)
        one(FLUSH, 0, 0);
    say("%s blocks=%u errors=%lu", type == WRITE ? "filled" : "checked", nr_blocks, life.errors);
}

static void print_line(uint64_t now)
{
    uint64_t kicks = 0;

    for (unsigned q = 0; q < nr_queues; q++)
        kicks += dev.queues[q].kicks;
    say("ms=%lu reads=%lu writes=%lu flushes=%lu discards=%lu zeroes=%lu kicks=%lu irqs=%u "
        "errors=%lu",
        (now - life.started_ns) / 1000000, counts[READ], counts[WRITE], counts[FLUSH],
        counts[DISCARD], counts[ZEROES], kicks, cpu_self()->irqs[VECTOR_PIN + dev.pin],
        life.errors);
}

static void run(bool idle)
{
    for (;;) {
        uint64_t now;

        if (idle)
            clock_sleep_until(clock_ns() + 1000000);
        else
            step();
        now = clock_ns();
        if (!life_due(&life, now))
            continue;
        if (life_inject(&life))
            version_of[0] = ++last_version;
        print_line(now);
        if (life_line(&life)) {
            settle();
            life_finish(&life);
        }
    }
}

void guest_main(void)
{
    say("ready");
    irq_init();
    clock_init_cpu();
    random_state = seed = random_seed();
    depth = (unsigned)cmdline_number("depth", 16);
    if (depth > DEPTH_MAX)
        depth = DEPTH_MAX;
    begin();
    if (cmdline_has("fill") || cmdline_has("fill-stay"))
        all_blocks(WRITE);
    else if (cmdline_has("check"))
        all_blocks(READ);
    else
        for (uint32_t block = 0; block < nr_blocks; block++)
            version_of[block] = cmdline_has("zeroed") ? 0 : UNKNOWN;
    life_begin(&life, 100);
    if (cmdline_has("fill") || cmdline_has("check"))
        life_finish(&life);
    run(cmdline_has("fill-stay"));
}
