/* See target.h. */
#include "migrate/target.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/crc32c.h"
#include "migrate/inbound.h"
#include "migrate/lanes_in.h"
#include "migrate/populate.h"
#include "proto/frame.h"

enum target_state { GREETING, ROUNDS, STATE, READY, OVER };

static const char *const state_names[] = {[GREETING] = "greeting",
                                          [ROUNDS] = "rounds",
                                          [STATE] = "state",
                                          [READY] = "ready",
                                          [OVER] = "over"};

struct target {
    const struct target_options *options;
    struct target_report *report;
    struct channel channel;
    struct suspects suspects;
    struct inbound in;
    struct lanes_in *lanes; /* owned; NULL when there are none */
    struct populate populate;
    struct buf state_bytes;
    enum target_state state;
};

/* They have joined before the source begins: it says how many it has. */
static int open_lanes(struct target *t, unsigned streams, struct err *err)
{
    const struct target_options *o = t->options;
    const struct stream *lanes[LANES_MAX];
    unsigned count = o->ops->lanes ? o->ops->lanes(o->ctx, lanes) : 0;
    if (count + 1 != streams)
        return err_set(err, EPROTO, "%u connections are here, the source has %u", count + 1,
                       streams);
    if (count == 0)
        return 0;
    t->lanes = lanes_in_new(lanes, count, &t->suspects, o->ram, o->ram_bytes, err);
    return t->lanes ? 0 : -err->code;
}

static int on_start(struct target *t, const struct wire_head *h, struct err *err)
{
    const struct target_options *o = t->options;
    Ferry__MigrateStart *start = (Ferry__MigrateStart *)channel_unpack(
        &t->channel, h, &ferry__migrate_start__descriptor, err);
    if (!start)
        return -err->code;
    int rc = 0;
    if (start->epoch != o->epoch || h->value != o->epoch)
        rc = err_set(err, EPROTO, "epoch %llu was agreed on, not %llu",
                     (unsigned long long)o->epoch, (unsigned long long)start->epoch);
    else if (start->ram_bytes != o->ram_bytes || start->page_bytes != WIRE_PAGE)
        rc = err_set(err, EPROTO, "%llu bytes of RAM were agreed on, not %llu",
                     (unsigned long long)o->ram_bytes, (unsigned long long)start->ram_bytes);
    if (rc == 0)
        rc = open_lanes(t, start->streams, err);
    frame_free(&start->base);
    t->state = ROUNDS;
    return rc;
}

static int on_expect(struct target *t, const struct wire_head *h, struct err *err)
{
    struct inbound *in = &t->in;
    int n = wire_ranges_get(t->channel.meta, h->meta_bytes, in->ram_bytes, in->ranges, err);
    if (n > 0 && t->options->populate)
        populate_start(&t->populate, in->ram, in->ranges, (unsigned)n);
    return n < 0 ? n : 0;
}

static int on_pages(struct target *t, const struct wire_head *h, struct err *err)
{
    return inbound_pages(&t->in, h, err);
}

static int on_packed(struct target *t, const struct wire_head *h, struct err *err)
{
    return inbound_packed(&t->in, h, err);
}

static int on_zero(struct target *t, const struct wire_head *h, struct err *err)
{
    return inbound_zero(&t->in, h, err);
}

static int on_cargo(struct target *t, const struct wire_head *h, struct err *err)
{
    struct span piece = {.at = t->channel.meta, .left = h->meta_bytes};
    return t->options->ops->cargo(t->options->ctx, piece, err);
}

/* All memory that was announced has come by then; its thread must not be met in the pause. */
static int on_round_end(struct target *t, const struct wire_head *h, struct err *err)
{
    if (h->value != t->report->rounds)
        return err_set(err, EPROTO, "round %u ends as round %llu", t->report->rounds,
                       (unsigned long long)h->value);
    if (t->lanes && lanes_in_wait(t->lanes, h->value, &t->channel, err) < 0)
        return -err->code;
    t->report->rounds++;
    if (h->flags & WIRE_LAST) {
        t->state = STATE;
        return 0;
    }
    populate_stop(&t->populate);
    return channel_send_plain(&t->channel, WIRE_ACK, 0, h->value, NULL, 0, err);
}

static int on_state(struct target *t, const struct wire_head *h, struct err *err)
{
    if (h->value != t->state_bytes.len)
        return err_set(err, EPROTO, "a piece of the state is for offset %llu, not %zu",
                       (unsigned long long)h->value, t->state_bytes.len);
    if (buf_append(&t->state_bytes, t->channel.meta, h->meta_bytes) < 0)
        return err_set(err, EMSGSIZE, "the state has more than %u bytes", WIRE_STATE_MAX);
    return 0;
}

static int check_complete(struct target *t, const struct wire_head *h, struct err *err)
{
    const struct buf *state = &t->state_bytes;
    Ferry__MigrateComplete *c = (Ferry__MigrateComplete *)channel_unpack(
        &t->channel, h, &ferry__migrate_complete__descriptor, err);
    if (!c)
        return -err->code;
    int rc = 0;
    if (h->value != t->options->epoch)
        rc = err_set(err, EPROTO, "COMPLETE is for epoch %llu", (unsigned long long)h->value);
    else if (c->state_bytes != state->len || c->state_crc32c != crc32c(0, state->data, state->len))
        rc = err_set(err, EBADMSG, "the state arrived damaged: %zu bytes of %llu", state->len,
                     (unsigned long long)c->state_bytes);
    else if (c->pages != t->suspects.arrived)
        rc = err_set(err, EBADMSG, "%llu pages arrived of %llu",
                     (unsigned long long)t->suspects.arrived, (unsigned long long)c->pages);
    frame_free(&c->base);
    return rc == 0 ? suspects_check(&t->suspects, err) : rc;
}

