/*
 * virtio-blk: a disk (machine/disk.h) behind up to four queues.
 *
 *     work: pop ─► parse ─┬─► disk_queue ... disk_kick ─► ends at once or later ─► finish ─► push
 *                         └─► answered at once: wrong, or needs no disk ────────────┘
 *
 * A request that makes no sense (beyond the end, half a sector, a write to a disk that is
 * read-only) is answered by its status byte. At most REQUESTS are under way, whatever the guest
 * offers: the others wait in its queues. Before a save all of them are ended, so that none is lost
 * and none is done twice.
 */
#include "machine/devices/virtio_blk.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/le.h"
#include "machine/virtio/virtio.h"

#define REQUESTS DISK_IN_FLIGHT_MAX
#define QUEUE_SIZE 256

#define F_SIZE_MAX (1ull << 1)
#define F_SEG_MAX (1ull << 2)
#define F_READONLY (1ull << 5)
#define F_BLK_SIZE (1ull << 6)
#define F_FLUSH (1ull << 9)
#define F_QUEUES (1ull << 12)
#define F_DISCARD (1ull << 13)
#define F_ZEROES (1ull << 14)

#define SEG_BYTES_MAX (256u << 10)
#define SEGS_MAX (VIRTQ_SEGS_MAX - 2) /* beside header and status */
#define REQUEST_BYTES_MAX (64u << 20) /* SEGS_MAX of them fit */
#define RANGE_SECTORS_MAX (1u << 21)  /* of one discard: 1 GiB */

#define HEADER_BYTES 16u
#define RANGE_BYTES 16u
#define ZEROES_UNMAP 1u

enum {
    TYPE_IN = 0,
    TYPE_OUT = 1,
    TYPE_FLUSH = 4,
    TYPE_GET_ID = 8,
    TYPE_DISCARD = 11,
    TYPE_ZEROES = 13
};
enum { STATUS_OK, STATUS_IOERR, STATUS_UNSUPP };

/* The device's own registers. */
enum {
    CONFIG_CAPACITY = 0,
    CONFIG_SIZE_MAX = 8,
    CONFIG_SEG_MAX = 12,
    CONFIG_BLK_SIZE = 20,
    CONFIG_QUEUES = 34,
    CONFIG_DISCARD_SECTORS = 36,
    CONFIG_DISCARD_SEGS = 40,
    CONFIG_DISCARD_ALIGN = 44,
    CONFIG_ZEROES_SECTORS = 48,
    CONFIG_ZEROES_SEGS = 52,
    CONFIG_ZEROES_UNMAP = 56,
    CONFIG_BYTES = 60,
};

struct request {
    struct virtq_chain chain;
    struct iovec iov[VIRTQ_SEGS_MAX]; /* the data, without header and status */
    struct disk_op op;                /* the disk gives it back: see request_of */
    unsigned queue;
    struct request *next; /* while it is free */
};

struct virtio_blk {
    struct virtio virtio; /* first: see virtio_device_fini */
    struct disk disk;
    struct watch ended;
    struct request *requests[REQUESTS], *free; /* owned, made as they are needed; of these */
    unsigned made;
    uint32_t starved; /* queues that wait for a free request, a bit each */
    uint32_t touched; /* queues with something pushed that was not told yet */
    uint8_t config[CONFIG_BYTES];
    char id[VIRTIO_BLK_ID_MAX + 1];
    bool may_be_other;

    /* State: what the guest knows of its disk. */
    uint64_t sectors;
    bool readonly;
    uint64_t generation; /* of the disk, as it was at the last pause */
};

enum {
    COUNT_READS,
    COUNT_WRITES,
    COUNT_FLUSHES,
    COUNT_DISCARDS,
    COUNT_ZEROES,
    COUNT_READ_BYTES,
    COUNT_WRITTEN_BYTES,
    COUNT_FAILED,  /* by the host */
    COUNT_REFUSED, /* the request made no sense */
};
static const char *const counters[] = {
    [COUNT_READS] = "reads",
    [COUNT_WRITES] = "writes",
    [COUNT_FLUSHES] = "flushes",
    [COUNT_DISCARDS] = "discards",
    [COUNT_ZEROES] = "write_zeroes",
    [COUNT_READ_BYTES] = "read_bytes",
    [COUNT_WRITTEN_BYTES] = "written_bytes",
    [COUNT_FAILED] = "failed",
    [COUNT_REFUSED] = "refused",
};

// clang-format off
static const struct field virtio_blk_fields[] = {
    FIELD_STRUCT(1, struct virtio_blk, virtio, virtio_fields),
    FIELD(2, struct virtio_blk, sectors),
    FIELD(3, struct virtio_blk, readonly),
    FIELD(4, struct virtio_blk, generation),
    FIELD_END,
};
// clang-format on

