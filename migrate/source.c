/* See source.h. */
#include "migrate/source.h"

#include <errno.h>
#include <stdlib.h>

#include "base/crc32c.h"
#include "migrate/outbound.h"
#include "proto/frame.h"

#define LISTEN_FRAMES 4u

struct source {
    const struct guest *guest;
    const struct source_options *options;
    struct source_report *report;
    struct channel channel;
    struct outbound out;
    struct converge converge;
    struct page_sink sink;
    struct source_progress now;
    uint64_t began_ns, round_from_ns, round_from_bytes, trip_ns;
    double rate_bytes, rate_ns; /* sums that fade by half with each round */
    uint64_t switch_ns;         /* from the state's sending to RUNNING */
    uint64_t listened;          /* frames sent when the peer was last listened to */
    struct err doubt;
    bool in_doubt;
};

/* waiting for the peer ------------------------------------------------------------------------ */

static int expect(struct source *s, enum wire_kind kind, uint64_t value, struct wire_head *h,
                  struct err *err)
{
    int rc = channel_receive(&s->channel, h, 0, err);
    if (rc < 0)
        return rc;
    if (h->kind != kind || h->value != value)
        return err_set(err, EPROTO, "the peer sent %s %llu instead of %s %llu",
                       wire_kind_name(h->kind), (unsigned long long)h->value, wire_kind_name(kind),
                       (unsigned long long)value);
    return 0;
}

/* What has come from the peer by now, which in a round can only be that it gives up. */
static int listen_in(struct source *s, struct err *err)
{
    struct wire_head h;
    int rc = channel_receive(&s->channel, &h, channel_now_ns(&s->channel), err);
    if (rc == -EAGAIN)
        return 0;
    return rc < 0 ? rc
                  : err_set(err, EPROTO, "the peer sent %s in the middle of a round",
                            wire_kind_name(h.kind));
}

static int check_cancel(const struct source *s, struct err *err)
{
    const struct source_options *o = s->options;
    return o->ops->is_cancelled && o->ops->is_cancelled(o->ctx)
               ? err_set(err, ECANCELED, "the migration was cancelled")
               : 0;
}

/* A broken connection: perhaps the peer's reason still lies in it. */
static int ask_why(struct source *s, int rc, struct err *err)
{
    struct err said = {0};
    s->channel.is_cancelled = NULL;
    bool broke = s->channel.broken || s->options->nlanes;
    if (s->channel.peer_failed || !broke || rc == -ECANCELED)
        return rc;
    listen_in(s, &said);
    if (s->channel.peer_failed)
        *err = said;
    return -err->code;
}

/* rounds -------------------------------------------------------------------------------------- */

static uint64_t rate(const struct source *s)
{
    return s->rate_ns > 0 ? (uint64_t)(s->rate_bytes * 1e9 / s->rate_ns) : 0;
}

static void begin_round(struct source *s)
{
    s->round_from_ns = channel_now_ns(&s->channel);
    s->round_from_bytes = outbound_moved(&s->out);
}

/* Up to the ACK, so that what lies in the socket's buffer is not taken for sent; but the round trip
 * itself is no part of the rate, as it is added to a prediction once. */
static void measure_round(struct source *s, uint64_t asked_ns)
{
    uint64_t now = channel_now_ns(&s->channel);
    if (!s->trip_ns || now - asked_ns < s->trip_ns)
        s->trip_ns = now - asked_ns;
    s->rate_bytes = s->rate_bytes / 2 + (double)(outbound_moved(&s->out) - s->round_from_bytes);
    s->rate_ns = s->rate_ns / 2 + (double)(now - s->round_from_ns - s->trip_ns);
    begin_round(s);
}

static int sink_pages(void *ctx, uint64_t offset, const uint8_t *data, size_t bytes,
                      struct err *err)
{
    struct source *s = ctx;
    int rc = outbound_pages(&s->out, offset, data, bytes, err);
    if (rc < 0 || s->out.frames - s->listened < LISTEN_FRAMES)
        return rc;
    s->listened = s->out.frames;
    rc = check_cancel(s, err);
    return rc < 0 ? rc : listen_in(s, err);
}

