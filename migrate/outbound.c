/* See outbound.h. */
#include "migrate/outbound.h"

#include <errno.h>

#include "base/crc32c.h"
#include "vmstate/pages.h"

#define NEAR_BYTES (2ull << 20) /* ranges this close are told as one */
#define SECOND_NS 1000000000.0

void outbound_init(struct outbound *o, struct channel *channel, const struct guest *guest,
                   uint64_t bytes_per_s, enum packing_mode mode)
{
    o->channel = channel;
    o->ram = guest->ram;
    o->bytes_per_s = bytes_per_s;
    o->limit_from_ns = channel_now_ns(channel);
    o->limit_bytes = 0;
    o->nruns = o->npages = o->nzeroes = 0;
    o->pages = o->frames = o->packed_pages = o->saved_bytes = o->lane_bytes = 0;
    o->crew = NULL;
    o->lanes = NULL;
    o->lent = false;
    packing_init(&o->packing, mode, crew_threads(), bytes_per_s, o->limit_from_ns);
}

int outbound_open_lanes(struct outbound *o, const struct stream *const *streams, unsigned count,
                        struct err *err)
{
    if (count == 0)
        return 0;
    o->lanes = lanes_out_new(streams, count, err);
    o->packing.threads = count;
    return o->lanes ? 0 : -err->code;
}

uint64_t outbound_bytes(const struct outbound *o)
{
    return o->channel->bytes_out + o->lane_bytes;
}

uint64_t outbound_moved(const struct outbound *o)
{
    return outbound_bytes(o) + o->saved_bytes;
}

void outbound_fini(struct outbound *o)
{
    lanes_out_free(o->lanes);
    o->lanes = NULL;
    crew_free(o->crew);
    o->crew = NULL;
}

/* What the peer says in a round can only be that it gives up. 0 when it said nothing by then. */
static int listen_until(struct outbound *o, uint64_t until_ns, struct err *err)
{
    struct wire_head h;
    int rc = channel_receive(o->channel, &h, until_ns, err);
    if (rc == 0)
        return err_set(err, EPROTO, "the peer sent %s in the middle of a round",
                       wire_kind_name(h.kind));
    return rc == -EAGAIN ? 0 : rc;
}

/* Waits until what was sent is no more than the limit allows by now. A pause is not made up for by
 * a burst. */
static int keep_limit(struct outbound *o, size_t bytes, struct err *err)
{
    if (!o->bytes_per_s)
        return 0;
    uint64_t now = channel_now_ns(o->channel);
    o->limit_bytes += bytes;
    uint64_t due =
        o->limit_from_ns + (uint64_t)((double)o->limit_bytes * SECOND_NS / (double)o->bytes_per_s);
    if (now > due + CHANNEL_SLICE_NS) {
        o->limit_from_ns = now;
        o->limit_bytes = 0;
    }
    if (now >= due)
        return 0;
    return listen_until(o, due, err);
}

static int send_frame(struct outbound *o, struct wire_head *h, const struct iovec *data,
                      unsigned count, unsigned pages, struct err *err)
{
    uint64_t began = channel_now_ns(o->channel);
    int rc = channel_send(o->channel, h, o->meta, data, count, err);
    uint64_t now = channel_now_ns(o->channel);
    o->pages += pages;
    o->frames++;
    packing_note_sent(&o->packing, (uint64_t)pages * WIRE_PAGE, h->data_bytes,
                      (now - began) / (lanes_out_count(o->lanes) + 1), now);
    return rc < 0 ? rc : keep_limit(o, h->data_bytes, err);
}

/* As it lies in guest memory. */
static int send_plainly(struct outbound *o, struct err *err)
{
    unsigned page = 0, pages = o->npages;
    for (unsigned i = 0; i < o->nruns; i++) {
        const uint8_t *at = o->data[i].iov_base;
        for (uint32_t n = 0; n < o->runs[i].pages; n++, at += WIRE_PAGE)
            o->crcs[page++] = crc32c(0, at, WIRE_PAGE);
    }
    struct wire_head h = {.kind = WIRE_PAGES, .value = o->nruns};
    h.meta_bytes = (uint32_t)wire_runs_put(o->runs, o->nruns, o->crcs, pages, o->meta);
    h.data_bytes = (uint64_t)pages * WIRE_PAGE;
    int rc = send_frame(o, &h, o->data, o->nruns, pages, err);
    o->nruns = o->npages = 0;
    return rc;
}

