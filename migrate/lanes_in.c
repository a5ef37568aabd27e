/* See lanes_in.h. */
#include "migrate/lanes_in.h"

#include <errno.h>
#include <stdlib.h>
#include <time.h>

struct lane {
    struct lanes_in *set; /* borrowed */
    struct channel channel;
    struct inbound in;
    pthread_t thread;
    bool runs;
    uint64_t rounds; /* locked, with the error: that are over */
    struct err err;
};

struct lanes_in {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    _Atomic bool stop, failed;
    uint64_t released; /* locked: rounds that are over on all connections */
    unsigned count;
    struct lane *lanes[LANES_MAX]; /* owned */
};

static bool is_stopped(void *ctx)
{
    const struct lane *l = ctx;
    return l->set->stop;
}

/* Nothing of the next round is read before this one is over on all of them, whatever the source
 * does. */
static int end_round(struct lane *l, const struct wire_head *h, struct err *err)
{
    if (h->value != l->rounds)
        return err_set(err, EPROTO, "round %llu ends as round %llu", (unsigned long long)l->rounds,
                       (unsigned long long)h->value);
    struct lanes_in *s = l->set;
    bool last = h->flags & WIRE_LAST;
    pthread_mutex_lock(&s->lock);
    l->rounds++;
    pthread_cond_broadcast(&s->changed);
    while (!last && s->released < l->rounds && !s->stop)
        pthread_cond_wait(&s->changed, &s->lock);
    pthread_mutex_unlock(&s->lock);
    l->channel.heard_ns = channel_now_ns(&l->channel); /* it was us who did not listen */
    return last ? 1 : 0;
}

/* 1 behind the last round. */
static int take_frame(struct lane *l, struct err *err)
{
    struct wire_head h;
    int rc = channel_receive(&l->channel, &h, 0, err);
    if (rc < 0)
        return rc;
    switch (h.kind) {
    case WIRE_PAGES:
        return inbound_pages(&l->in, &h, err);
    case WIRE_PACKED:
        return inbound_packed(&l->in, &h, err);
    case WIRE_ROUND_END:
        return end_round(l, &h, err);
    default:
        return err_set(err, EPROTO, "%s is for the first connection", wire_kind_name(h.kind));
    }
}

static void *thread_main(void *arg)
{
    struct lane *l = arg;
    struct err err = {0};
    int rc = 0;
    pthread_setname_np(pthread_self(), "lane");
    while (rc == 0)
        rc = take_frame(l, &err);
    if (rc > 0)
        return NULL;
    pthread_mutex_lock(&l->set->lock);
    l->err = err;
    l->set->failed = true;
    pthread_cond_broadcast(&l->set->changed);
    pthread_mutex_unlock(&l->set->lock);
    return NULL;
}

static int add(struct lanes_in *s, const struct stream *stream, struct suspects *suspects,
               uint8_t *ram, uint64_t ram_bytes, struct err *err)
{
    struct lane *l = calloc(1, sizeof(*l));
    if (!l)
        return err_set(err, ENOMEM, "no memory for a data connection");
    s->lanes[s->count++] = l;
    l->set = s;
    channel_init(&l->channel, stream, is_stopped, l);
    l->channel.is_mute = true;
    inbound_init(&l->in, &l->channel, suspects, ram, ram_bytes);
    int rc = pthread_create(&l->thread, NULL, thread_main, l);
    l->runs = rc == 0;
    return rc ? err_sys(err, rc, "cannot start a data connection") : 0;
}

struct lanes_in *lanes_in_new(const struct stream *const *streams, unsigned count,
                              struct suspects *suspects, uint8_t *ram, uint64_t ram_bytes,
                              struct err *err)
{
    pthread_condattr_t monotonic;
    struct lanes_in *s = calloc(1, sizeof(*s));
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
        rc = add(s, streams[i], suspects, ram, ram_bytes, err);
    if (rc == 0)
        return s;
    lanes_in_free(s);
    return NULL;
}

uint64_t lanes_in_free(struct lanes_in *s)
{
    uint64_t bytes = 0;
    if (!s)
        return 0;
    pthread_mutex_lock(&s->lock);
    s->stop = true;
    pthread_cond_broadcast(&s->changed);
    pthread_mutex_unlock(&s->lock);
    for (unsigned i = 0; i < s->count; i++) {
        struct lane *l = s->lanes[i];
        if (l->runs)
            pthread_join(l->thread, NULL);
        bytes += l->channel.bytes_in;
        inbound_fini(&l->in);
        free(l);
    }
    pthread_cond_destroy(&s->changed);
    pthread_mutex_destroy(&s->lock);
    free(s);
    return bytes;
}

/* Locked. */
static int first_failure(const struct lanes_in *s, struct err *err)
{
    for (unsigned i = 0; i < s->count; i++)
        if (s->lanes[i]->err.code) {
            *err = s->lanes[i]->err;
            return err_wrap(err, "data connection %u", i + 1);
        }
    return 0;
}

bool lanes_in_failed(struct lanes_in *s, struct err *err)
{
    if (!s || !s->failed)
        return false;
    pthread_mutex_lock(&s->lock);
    int rc = first_failure(s, err);
    pthread_mutex_unlock(&s->lock);
    return rc < 0;
}

/* Locked. */
static bool is_over(const struct lanes_in *s, uint64_t round)
{
    for (unsigned i = 0; i < s->count; i++)
        if (s->lanes[i]->rounds <= round)
            return false;
    return true;
}

int lanes_in_wait(struct lanes_in *s, uint64_t round, struct channel *main, struct err *err)
{
    for (;;) {
        struct timespec until;
        clock_gettime(CLOCK_MONOTONIC, &until);
        uint64_t ns = (uint64_t)until.tv_nsec + CHANNEL_SLICE_NS;
        until.tv_sec += (time_t)(ns / 1000000000u);
        until.tv_nsec = (long)(ns % 1000000000u);
        pthread_mutex_lock(&s->lock);
        int rc = first_failure(s, err);
        bool over = is_over(s, round);
        if (rc == 0 && over) {
            s->released = round + 1;
            pthread_cond_broadcast(&s->changed);
        }
        if (rc == 0 && !over)
            pthread_cond_timedwait(&s->changed, &s->lock, &until);
        pthread_mutex_unlock(&s->lock);
        if (rc < 0 || over)
            return rc;
        rc = channel_rest(main, err);
        if (rc < 0)
            return rc;
    }
}