static int sink_zero(void *ctx, uint64_t offset, uint64_t bytes, struct err *err)
{
    struct source *s = ctx;
    return outbound_zero(&s->out, offset, bytes, err);
}

static int sink_round_end(void *ctx, const struct page_round *round, struct err *err)
{
    struct source *s = ctx;
    struct wire_head h;
    uint64_t asked = channel_now_ns(&s->channel);
    int rc = outbound_end_round(&s->out, round->number, round->last, err);
    if (rc < 0 || round->last)
        return rc;
    rc = expect(s, WIRE_ACK, round->number, &h, err);
    if (rc == 0)
        measure_round(s, asked);
    return rc;
}

static void tell(struct source *s, const struct capture_progress *now)
{
    s->now.round = now->round;
    s->now.done_bytes = (now->pages + now->zero_pages) * GUEST_PAGE;
    s->now.left_bytes = now->left * GUEST_PAGE;
    if (now->dirty_pages_per_s)
        s->now.dirty_bytes_per_s = now->dirty_pages_per_s * GUEST_PAGE;
    s->now.bytes_per_s = rate(s);
    if (s->options->ops->progress)
        s->options->ops->progress(s->options->ctx, &s->now);
}

/* After each chunk, also of memory of which there is nothing to send. */
static void on_progress(void *ctx, const struct capture_progress *now)
{
    struct source *s = ctx;
    struct err ignored; /* the next frame finds it out again */
    tell(s, now);
    channel_tend(&s->channel, &ignored);
}

static int check_time(const struct source *s, struct err *err)
{
    uint64_t limit = s->options->timeout_ns;
    if (!limit || channel_now_ns(&s->channel) - s->began_ns < limit)
        return 0;
    return err_set(err, ETIMEDOUT,
                   "it was not done within %.1f s: give it a longer --timeout, a longer --downtime "
                   "or another --on-stall",
                   (double)limit / 1e9);
}

static int slow_down(struct source *s, struct err *err)
{
    const struct source_options *o = s->options;
    if (!o->ops->throttle)
        return err_set(
            err, ENOTSUP,
            "the guest writes faster than it can be sent, and cannot be slowed down here: "
            "give a longer --downtime, or --on-stall force");
    s->now.throttle = s->report->throttle = s->converge.throttle;
    s->now.why = "the guest writes faster than it can be sent: it is slowed down";
    return o->ops->throttle(o->ctx, s->converge.throttle, err);
}

static int give_up(const struct source *s, struct err *err)
{
    return err_set(
        err, EBUSY,
        "it does not converge: the guest writes %llu MiB/s, %llu MiB/s can be sent, and "
        "it would stand still for %.1f ms of the allowed %.1f: give a longer --downtime, "
        "or --on-stall force",
        (unsigned long long)(s->now.dirty_bytes_per_s >> 20), (unsigned long long)(rate(s) >> 20),
        (double)s->now.expected_downtime_ns / 1e6, (double)s->converge.downtime_ns / 1e6);
}

static int on_decide(void *ctx, const struct capture_progress *now, struct err *err)
{
    struct source *s = ctx;
    const struct converge_round round = {
        .rounds = now->round + 1,
        .left_bytes = now->left * GUEST_PAGE,
        .bytes_per_s = rate(s),
        .fixed_ns = (s->options->fixed_ns ? s->options->fixed_ns : SOURCE_FIXED_NS) + s->trip_ns,
    };
    s->now.expected_downtime_ns = converge_predict(&round);
    s->now.dirty_bytes_per_s = now->dirty_pages_per_s * GUEST_PAGE;
    int rc = check_cancel(s, err);
    if (rc == 0)
        rc = check_time(s, err);
    if (rc < 0)
        return rc;
    begin_round(s);
    switch (converge_decide(&s->converge, &round)) {
    case CONVERGE_SWITCH:
    case CONVERGE_SWITCH_NOW:
        s->out.packing.settled = true;
        return CAPTURE_SWITCH;
    case CONVERGE_SLOW_DOWN:
        rc = slow_down(s, err);
        return rc < 0 ? rc : CAPTURE_GO_ON;
    case CONVERGE_GIVE_UP:
        return give_up(s, err);
    default:
        return CAPTURE_GO_ON;
    }
}

