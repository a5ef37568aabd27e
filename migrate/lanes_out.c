/* See lanes_out.h. */
#include "migrate/lanes_out.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/crc32c.h"
#include "base/now.h"
#include "vmstate/pack.h"

#define FRAME_BYTES ((size_t)WIRE_PAGES_MAX * WIRE_PAGE)
#define REST_NS (CHANNEL_ALIVE_NS / 2)

enum order { ORDER_NONE, ORDER_FRAME, ORDER_ROUND_END, ORDER_LAST_ROUND_END };

struct lane {
    struct lanes_out *set; /* borrowed */
    struct channel channel;
    pthread_t thread;
    bool runs;
    struct packer packer;   /* these three from the first packed frame on */
    uint8_t *copy, *packed; /* owned */
    uint8_t meta[WIRE_META_MAX];
    struct wire_run runs_of[WIRE_RUNS_MAX];
    struct iovec data[WIRE_RUNS_MAX];
    uint32_t crcs[WIRE_PAGES_MAX];
    unsigned nruns, npages;
    bool pack;
    uint64_t round;

    enum order order; /* locked, with the rest; the above is its thread's while there is one */
    bool has_deed;
    struct lane_deed deed;
    struct err err;
};

struct lanes_out {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    _Atomic bool stop;
    unsigned count;
    struct lane *lanes[LANES_MAX]; /* owned */
};

static struct timespec in_ns(uint64_t ns)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    ns += (uint64_t)t.tv_nsec;
    t.tv_sec += (time_t)(ns / 1000000000u);
    t.tv_nsec = (long)(ns % 1000000000u);
    return t;
}

/* one lane's thread --------------------------------------------------------------------------- */

static bool is_stopped(void *ctx)
{
    const struct lane *l = ctx;
    return l->set->stop;
}

static void look_at_guest(struct lane *l)
{
    unsigned n = 0;
    for (unsigned i = 0; i < l->nruns; i++)
        for (uint32_t p = 0; p < l->runs_of[i].pages; p++)
            l->crcs[n++] =
                crc32c(0, (const uint8_t *)l->data[i].iov_base + p * (size_t)WIRE_PAGE, WIRE_PAGE);
}

static bool can_pack(struct lane *l)
{
    struct err ignored; /* what cannot be packed goes as it is */
    if (l->packed)
        return true;
    if (!l->packer.context && packer_init(&l->packer, 0, &ignored) < 0)
        return false;
    l->copy = l->copy ? l->copy : malloc(FRAME_BYTES);
    l->packed = l->copy ? malloc(packer_bound(FRAME_BYTES)) : NULL;
    return l->packed;
}

static size_t copy_guest(struct lane *l)
{
    size_t at = 0;
    for (unsigned i = 0; i < l->nruns; at += l->data[i++].iov_len)
        memcpy(l->copy + at, l->data[i].iov_base, l->data[i].iov_len);
    return at;
}

/* Of a copy, so that its checksums fit whatever the guest writes. */
static void pack(struct lane *l, struct wire_head *h, struct iovec *out)
{
    struct err ignored;
    uint64_t began = now_ns();
    size_t at = copy_guest(l);
    for (unsigned i = 0; i < l->npages; i++)
        l->crcs[i] = crc32c(0, l->copy + i * (size_t)WIRE_PAGE, WIRE_PAGE);
    ssize_t n =
        packer_pack(&l->packer, l->copy, at, l->packed, packer_bound(FRAME_BYTES), &ignored);
    bool less = n > 0 && (size_t)n < at - at / 16;
    l->deed.packed_pages = less ? l->npages : 0;
    l->deed.pack_ns = now_ns() - began;
    h->kind = less ? WIRE_PACKED : WIRE_PAGES;
    *out = (struct iovec){less ? l->packed : l->copy, less ? (size_t)n : at};
}

