/* See evil.h: virtio windows. */
#include "evil.h"

#define WINDOW_BYTES 0x1000u
#define NOWHERE 0xc0000000u /* no guest of a test has so much memory */
#define AREA 0x4000u        /* of the scratch, for each ring */
#define TRICKS 16u
#define RARELY 16u /* one in so many is a lie by which a queue cannot be used at all */

uint8_t evil_scratch[SCRATCH_BYTES] __attribute__((aligned(4096)));

static uint64_t pick(const uint64_t *from, unsigned count)
{
    return from[evil_random() % count];
}

uint64_t evil_address(void)
{
    static const uint64_t far[] = {NOWHERE,         0xd0000000,  0xd0001000, 0xfee00000,
                                   0xfffffff0,      0x100000000, 1ul << 52,  1ul << 63,
                                   0xffffffffffff0, ~0xffful,    ~15ul,      ~0ul};

    if (evil_random() % 4)
        return (uintptr_t)evil_scratch + (evil_random() % SCRATCH_BYTES & ~(evil_random() & 15));
    return pick(far, sizeof(far) / sizeof(far[0]));
}

static uint32_t number(void)
{
    static const uint64_t odd[] = {0,       1,          2,          3,         16,     17,
                                   255,     256,        257,        0x7fff,    0x8000, 0xffff,
                                   0x10000, 0x7fffffff, 0x80000000, 0xffffffff};

    return evil_random() & 1 ? (uint32_t)pick(odd, sizeof(odd) / sizeof(odd[0]))
                             : (uint32_t)evil_random();
}

/* Addresses of rings are never those of its own code: low halves lie in the scratch or nowhere. */
static uint32_t value_for(uint32_t reg)
{
    if (reg >= VM_DESC && reg < VM_USED + 8 && !(reg & 4)) {
        uint32_t low = (uint32_t)evil_address();

        return low >= (uintptr_t)evil_scratch ? low : NOWHERE;
    }
    return number();
}

void evil_register(uint64_t window)
{
    uint32_t at = (uint32_t)evil_random() % (evil_random() % 8 ? 0x140 : WINDOW_BYTES - 8);
    uintptr_t to = (uintptr_t)window + at;
    bool read = evil_random() % 4 == 0;

    switch (evil_random() % 8) {
    case 0:
        *(volatile uint8_t *)to = (uint8_t)number();
        break;
    case 1:
        *(volatile uint16_t *)to = (uint16_t)number();
        break;
    case 2:
        (void)*(volatile uint64_t *)to;
        break;
    default:
        to = (uintptr_t)window + (at & ~3u);
        if (read)
            (void)*(volatile uint32_t *)to;
        else
            *(volatile uint32_t *)to = value_for(at & ~3u);
    }
}

static void put64(uint64_t window, unsigned reg, uint64_t value)
{
    volatile uint32_t *at = (volatile uint32_t *)(uintptr_t)(window + reg);

    at[0] = (uint32_t)value;
    at[1] = (uint32_t)(value >> 32);
}

static void put(uint64_t window, unsigned reg, uint32_t value)
{
    *(volatile uint32_t *)(uintptr_t)(window + reg) = value;
}

/* Where a queue's rings lie when they are told as they should be. */
static uintptr_t area(unsigned queue, unsigned ring)
{
    return (uintptr_t)evil_scratch + ((queue % 4) * 3 + ring) * AREA;
}

static void set_up_queue(uint64_t window, unsigned queue)
{
    bool lie = evil_random() % RARELY == 0;

    put(window, VM_QUEUE_SELECT, lie ? number() : queue);
    put(window, VM_QUEUE_SIZE, evil_random() % RARELY ? 8u << evil_random() % 6 : number());
    put64(window, VM_DESC, lie ? evil_address() : area(queue, 0));
    put64(window, VM_AVAIL, evil_random() % RARELY ? area(queue, 1) : evil_address());
    put64(window, VM_USED, evil_random() % RARELY ? area(queue, 2) : evil_address());
    put(window, VM_QUEUE_READY, 1);
}

static void lie_in_desc(struct vq_desc *d, uint64_t random)
{
    static const uint32_t lengths[] = {0,   1,    12,   15,    16,         17,
                                       512, 1526, 4096, 65536, 0x7fffffff, ~0u};

    d->addr = evil_address();
    d->len = lengths[random % (sizeof(lengths) / sizeof(lengths[0]))];
    d->flags = (uint16_t)(random >> 8 & (random >> 16 & 1 ? 3 : 7));
    d->next = (uint16_t)(random >> 24 & (random >> 17 & 1 ? 7 : 0xffff));
}