static void give_free(struct virtio_blk *b, struct request *r)
{
    r->next = b->free;
    b->free = r;
}

/* The first is made at init: so when there is none, one is under way, and its end comes. */
static bool make_request(struct virtio_blk *b)
{
    struct request *r = b->made < REQUESTS ? malloc(sizeof(*r)) : NULL;
    if (!r)
        return false;
    b->requests[b->made++] = r;
    give_free(b, r);
    return true;
}

static struct request *take_free(struct virtio_blk *b)
{
    if (!b->free && !make_request(b))
        return NULL;
    struct request *r = b->free;
    b->free = r->next;
    return r;
}

/* The last byte of what the driver wants filled is the status. */
static void finish(struct virtio_blk *b, struct request *r, uint8_t status)
{
    struct virtq_chain *c = &r->chain;
    virtq_write(c, c->in_bytes - 1, &status, 1);
    virtio_push(&b->virtio, r->queue, c, c->in_bytes);
    b->touched |= 1u << r->queue;
    give_free(b, r);
}

static void refuse(struct virtio_blk *b, struct request *r, uint8_t status)
{
    virtio_count(&b->virtio, COUNT_REFUSED, 1);
    finish(b, r, status);
}

/* The bytes [skip, skip + bytes) of some buffers, as buffers. */
static unsigned slice(const struct iovec *from, unsigned count, uint64_t skip, uint64_t bytes,
                      struct iovec *to)
{
    unsigned n = 0;
    for (unsigned i = 0; i < count && bytes; i++) {
        uint64_t len = from[i].iov_len;
        if (skip >= len) {
            skip -= len;
            continue;
        }
        uint64_t part = len - skip < bytes ? len - skip : bytes;
        to[n++] = (struct iovec){.iov_base = (uint8_t *)from[i].iov_base + skip, .iov_len = part};
        bytes -= part;
        skip = 0;
    }
    return n;
}

static bool within(const struct virtio_blk *b, uint64_t sector, uint64_t bytes)
{
    uint64_t end = b->disk.bytes / DISK_SECTOR;
    return bytes && bytes % DISK_SECTOR == 0 && bytes <= REQUEST_BYTES_MAX && sector <= end &&
           bytes / DISK_SECTOR <= end - sector;
}

static void transfer(struct virtio_blk *b, struct request *r, enum disk_kind kind, uint64_t sector)
{
    const struct virtq_chain *c = &r->chain;
    bool read = kind == DISK_READ;
    uint64_t bytes = read ? c->in_bytes - 1 : c->out_bytes - HEADER_BYTES;
    if (!within(b, sector, bytes) || (!read && b->readonly)) {
        refuse(b, r, STATUS_IOERR);
        return;
    }
    r->op = (struct disk_op){.kind = kind, .at = sector * DISK_SECTOR, .bytes = bytes};
    r->op.iov = r->iov;
    r->op.niov = read ? slice(c->iov + c->nout, c->nin, 0, bytes, r->iov)
                      : slice(c->iov, c->nout, HEADER_BYTES, bytes, r->iov);
    virtio_count(&b->virtio, read ? COUNT_READS : COUNT_WRITES, 1);
    virtio_count(&b->virtio, read ? COUNT_READ_BYTES : COUNT_WRITTEN_BYTES, bytes);
    disk_queue(&b->disk, &r->op);
}

/* One range, as the registers say. */
static void clear_range(struct virtio_blk *b, struct request *r, enum disk_kind kind)
{
    uint8_t raw[RANGE_BYTES] = {0};
    uint64_t got = virtq_read(&r->chain, HEADER_BYTES, raw, sizeof(raw));
    uint64_t sector = le_get(raw, 8), sectors = le_get(raw + 8, 4);
    uint32_t flags = (uint32_t)le_get(raw + 12, 4), known = kind == DISK_ZEROES ? ZEROES_UNMAP : 0;
    uint64_t end = b->disk.bytes / DISK_SECTOR;
    bool one = got == sizeof(raw) && r->chain.out_bytes == HEADER_BYTES + RANGE_BYTES;
    if (one && (flags & ~known)) {
        refuse(b, r, STATUS_UNSUPP);
        return;
    }
    if (!one || b->readonly || sectors == 0 || sectors > RANGE_SECTORS_MAX || sector > end ||
        sectors > end - sector) {
        refuse(b, r, STATUS_IOERR);
        return;
    }
    r->op = (struct disk_op){.kind = kind,
                             .at = sector * DISK_SECTOR,
                             .bytes = sectors * DISK_SECTOR,
                             .keep = !(flags & ZEROES_UNMAP)};
    virtio_count(&b->virtio, kind == DISK_ZEROES ? COUNT_ZEROES : COUNT_DISCARDS, 1);
    disk_queue(&b->disk, &r->op);
}