static int on_complete(struct target *t, const struct wire_head *h, struct err *err)
{
    const struct target_options *o = t->options;
    Ferry__MigrateReady ready = FERRY__MIGRATE_READY__INIT;
    int rc = check_complete(t, h, err);
    if (rc < 0)
        return rc;
    populate_stop(&t->populate);
    uint64_t began = channel_now_ns(&t->channel);
    struct span state = {.at = t->state_bytes.data, .left = t->state_bytes.len};
    rc = o->ops->load(o->ctx, state, err);
    if (rc < 0)
        return rc;
    t->report->load_ns = ready.load_ns = channel_now_ns(&t->channel) - began;
    t->state = READY;
    return channel_send_message(&t->channel, WIRE_READY, o->epoch, &ready.base, err);
}

static int on_handoff(struct target *t, const struct wire_head *h, struct err *err)
{
    const struct target_options *o = t->options;
    Ferry__MigrateRunning running = FERRY__MIGRATE_RUNNING__INIT;
    struct err ignored; /* the peer asks when it does not hear; the guest is ours already */
    uint64_t began = channel_now_ns(&t->channel);
    if (h->value != o->epoch)
        return err_set(err, EPROTO, "HANDOFF is for epoch %llu", (unsigned long long)h->value);
    uint64_t taken = began;
    int rc = o->ops->take_over(o->ctx, &taken, err);
    if (rc < 0)
        return rc;
    t->report->taken = true;
    t->report->commit_ns = running.commit_ns = taken - began;
    t->report->resume_ns = running.resume_ns = channel_now_ns(&t->channel) - taken;
    t->state = OVER;
    channel_send_message(&t->channel, WIRE_RUNNING, o->epoch, &running.base, &ignored);
    o->ops->settle(o->ctx);
    return 0;
}

#define IN(state) (1u << (state))

/* What has no row is never taken from a source. */
static const struct {
    unsigned states;
    int (*handle)(struct target *t, const struct wire_head *h, struct err *err);
} rows[WIRE_KINDS] = {
    [WIRE_START] = {IN(GREETING), on_start},
    [WIRE_EXPECT] = {IN(ROUNDS), on_expect},
    [WIRE_PAGES] = {IN(ROUNDS), on_pages},
    [WIRE_PACKED] = {IN(ROUNDS), on_packed},
    [WIRE_ZERO] = {IN(ROUNDS), on_zero},
    [WIRE_CARGO] = {IN(ROUNDS) | IN(STATE), on_cargo},
    [WIRE_ROUND_END] = {IN(ROUNDS), on_round_end},
    [WIRE_STATE] = {IN(STATE), on_state},
    [WIRE_COMPLETE] = {IN(STATE), on_complete},
    [WIRE_HANDOFF] = {IN(READY), on_handoff},
};

static int take_frame(struct target *t, struct err *err)
{
    struct wire_head h;
    int rc = channel_receive(&t->channel, &h, 0, err);
    if (rc < 0)
        return rc;
    if (!(rows[h.kind].states & IN(t->state)))
        return err_set(err, EPROTO, "%s is not possible in state %s", wire_kind_name(h.kind),
                       state_names[t->state]);
    return rows[h.kind].handle(t, &h, err);
}

/* A cancel that comes once the guest is ours means nothing any more. */
static int serve(struct target *t, struct err *err)
{
    int rc = 0;
    while (rc == 0 && t->state != OVER)
        rc = take_frame(t, err);
    if (rc < 0 && lanes_in_failed(t->lanes, err))
        rc = -err->code;
    if (rc < 0)
        channel_send_failure(&t->channel, err);
    return rc;
}

/* A data connection that broke ends the waits on the first. */
static bool is_cancelled(void *ctx)
{
    struct target *t = ctx;
    const struct target_options *o = t->options;
    struct err ignored;
    return (t->state < READY && lanes_in_failed(t->lanes, &ignored)) ||
           (o->ops->is_cancelled && o->ops->is_cancelled(o->ctx));
}

int target_run(const struct stream *stream, const struct target_options *options,
               struct target_report *report, struct err *err)
{
    *report = (struct target_report){0};
    struct target *t = calloc(1, sizeof(*t));
    if (!t)
        return err_set(err, ENOMEM, "no memory for a migration");
    t->options = options;
    t->report = report;
    buf_init(&t->state_bytes, WIRE_STATE_MAX);
    channel_init(&t->channel, stream, is_cancelled, t);
    inbound_init(&t->in, &t->channel, &t->suspects, options->ram, options->ram_bytes);
    int rc = suspects_init(&t->suspects, options->ram_bytes, err);
    if (rc == 0)
        rc = serve(t, err);
    populate_stop(&t->populate);
    report->bytes_in = t->channel.bytes_in + lanes_in_free(t->lanes);
    report->pages = t->suspects.arrived;
    inbound_fini(&t->in);
    suspects_fini(&t->suspects);
    buf_fini(&t->state_bytes);
    free(t);
    return rc;
}
