/* See inbound.h. */
#include "migrate/inbound.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/crc32c.h"
#include "vmstate/pages.h"

#define FRAME_BYTES ((size_t)WIRE_PAGES_MAX * WIRE_PAGE)

int suspects_init(struct suspects *s, uint64_t ram_bytes, struct err *err)
{
    s->count = s->arrived = 0;
    pthread_mutex_init(&s->lock, NULL);
    return bitmap_init(&s->pages, ram_bytes / WIRE_PAGE, err);
}

void suspects_fini(struct suspects *s)
{
    bitmap_fini(&s->pages);
    pthread_mutex_destroy(&s->lock);
}

int suspects_check(struct suspects *s, struct err *err)
{
    int rc = 0;
    pthread_mutex_lock(&s->lock);
    if (s->count)
        rc = err_set(err, EBADMSG, "%llu pages arrived damaged, the first at 0x%llx",
                     (unsigned long long)s->count,
                     (unsigned long long)bitmap_next(&s->pages, 0) * WIRE_PAGE);
    pthread_mutex_unlock(&s->lock);
    return rc;
}

/* Locked. */
static void judge(struct suspects *s, uint64_t page, bool fits)
{
    bool was = bitmap_test(&s->pages, page);
    if (fits == !was)
        return;
    if (fits) {
        uint64_t bits = bitmap_take_word(&s->pages, page / 64);
        bitmap_or_word(&s->pages, page / 64, bits & ~(1ull << page % 64));
        s->count--;
    } else {
        bitmap_set(&s->pages, page);
        s->count++;
    }
}

void inbound_init(struct inbound *in, struct channel *channel, struct suspects *suspects,
                  uint8_t *ram, uint64_t ram_bytes)
{
    in->channel = channel;
    in->suspects = suspects;
    in->ram = ram;
    in->ram_bytes = ram_bytes;
    in->unpacker.context = NULL;
    in->packed = in->unpacked = NULL;
}

void inbound_fini(struct inbound *in)
{
    unpacker_fini(&in->unpacker);
    free(in->packed);
    free(in->unpacked);
}

static void judge_pages(struct inbound *in, unsigned nruns)
{
    bool fits[WIRE_PAGES_MAX];
    unsigned n = 0;
    for (unsigned i = 0; i < nruns; i++)
        for (uint32_t p = 0; p < in->runs[i].pages; p++, n++)
            fits[n] = crc32c(0, in->ram + in->runs[i].offset + (uint64_t)p * WIRE_PAGE,
                             WIRE_PAGE) == in->crcs[n];
    pthread_mutex_lock(&in->suspects->lock);
    in->suspects->arrived += n;
    n = 0;
    for (unsigned i = 0; i < nruns; i++)
        for (uint32_t p = 0; p < in->runs[i].pages; p++)
            judge(in->suspects, in->runs[i].offset / WIRE_PAGE + p, fits[n++]);
    pthread_mutex_unlock(&in->suspects->lock);
}

int inbound_pages(struct inbound *in, const struct wire_head *h, struct err *err)
{
    struct iovec iov[WIRE_RUNS_MAX];
    int runs = wire_runs_get(h, in->channel->meta, in->ram_bytes, in->runs, in->crcs, err);
    if (runs < 0)
        return runs;
    for (int i = 0; i < runs; i++)
        iov[i] =
            (struct iovec){in->ram + in->runs[i].offset, in->runs[i].pages * (size_t)WIRE_PAGE};
    int rc = channel_read_data(in->channel, iov, (unsigned)runs, err);
    if (rc == 0)
        judge_pages(in, (unsigned)runs);
    return rc;
}

static int make_room(struct inbound *in, struct err *err)
{
    if (in->unpacked)
        return 0;
    in->packed = malloc(FRAME_BYTES);
    in->unpacked = malloc(FRAME_BYTES);
    return in->packed && in->unpacked ? unpacker_init(&in->unpacker, err)
                                      : err_set(err, ENOMEM, "no memory to unpack with");
}

/* Into a room of its own first: unpacking reads what it has written, and guest memory is for
 * others, too. The frame says nothing that its head has not been checked for. */
static int unpack(struct inbound *in, const struct wire_head *h, unsigned nruns, struct err *err)
{
    size_t bytes = 0, at = 0;
    for (unsigned i = 0; i < nruns; i++)
        bytes += in->runs[i].pages * (size_t)WIRE_PAGE;
    int rc =
        unpacker_unpack(&in->unpacker, in->packed, (size_t)h->data_bytes, in->unpacked, bytes, err);
    for (unsigned i = 0; rc == 0 && i < nruns; i++) {
        size_t step = in->runs[i].pages * (size_t)WIRE_PAGE;
        memcpy(in->ram + in->runs[i].offset, in->unpacked + at, step);
        at += step;
    }
    return rc;
}

int inbound_packed(struct inbound *in, const struct wire_head *h, struct err *err)
{
    int runs = wire_runs_get(h, in->channel->meta, in->ram_bytes, in->runs, in->crcs, err);
    int rc = runs < 0 ? runs : make_room(in, err);
    if (rc < 0)
        return rc;
    struct iovec iov = {in->packed, (size_t)h->data_bytes};
    rc = channel_read_data(in->channel, &iov, 1, err);
    if (rc == 0)
        rc = unpack(in, h, (unsigned)runs, err);
    if (rc == 0)
        judge_pages(in, (unsigned)runs);
    return rc;
}

/* What is zero already is not written: memory that was never touched stays so. */
static int clear(struct inbound *in, const struct wire_range *range, struct err *err)
{
    for (uint64_t at = range->offset; at < range->offset + range->bytes; at += WIRE_PAGE) {
        if (!pages_all_zero(in->ram + at))
            memset(in->ram + at, 0, WIRE_PAGE);
        pthread_mutex_lock(&in->suspects->lock);
        judge(in->suspects, at / WIRE_PAGE, true);
        pthread_mutex_unlock(&in->suspects->lock);
        int rc = at % (4u << 20) == 0 ? channel_tend(in->channel, err) : 0;
        if (rc < 0)
            return rc;
    }
    return 0;
}

int inbound_zero(struct inbound *in, const struct wire_head *h, struct err *err)
{
    int n = wire_ranges_get(in->channel->meta, h->meta_bytes, in->ram_bytes, in->ranges, err);
    int rc = n < 0 ? n : 0;
    for (int i = 0; rc == 0 && i < n; i++)
        rc = clear(in, &in->ranges[i], err);
    return rc;
}