static void flush(struct virtio_blk *b, struct request *r)
{
    r->op = (struct disk_op){.kind = DISK_FLUSH};
    virtio_count(&b->virtio, COUNT_FLUSHES, 1);
    disk_queue(&b->disk, &r->op);
}

static void get_id(struct virtio_blk *b, struct request *r)
{
    uint64_t room = r->chain.in_bytes - 1;
    virtq_write(&r->chain, 0, b->id, room < VIRTIO_BLK_ID_MAX ? room : VIRTIO_BLK_ID_MAX);
    finish(b, r, STATUS_OK);
}

/* The header is read once: the guest may change it at any time. */
static void begin(struct virtio_blk *b, struct request *r)
{
    uint8_t raw[HEADER_BYTES];
    if (virtq_read(&r->chain, 0, raw, sizeof(raw)) < sizeof(raw)) {
        refuse(b, r, STATUS_IOERR);
        return;
    }
    uint64_t sector = le_get(raw + 8, 8);
    switch (le_get(raw, 4)) {
    case TYPE_IN:
        transfer(b, r, DISK_READ, sector);
        return;
    case TYPE_OUT:
        transfer(b, r, DISK_WRITE, sector);
        return;
    case TYPE_FLUSH:
        flush(b, r);
        return;
    case TYPE_GET_ID:
        get_id(b, r);
        return;
    case TYPE_DISCARD:
        clear_range(b, r, DISK_DISCARD);
        return;
    case TYPE_ZEROES:
        clear_range(b, r, DISK_ZEROES);
        return;
    default:
        refuse(b, r, STATUS_UNSUPP);
    }
}

static struct request *request_of(struct disk_op *op)
{
    return (struct request *)((uint8_t *)op - offsetof(struct request, op));
}

static void tell(struct virtio_blk *b)
{
    for (unsigned q = 0; b->touched; q++, b->touched >>= 1)
        if (b->touched & 1)
            virtio_tell(&b->virtio, q);
}

/* Ends what has ended; queues that had to wait have their turn again. */
static void collect(struct virtio_blk *b, bool wait)
{
    struct disk_op *op;
    while ((op = disk_reap(&b->disk, wait))) {
        if (op->result < 0)
            virtio_count(&b->virtio, COUNT_FAILED, 1);
        finish(b, request_of(op), op->result < 0 ? STATUS_IOERR : STATUS_OK);
    }
    tell(b);
    for (unsigned q = 0; b->free && b->starved; q++, b->starved >>= 1)
        if (b->starved & 1)
            virtio_ring(&b->virtio, q);
}

/* false: there is none, or no room for one. */
static bool next(struct virtio_blk *b, unsigned queue)
{
    struct request *r = take_free(b);
    if (!r) {
        b->starved |= 1u << queue;
        return false;
    }
    r->queue = queue;
    if (!virtio_pop(&b->virtio, queue, &r->chain)) {
        give_free(b, r);
        return false;
    }
    if (r->chain.nin == 0) {
        struct err err;
        err_set(&err, EBADMSG, "queue %u: a request without a place for its status", queue);
        virtio_break(&b->virtio, &err);
        give_free(b, r);
        return false;
    }
    begin(b, r);
    return true;
}

static bool virtio_blk_work(void *dev, unsigned queue)
{
    struct virtio_blk *b = dev;
    unsigned n = 0;
    while (n < VIRTIO_TURN && next(b, queue))
        n++;
    disk_kick(&b->disk);
    collect(b, false);
    return n == VIRTIO_TURN;
}

/* [io] */
static void on_ended(void *owner)
{
    struct virtio_blk *b = owner;
    pthread_mutex_lock(&b->virtio.lock);
    collect(b, false);
    pthread_mutex_unlock(&b->virtio.lock);
}

static void virtio_blk_drain(void *dev)
{
    collect(dev, true);
}

static const struct virtio_class virtio_blk_class = {
    .name = "virtio-blk",
    .id = VIRTIO_ID_BLOCK,
    .queue_size = QUEUE_SIZE,
    .counters = counters,
    .ncounters = sizeof(counters) / sizeof(counters[0]),
    .work = virtio_blk_work,
    .stop = virtio_blk_drain,
    .drain = virtio_blk_drain,
};