static int send_frame(struct lane *l, struct err *err)
{
    struct wire_head h = {.kind = WIRE_PAGES, .value = l->nruns};
    struct iovec packed = {0};
    l->deed = (struct lane_deed){.raw = l->npages * (uint64_t)WIRE_PAGE};
    bool is_packed = l->pack && can_pack(l);
    if (is_packed)
        pack(l, &h, &packed);
    else
        look_at_guest(l);
    h.meta_bytes = (uint32_t)wire_runs_put(l->runs_of, l->nruns, l->crcs, l->npages, l->meta);
    h.data_bytes = l->deed.bytes = is_packed ? packed.iov_len : l->deed.raw;
    uint64_t began = channel_now_ns(&l->channel);
    int rc = channel_send(&l->channel, &h, l->meta, is_packed ? &packed : l->data,
                          is_packed ? 1 : l->nruns, err);
    l->deed.took_ns = channel_now_ns(&l->channel) - began;
    l->deed.wire_bytes = WIRE_HEAD_BYTES + h.meta_bytes + h.data_bytes;
    return rc;
}

static int obey(struct lane *l, enum order order, struct err *err)
{
    if (order == ORDER_FRAME)
        return send_frame(l, err);
    return channel_send_plain(&l->channel, WIRE_ROUND_END,
                              order == ORDER_LAST_ROUND_END ? WIRE_LAST : 0, l->round, NULL, 0,
                              err);
}

/* Locked; the peer is to hear of us now and then, however often others wake us. */
static int rest(struct lane *l, struct err *err)
{
    struct timespec until = in_ns(REST_NS);
    pthread_cond_timedwait(&l->set->changed, &l->set->lock, &until);
    if (l->order != ORDER_NONE || channel_now_ns(&l->channel) - l->channel.sent_ns < REST_NS)
        return 0;
    pthread_mutex_unlock(&l->set->lock);
    int rc = channel_tend(&l->channel, err);
    pthread_mutex_lock(&l->set->lock);
    return rc;
}

static void *thread_main(void *arg)
{
    struct lane *l = arg;
    struct lanes_out *s = l->set;
    struct err err = {0};
    int rc = 0;
    pthread_setname_np(pthread_self(), "lane");
    pthread_mutex_lock(&s->lock);
    for (bool last = false; rc == 0 && !last && !s->stop;) {
        enum order order = l->order;
        if (order == ORDER_NONE) {
            rc = rest(l, &err);
            continue;
        }
        pthread_mutex_unlock(&s->lock);
        rc = obey(l, order, &err);
        pthread_mutex_lock(&s->lock);
        last = order == ORDER_LAST_ROUND_END;
        l->has_deed = order == ORDER_FRAME;
        l->order = ORDER_NONE;
        pthread_cond_broadcast(&s->changed);
    }
    if (rc < 0)
        l->err = err;
    pthread_cond_broadcast(&s->changed);
    pthread_mutex_unlock(&s->lock);
    return NULL;
}

/* all of them --------------------------------------------------------------------------------- */

static int add(struct lanes_out *s, const struct stream *stream, struct err *err)
{
    struct lane *l = calloc(1, sizeof(*l));
    if (!l)
        return err_set(err, ENOMEM, "no memory for a data connection");
    s->lanes[s->count++] = l;
    l->set = s;
    channel_init(&l->channel, stream, is_stopped, l);
    int rc = pthread_create(&l->thread, NULL, thread_main, l);
    l->runs = rc == 0;
    return rc ? err_sys(err, rc, "cannot start a data connection") : 0;
}

struct lanes_out *lanes_out_new(const struct stream *const *streams, unsigned count,
                                struct err *err)
{
    pthread_condattr_t monotonic;
    struct lanes_out *s = calloc(1, sizeof(*s));
    if (!s || count > LANES_MAX) {
        err_set(err, ENOMEM, "no memory for %u data connections", count);
        free(s);
        return NULL;
    }
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_mutex_init(&s->lock, NULL);
    pthread_cond_init(&s->changed, &monotonic);
    pthread_condattr_destroy(&monotonic);
    int rc = 0;
    for (unsigned i = 0; rc == 0 && i < count; i++)
        rc = add(s, streams[i], err);
    if (rc == 0)
        return s;
    lanes_out_free(s);
    return NULL;
}