/* What the crew has done: packed, or as it was when that is not less. */
static int send_done(struct outbound *o, const struct crew_slot *s, struct err *err)
{
    size_t raw = s->npages * (size_t)WIRE_PAGE;
    struct wire_head h = {.kind = s->packed_bytes ? WIRE_PACKED : WIRE_PAGES, .value = s->nruns};
    struct iovec data = {s->packed_bytes ? s->packed : s->pages,
                         s->packed_bytes ? s->packed_bytes : raw};
    h.meta_bytes = (uint32_t)wire_runs_put(s->runs, s->nruns, s->crcs, s->npages, o->meta);
    h.data_bytes = data.iov_len;
    packing_note_packed(&o->packing, raw, data.iov_len, s->took_ns);
    o->saved_bytes += raw - data.iov_len;
    o->packed_pages += s->packed_bytes ? s->npages : 0;
    return send_frame(o, &h, &data, 1, s->npages, err);
}

/* Of what was handed in: all of it, or what is done. */
static int collect(struct outbound *o, bool all, struct err *err)
{
    const struct crew_slot *s;
    int rc = 0;
    while (rc == 0 && o->crew && (s = crew_take(o->crew, all || !crew_has_room(o->crew))))
        rc = send_done(o, s, err);
    return rc;
}

/* Without a crew pages go as they are. */
static bool is_packed(struct outbound *o)
{
    struct err ignored;
    if (!packing_next(&o->packing))
        return false;
    if (!o->crew)
        o->crew = crew_new(o->packing.threads, &ignored);
    return o->crew;
}

/* What the lanes have done. They wait for their connections at the same time, so each takes a
 * part of it. */
static int account(struct outbound *o, struct err *err)
{
    struct lane_deed d;
    int rc;
    while ((rc = lanes_out_take(o->lanes, &d, err)) > 0) {
        o->lane_bytes += d.wire_bytes;
        o->pages += d.raw / WIRE_PAGE;
        o->packed_pages += d.packed_pages;
        o->saved_bytes += d.raw - d.bytes;
        o->frames++;
        if (d.pack_ns)
            packing_note_packed(&o->packing, d.raw, d.bytes, d.pack_ns);
        packing_note_sent(&o->packing, d.raw, d.bytes, d.took_ns / (lanes_out_count(o->lanes) + 1),
                          channel_now_ns(o->channel));
        rc = keep_limit(o, d.bytes, err);
        if (rc < 0)
            return rc;
    }
    return rc;
}

static int wait_for_lanes(struct outbound *o, bool all, struct err *err)
{
    int rc;
    while ((rc = lanes_out_wait(o->lanes, all, err)) > 0) {
        rc = listen_until(o, channel_now_ns(o->channel), err);
        if (rc < 0)
            return rc;
    }
    return rc;
}

/* To a lane that is idle; when none is, by the first connection, unless it is to be packed. */
static int flush_to_lanes(struct outbound *o, struct err *err)
{
    bool packed = packing_next(&o->packing);
    int rc;
    while ((rc = account(o, err)) == 0 &&
           !lanes_out_give(o->lanes, o->runs, o->data, o->nruns, o->npages, packed)) {
        if (!packed)
            return send_plainly(o, err);
        rc = wait_for_lanes(o, false, err);
        if (rc < 0)
            return rc;
    }
    o->nruns = o->npages = 0;
    return rc;
}

static int flush_pages(struct outbound *o, struct err *err)
{
    if (o->npages == 0)
        return 0;
    if (o->lanes)
        return o->lent ? send_plainly(o, err) : flush_to_lanes(o, err);
    if (!is_packed(o)) {
        int rc = send_plainly(o, err);
        return rc < 0 ? rc : collect(o, false, err);
    }
    crew_give(o->crew, o->runs, o->data, o->nruns, o->npages);
    o->nruns = o->npages = 0;
    return collect(o, false, err);
}

static int flush_zeroes(struct outbound *o, struct err *err)
{
    if (o->nzeroes == 0)
        return 0;
    size_t bytes = wire_ranges_put(o->zeroes, o->nzeroes, o->meta);
    o->nzeroes = 0;
    return channel_send_plain(o->channel, WIRE_ZERO, 0, 0, o->meta, bytes, err);
}