/* the switch ---------------------------------------------------------------------------------- */

static int send_cargo(struct source *s, bool last, struct err *err)
{
    struct buf piece;
    const struct source_options *o = s->options;
    int rc = 1;
    buf_init(&piece, WIRE_CARGO_MAX);
    while (rc == 1) {
        piece.len = 0;
        rc = o->ops->cargo(o->ctx, last, &piece, err);
        if (rc == 1 &&
            channel_send_plain(&s->channel, WIRE_CARGO, 0, 0, piece.data, piece.len, err) < 0)
            rc = -err->code;
    }
    buf_fini(&piece);
    return rc;
}

static int send_state(struct source *s, const uint8_t *data, size_t bytes, struct err *err)
{
    int rc = 0;
    for (size_t at = 0; rc == 0 && at < bytes;) {
        size_t step = bytes - at < WIRE_CHUNK_MAX ? bytes - at : WIRE_CHUNK_MAX;
        rc = channel_send_plain(&s->channel, WIRE_STATE, 0, at, data + at, step, err);
        at += step;
    }
    return rc;
}

static int send_complete(struct source *s, const uint8_t *data, size_t bytes, struct err *err)
{
    Ferry__MigrateComplete complete = FERRY__MIGRATE_COMPLETE__INIT;
    complete.state_bytes = bytes;
    complete.state_crc32c = crc32c(0, data, bytes);
    complete.pages = s->out.pages;
    return channel_send_message(&s->channel, WIRE_COMPLETE, s->options->epoch, &complete.base, err);
}

/* Adds what passed since *mark to *part, and moves the mark. */
static void lap(struct source *s, uint64_t *mark, uint64_t *part)
{
    uint64_t now = channel_now_ns(&s->channel);
    *part += now - *mark;
    *mark = now;
}

/* The guest's last bytes; READY says that the peer could go on at once. */
static int deliver(struct source *s, const uint8_t *data, size_t bytes, uint64_t *mark,
                   struct err *err)
{
    struct source_downtime *d = &s->report->downtime;
    const struct source_options *o = s->options;
    struct wire_head h;
    int rc = send_state(s, data, bytes, err);
    if (rc == 0)
        rc = send_cargo(s, true, err);
    if (rc == 0)
        rc = send_complete(s, data, bytes, err);
    lap(s, mark, &d->send_ns);
    if (rc == 0)
        rc = expect(s, WIRE_READY, o->epoch, &h, err);
    lap(s, mark, &d->load_ns);
    if (rc == 0)
        rc = check_cancel(s, err);
    return rc == 0 ? o->ops->hand_off(o->ctx, err) : rc;
}

/* How long the peer took for which part of the time until its RUNNING came. */
static void split_commit(struct source *s, const struct wire_head *h, uint64_t took_ns)
{
    struct source_downtime *d = &s->report->downtime;
    struct err ignored; /* the numbers are for people, and the guest runs */
    Ferry__MigrateRunning *r = (Ferry__MigrateRunning *)channel_unpack(
        &s->channel, h, &ferry__migrate_running__descriptor, &ignored);
    d->resume_ns = r && r->resume_ns < took_ns ? r->resume_ns : 0;
    d->commit_ns = took_ns - d->resume_ns;
    frame_free((ProtobufCMessage *)r);
}

/* From here on whatever goes wrong leaves it open who has the guest. */
static void give_away(struct source *s, uint64_t *mark)
{
    struct wire_head h;
    uint64_t took = 0;
    s->channel.is_cancelled = NULL;
    int rc =
        channel_send_plain(&s->channel, WIRE_HANDOFF, 0, s->options->epoch, NULL, 0, &s->doubt);
    if (rc == 0)
        rc = expect(s, WIRE_RUNNING, s->options->epoch, &h, &s->doubt);
    lap(s, mark, &took);
    s->in_doubt = rc < 0;
    if (rc == 0)
        split_commit(s, &h, took);
}

static int sink_state(void *ctx, const uint8_t *data, size_t bytes, struct err *err)
{
    struct source *s = ctx;
    uint64_t began = channel_now_ns(&s->channel), mark = began;
    int rc = deliver(s, data, bytes, &mark, err);
    if (rc == 0)
        give_away(s, &mark);
    s->switch_ns = mark - began;
    return rc;
}