void lanes_out_free(struct lanes_out *s)
{
    if (!s)
        return;
    pthread_mutex_lock(&s->lock);
    s->stop = true;
    pthread_cond_broadcast(&s->changed);
    pthread_mutex_unlock(&s->lock);
    for (unsigned i = 0; i < s->count; i++) {
        struct lane *l = s->lanes[i];
        if (l->runs)
            pthread_join(l->thread, NULL);
        packer_fini(&l->packer);
        free(l->copy);
        free(l->packed);
        free(l);
    }
    pthread_cond_destroy(&s->changed);
    pthread_mutex_destroy(&s->lock);
    free(s);
}

unsigned lanes_out_count(const struct lanes_out *s)
{
    return s ? s->count : 0;
}

/* Locked. */
static bool is_idle(const struct lane *l)
{
    return l->order == ORDER_NONE && !l->has_deed && !l->err.code;
}

bool lanes_out_give(struct lanes_out *s, const struct wire_run *runs, const struct iovec *data,
                    unsigned nruns, unsigned npages, bool pack)
{
    struct lane *l = NULL;
    pthread_mutex_lock(&s->lock);
    for (unsigned i = 0; !l && i < s->count; i++)
        l = is_idle(s->lanes[i]) ? s->lanes[i] : NULL;
    if (l) {
        memcpy(l->runs_of, runs, nruns * sizeof(*runs));
        memcpy(l->data, data, nruns * sizeof(*data));
        l->nruns = nruns;
        l->npages = npages;
        l->pack = pack;
        l->order = ORDER_FRAME;
        pthread_cond_broadcast(&s->changed);
    }
    pthread_mutex_unlock(&s->lock);
    return l;
}

/* Locked: how many are at work; -errno of one that failed. */
static int at_work(const struct lanes_out *s, struct err *err)
{
    int busy = 0;
    for (unsigned i = 0; i < s->count; i++) {
        const struct lane *l = s->lanes[i];
        if (l->err.code) {
            *err = l->err;
            return err_wrap(err, "data connection %u", i + 1);
        }
        busy += l->order != ORDER_NONE;
    }
    return busy;
}

int lanes_out_take(struct lanes_out *s, struct lane_deed *deed, struct err *err)
{
    bool found = false;
    pthread_mutex_lock(&s->lock);
    int rc = at_work(s, err);
    for (unsigned i = 0; rc >= 0 && !found && i < s->count; i++) {
        struct lane *l = s->lanes[i];
        found = l->has_deed;
        if (found)
            *deed = l->deed;
        l->has_deed = l->has_deed && !found;
    }
    pthread_mutex_unlock(&s->lock);
    return rc < 0 ? rc : found;
}

int lanes_out_wait(struct lanes_out *s, bool all, struct err *err)
{
    struct timespec until = in_ns(CHANNEL_SLICE_NS);
    int busy, late = 0;
    pthread_mutex_lock(&s->lock);
    while ((busy = at_work(s, err)) > 0 && (all || (unsigned)busy == s->count) && !late)
        late = pthread_cond_timedwait(&s->changed, &s->lock, &until);
    pthread_mutex_unlock(&s->lock);
    return busy < 0 ? busy : late != 0;
}

void lanes_out_end_round(struct lanes_out *s, uint64_t number, bool last)
{
    pthread_mutex_lock(&s->lock);
    for (unsigned i = 0; i < s->count; i++) {
        s->lanes[i]->round = number;
        s->lanes[i]->order = last ? ORDER_LAST_ROUND_END : ORDER_ROUND_END;
    }
    pthread_cond_broadcast(&s->changed);
    pthread_mutex_unlock(&s->lock);
}