static int end_lanes(struct outbound *o, uint64_t number, bool last, struct err *err)
{
    int rc = wait_for_lanes(o, true, err);
    if (rc == 0)
        rc = account(o, err);
    if (rc == 0)
        lanes_out_end_round(o->lanes, number, last);
    return rc;
}

int outbound_end_round(struct outbound *o, uint64_t number, bool last, struct err *err)
{
    int rc = flush_pages(o, err);
    if (rc == 0)
        rc = collect(o, true, err);
    if (rc == 0)
        rc = flush_zeroes(o, err);
    if (rc == 0 && o->lanes)
        rc = end_lanes(o, number, last, err);
    return rc < 0 ? rc
                  : channel_send_plain(o->channel, WIRE_ROUND_END, last ? WIRE_LAST : 0, number,
                                       NULL, 0, err);
}

static bool continues(const struct outbound *o, uint64_t offset, const uint8_t *data)
{
    if (o->nruns == 0)
        return false;
    const struct wire_run *run = &o->runs[o->nruns - 1];
    const struct iovec *iov = &o->data[o->nruns - 1];
    return run->offset + run->pages * (uint64_t)WIRE_PAGE == offset &&
           (const uint8_t *)iov->iov_base + iov->iov_len == data;
}

static void add_run(struct outbound *o, uint64_t offset, const uint8_t *data, unsigned pages)
{
    if (!continues(o, offset, data)) {
        o->runs[o->nruns] = (struct wire_run){.offset = offset};
        o->data[o->nruns] = (struct iovec){.iov_base = (void *)(uintptr_t)data};
        o->nruns++;
    }
    o->runs[o->nruns - 1].pages += pages;
    o->data[o->nruns - 1].iov_len += pages * (size_t)WIRE_PAGE;
    o->npages += pages;
}

/* What lies in guest memory may wait for its frame to fill; what was only lent may not. */
int outbound_pages(struct outbound *o, uint64_t offset, const uint8_t *data, size_t bytes,
                   struct err *err)
{
    bool lent = data != o->ram + offset;
    if (lent != o->lent && o->npages && flush_pages(o, err) < 0)
        return -err->code;
    o->lent = lent;
    while (bytes) {
        unsigned room = WIRE_PAGES_MAX - o->npages;
        unsigned pages = bytes / WIRE_PAGE < room ? (unsigned)(bytes / WIRE_PAGE) : room;
        size_t step = pages * (size_t)WIRE_PAGE;
        add_run(o, offset, data, pages);
        offset += step;
        data += step;
        bytes -= step;
        int rc = o->npages == WIRE_PAGES_MAX || lent ? flush_pages(o, err) : 0;
        if (rc < 0)
            return rc;
    }
    return 0;
}

int outbound_zero(struct outbound *o, uint64_t offset, uint64_t bytes, struct err *err)
{
    struct wire_range *last = o->nzeroes ? &o->zeroes[o->nzeroes - 1] : NULL;
    if (last && last->offset + last->bytes == offset) {
        last->bytes += bytes;
        return 0;
    }
    o->zeroes[o->nzeroes++] = (struct wire_range){offset, bytes};
    return o->nzeroes == WIRE_RANGES_MAX ? flush_zeroes(o, err) : 0;
}

/* Uses the table of zeroes, which is empty before the first round. */
int outbound_expect(struct outbound *o, const struct guest *guest, struct err *err)
{
    struct wire_range *ranges = o->zeroes;
    size_t end = guest_pages(guest), at = 0, begin, stop;
    unsigned n = 0;
    while (at < end) {
        int rc = pages_next(guest, at, end, &begin, &stop, err);
        if (rc < 0)
            return rc;
        if (begin >= end)
            break;
        uint64_t offset = (uint64_t)begin * WIRE_PAGE, bytes = (uint64_t)(stop - begin) * WIRE_PAGE;
        bool close = n && offset - (ranges[n - 1].offset + ranges[n - 1].bytes) <= NEAR_BYTES;
        if (close)
            ranges[n - 1].bytes = offset + bytes - ranges[n - 1].offset;
        else if (n == WIRE_RANGES_MAX)
            break; /* the rest is populated as it is touched */
        else
            ranges[n++] = (struct wire_range){offset, bytes};
        at = stop;
    }
    return n == 0 ? 0
                  : channel_send_plain(o->channel, WIRE_EXPECT, 0, 0, o->meta,
                                       wire_ranges_put(ranges, n, o->meta), err);
}