static void fill_config(struct virtio_blk *b, unsigned queues)
{
    le_put(b->config + CONFIG_CAPACITY, b->sectors, 8);
    le_put(b->config + CONFIG_SIZE_MAX, SEG_BYTES_MAX, 4);
    le_put(b->config + CONFIG_SEG_MAX, SEGS_MAX, 4);
    le_put(b->config + CONFIG_BLK_SIZE, DISK_SECTOR, 4);
    le_put(b->config + CONFIG_QUEUES, queues, 2);
    le_put(b->config + CONFIG_DISCARD_SECTORS, RANGE_SECTORS_MAX, 4);
    le_put(b->config + CONFIG_DISCARD_SEGS, 1, 4);
    le_put(b->config + CONFIG_DISCARD_ALIGN, 1, 4);
    le_put(b->config + CONFIG_ZEROES_SECTORS, RANGE_SECTORS_MAX, 4);
    le_put(b->config + CONFIG_ZEROES_SEGS, 1, 4);
    b->config[CONFIG_ZEROES_UNMAP] = 1;
}

static void free_requests(struct virtio_blk *b)
{
    while (b->made > 0)
        free(b->requests[--b->made]);
}

static uint64_t features(const struct virtio_blk_config *c)
{
    return F_SIZE_MAX | F_SEG_MAX | F_BLK_SIZE | F_FLUSH | (c->queues > 1 ? F_QUEUES : 0) |
           (c->readonly ? F_READONLY : F_DISCARD | F_ZEROES);
}

static int virtio_blk_init(void *dev, const struct device_env *env, struct err *err)
{
    struct virtio_blk *b = dev;
    const struct virtio_blk_config *c = env->config;
    int rc = disk_init(&b->disk, c->fd, c->engine, err);
    if (rc < 0)
        return rc;
    b->sectors = b->disk.bytes / DISK_SECTOR;
    b->readonly = c->readonly;
    b->may_be_other = c->may_be_other;
    b->generation = disk_generation(&b->disk);
    memcpy(b->id, c->id, sizeof(b->id));
    fill_config(b, c->queues);
    struct virtio_setup setup = {.class = &virtio_blk_class,
                                 .dev = b,
                                 .features = features(c),
                                 .queues = c->queues,
                                 .config = b->config,
                                 .config_bytes = sizeof(b->config)};
    if (!make_request(b))
        rc = err_set(err, ENOMEM, "no memory for a request");
    if (rc == 0)
        rc = virtio_init(&b->virtio, &setup, env, err);
    if (rc == 0) {
        rc = watch_add(&b->ended, env->watches, b->disk.event_fd, on_ended, b, err);
        if (rc < 0)
            virtio_fini(&b->virtio);
    }
    if (rc < 0) {
        disk_fini(&b->disk);
        free_requests(b);
    }
    return rc;
}

static void virtio_blk_fini(void *dev)
{
    struct virtio_blk *b = dev;
    watch_remove(&b->ended);
    virtio_fini(&b->virtio);
    disk_fini(&b->disk);
    free_requests(b);
}

static void virtio_blk_quiesce(void *dev)
{
    struct virtio_blk *b = dev;
    virtio_device_quiesce(dev);
    b->generation = disk_generation(&b->disk);
}

/* The guest goes on with the disk that it knows: what it remembers of a disk that somebody has
 * written since would destroy it. Unless he who restores it says that he knows better. */
static int virtio_blk_post_load(void *object, struct err *err)
{
    struct virtio_blk *b = object;
    bool readonly = b->virtio.offered & F_READONLY;
    if (b->sectors != b->disk.bytes / DISK_SECTOR)
        return err_set(err, EBADMSG,
                       "virtio-blk: the saved guest knows its disk '%s' with %" PRIu64
                       " sectors, and it has %" PRIu64,
                       b->id, b->sectors, b->disk.bytes / DISK_SECTOR);
    if (b->readonly != readonly)
        return err_set(err, EBADMSG,
                       "virtio-blk: the saved guest knows its disk '%s' as %s, and it is %s", b->id,
                       b->readonly ? "read-only" : "writable", readonly ? "read-only" : "writable");
    if (!b->may_be_other && b->generation != disk_generation(&b->disk))
        return err_set(
            err, EBADMSG,
            "virtio-blk: disk '%s' was written after this guest was saved; give the disk of "
            "that moment with --disk, or --force to use it as it is",
            b->id);
    b->generation = disk_generation(&b->disk);
    return virtio_post_load(&b->virtio, err);
}

static const struct state_desc virtio_blk_state = {
    .name = "virtio-blk",
    .version = 1,
    .min_version = 1,
    .fields = virtio_blk_fields,
    .post_load = virtio_blk_post_load,
};

const struct device_type virtio_blk_type = {
    .name = "virtio-blk",
    .size = sizeof(struct virtio_blk),
    .state = &virtio_blk_state,
    .init = virtio_blk_init,
    .fini = virtio_blk_fini,
    .quiesce = virtio_blk_quiesce,
    .resume = virtio_device_resume,
    .reset = virtio_device_reset,
};