/* all of it ----------------------------------------------------------------------------------- */

static const struct page_sink_ops sink_ops = {
    .pages = sink_pages, .zero = sink_zero, .state = sink_state, .round_end = sink_round_end};

static int greet(struct source *s, struct err *err)
{
    Ferry__MigrateStart start = FERRY__MIGRATE_START__INIT;
    start.epoch = s->options->epoch;
    start.ram_bytes = s->guest->ram_bytes;
    start.page_bytes = GUEST_PAGE;
    start.streams = s->options->nlanes + 1;
    int rc = channel_send_message(&s->channel, WIRE_START, start.epoch, &start.base, err);
    if (rc == 0)
        rc = send_cargo(s, false, err);
    return rc == 0 ? outbound_expect(&s->out, s->guest, err) : rc;
}

static void fill_report(struct source *s, const struct capture_result *r)
{
    struct source_report *report = s->report;
    struct source_downtime *d = &report->downtime;
    const struct capture_pause *p = &r->pause;
    uint64_t parts = p->stop_ns + p->state_ns + s->switch_ns;
    report->rounds = r->rounds;
    report->reason = r->reason;
    report->pages = r->pages;
    report->zero_pages = r->zero_pages + r->untouched_pages;
    report->last_pages = r->last_pages;
    report->state_bytes = r->state_bytes;
    report->packed_pages = s->out.packed_pages;
    report->bytes_sent = outbound_bytes(&s->out);
    report->bytes_per_s = rate(s);
    report->total_ns = channel_now_ns(&s->channel) - s->began_ns;
    d->total_ns = p->total_ns;
    d->stop_ns = p->stop_ns;
    d->state_ns = p->state_ns;
    d->last_pages_ns = p->total_ns > parts ? p->total_ns - parts : 0;
}

static int capture(struct source *s, struct err *err)
{
    const struct capture_options options = {
        .mode = CAPTURE_LIVE,
        .hold = true,
        .ctx = s,
        .progress = on_progress,
        .decide = on_decide,
    };
    struct capture_result result;
    begin_round(s);
    int rc = capture_run(s->guest, &s->sink, &options, &result, err);
    fill_report(s, &result);
    capture_result_fini(&result);
    return rc;
}

static int finish(struct source *s, int rc, struct err *err)
{
    if (rc < 0) {
        rc = ask_why(s, rc, err);
        channel_send_failure(&s->channel, err);
        s->report->end = SOURCE_FAILED;
        return rc;
    }
    s->report->end = s->in_doubt ? SOURCE_IN_DOUBT : SOURCE_MOVED;
    if (!s->in_doubt)
        return 0;
    *err = s->doubt;
    return err_wrap(err, "the guest was handed off, and the peer does not say that it runs");
}

int source_run(const struct guest *guest, const struct stream *stream,
               const struct source_options *options, struct source_report *report, struct err *err)
{
    *report = (struct source_report){.end = SOURCE_FAILED};
    struct source *s = calloc(1, sizeof(*s));
    if (!s)
        return err_set(err, ENOMEM, "no memory for a migration");
    s->guest = guest;
    s->options = options;
    s->report = report;
    s->now.why = "";
    s->sink = (struct page_sink){
        .ops = &sink_ops, .ctx = s, .wants_zero_scan = true, .starts_zero = true};
    channel_init(&s->channel, stream, options->ops->is_cancelled, options->ctx);
    outbound_init(&s->out, &s->channel, guest, options->bytes_per_s, options->packing);
    converge_init(&s->converge, options->downtime_ns ? options->downtime_ns : SOURCE_DOWNTIME_NS,
                  options->on_stall);
    s->began_ns = channel_now_ns(&s->channel);
    int rc = outbound_open_lanes(&s->out, options->lanes, options->nlanes, err);
    if (rc == 0)
        rc = greet(s, err);
    if (rc == 0)
        rc = capture(s, err);
    rc = finish(s, rc, err);
    outbound_fini(&s->out);
    free(s);
    return rc;
}