/* Headers of requests: a kind that the device knows, mostly. */
static void lie_in_header(uint64_t random)
{
    static const uint32_t kinds[] = {0, 1, 4, 8, 11, 13, 0, 0x80000001};
    uint32_t *header = (uint32_t *)(uintptr_t)(evil_scratch + 12 * AREA + (random & 0xf00));

    header[0] = kinds[random >> 16 & 7];
    header[1] = (uint32_t)(random >> 20);
    header[2] = (uint32_t)(random >> 32 & 0x3ff);
    header[3] = random & 1 ? 0 : ~0u;
}

/* A request in the shape that devices know: a header, data either way, a byte for the status. */
static void ask(struct vq_desc *desc, uint64_t random)
{
    uintptr_t header = (uintptr_t)evil_scratch + 12 * AREA + (random & 0xf00);
    bool write = random >> 60 & 1;

    desc[0] = (struct vq_desc){.addr = header, .len = 16, .flags = 1, .next = 1};
    desc[1] = (struct vq_desc){.addr = (uintptr_t)evil_scratch + 13 * AREA,
                               .len = 512u << (random >> 44 & 3),
                               .flags = write ? 3 : 1,
                               .next = 2};
    desc[2] = (struct vq_desc){.addr = header + 64, .len = 1, .flags = 2};
    desc[3] = (struct vq_desc){.addr = header, .len = 100, .flags = write ? 2 : 0};
    lie_in_header(random);
}

static void lie(unsigned queue, uint64_t random)
{
    struct vq_desc *desc = (struct vq_desc *)area(queue, 0);
    volatile uint16_t *avail = (volatile uint16_t *)area(queue, 1);
    unsigned lies = random >> 50 & 3;

    ask(desc, random);
    if (lies == 3)
        for (unsigned i = 0; i < 4; i++, random = random_mix(random))
            lie_in_desc(&desc[random >> 40 & 15], random);
    avail[0] = (uint16_t)(random & 1);
    for (unsigned i = 0; i < 4; i++)
        avail[2 + (avail[1] + i) % 8] = lies == 2         ? (uint16_t)(random >> 16)
                                        : random >> i & 1 ? 3
                                                          : 0;
    avail[1] = (uint16_t)(avail[1] + (random >> 34 & 63 ? random >> 40 & 3 : random >> 40));
}

void evil_scribble(uint64_t *random)
{
    uint64_t r = random_next(random);
    struct vq_desc *desc = (struct vq_desc *)area((unsigned)r, 0);
    volatile uint16_t *avail = (volatile uint16_t *)area((unsigned)r, 1);

    if (r >> 8 & 1) {
        desc[r >> 9 & 15].len = (uint32_t)(r >> 20 & 0x1ffff);
        desc[r >> 16 & 15].flags = (uint16_t)(r >> 37 & 7);
    } else {
        avail[2 + (r >> 9 & 31)] = (uint16_t)(r >> 20 & 15);
    }
    for (unsigned i = 0; i < (r >> 40 & 0x3fff); i++)
        cpu_relax();
}

void evil_rings(uint64_t window)
{
    uint64_t features = evil_random();

    put(window, VM_STATUS, 0);
    memset(evil_scratch, 0, 12 * AREA);
    put(window, VM_STATUS, 3);
    for (unsigned half = 0; half < 2; half++) {
        uint32_t offered;

        put(window, VM_DEVICE_FEATURES_SELECT, half);
        offered = *(volatile uint32_t *)(uintptr_t)(window + VM_DEVICE_FEATURES);
        put(window, VM_DRIVER_FEATURES_SELECT, half);
        put(window, VM_DRIVER_FEATURES, half ? 1 : offered & (uint32_t)(features | features >> 32));
    }
    put(window, VM_STATUS, 0x0b);
    for (unsigned queue = 0; queue < 4; queue++)
        set_up_queue(window, queue);
    put(window, VM_STATUS, VIRTIO_OK);
    for (unsigned i = 0; i < TRICKS; i++) {
        unsigned queue = (unsigned)evil_random() % 4;

        lie(queue, evil_random());
        put(window, VM_NOTIFY, evil_random() % 8 ? queue : number());
        if (evil_random() % 4 == 0)
            evil_register(window);
    }
}
