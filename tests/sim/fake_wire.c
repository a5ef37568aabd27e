/* See fake_wire.h. */
#include "tests/sim/fake_wire.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/le.h"

#define ROOM 262144u

/* Nobody can go on: the clock jumps to where somebody gives up. Locked. */
static void pass_time(struct fake_wire *w)
{
    uint64_t a = w->waits_until[0], b = w->waits_until[1], first = a < b ? a : b;
    if (a && b && first != UINT64_MAX && first > w->now_ns) {
        w->now_ns = first;
        pthread_cond_broadcast(&w->changed);
    }
}

/* Locked; false when the time is over. */
static bool wait_for_wire(struct wire_end *e, uint64_t until)
{
    struct fake_wire *w = e->wire;
    if (w->now_ns >= until)
        return false;
    w->waits_until[e->number] = until;
    pass_time(w);
    if (w->now_ns < until)
        pthread_cond_wait(&w->changed, &w->lock);
    w->waits_until[e->number] = 0;
    return true;
}

static void wake(struct fake_wire *w)
{
    for (unsigned i = 0; i < WIRE_ENDS; i++)
        if (w->waits_until[i] != UINT64_MAX)
            w->waits_until[i] = 0;
    pthread_cond_broadcast(&w->changed);
}

static void close_both(struct fake_wire *w)
{
    w->lanes[0].closed = w->lanes[1].closed = true;
}

/* the fault ----------------------------------------------------------------------------------- */

/* Before the byte is written. */
static void strike(struct fake_wire *w, struct lane *l)
{
    w->fault_ns = w->now_ns;
    switch (w->fault) {
    case FAULT_CUT:
        close_both(w);
        break;
    case FAULT_FREEZE:
        l->frozen = true;
        break;
    case FAULT_PARTITION:
        w->lanes[0].frozen = w->lanes[1].frozen = true;
        break;
    case FAULT_SOURCE_KILLED:
    case FAULT_TARGET_KILLED:
        w->dead[w->fault == FAULT_TARGET_KILLED] = true;
        close_both(w);
        break;
    case FAULT_WRITE_ERROR:
        l->broken = true;
        break;
    default:
        break;
    }
}

/* How many of `bytes` can be moved before the fault is due; strikes when that is now. */
static size_t until_fault(struct fake_wire *w, unsigned lane, size_t bytes)
{
    struct lane *l = &w->lanes[lane];
    if (!w->fault || w->fault_ns || lane != w->fault_lane || l->written + bytes <= w->fault_at)
        return bytes;
    if (l->written < w->fault_at)
        return (size_t)(w->fault_at - l->written);
    strike(w, l);
    return w->fault == FAULT_GARBAGE ? 1 : bytes;
}

/* Follows the frames as they are written. */
static void note(struct lane *l, const uint8_t *bytes, size_t count)
{
    for (size_t done = 0; done < count;) {
        uint64_t at = l->written + done, in = at - l->next;
        if (at < l->next) {
            uint64_t skip = l->next - at;
            done += skip < count - done ? (size_t)skip : count - done;
            continue;
        }
        l->head[in] = bytes[done++];
        if (in + 1 < WIRE_HEAD_BYTES)
            continue;
        if (l->nframes < WIRE_FRAMES)
            l->frames[l->nframes++] = l->next;
        l->next += WIRE_HEAD_BYTES + le_get(l->head + 4, 4) + le_get(l->head + 8, 8);
    }
}

static void store(struct lane *l, const uint8_t *bytes, size_t count, bool turn)
{
    size_t at = l->written % ROOM, first = count < ROOM - at ? count : ROOM - at;
    memcpy(l->data + at, bytes, first);
    memcpy(l->data, bytes + first, count - first);
    if (turn)
        l->data[at] ^= 0x40;
    note(l, bytes, count);
    l->written += count;
}

/* What of it goes into the lane now. */
static size_t put(struct fake_wire *w, unsigned lane, const uint8_t *bytes, size_t count)
{
    struct lane *l = &w->lanes[lane];
    size_t done = 0, room = ROOM - (size_t)(l->written - l->read);
    count = count < room ? count : room;
    while (done < count && !l->closed && !l->broken) {
        bool before = w->fault_ns != 0;
        size_t step = until_fault(w, lane, count - done);
        bool struck = !before && w->fault_ns != 0;
        if (l->closed || l->broken)
            break;
        store(l, bytes + done, step, struck && w->fault == FAULT_GARBAGE);
        done += step;
    }
    return done;
}

/* the stream ---------------------------------------------------------------------------------- */

static int refuse(const struct wire_end *e, struct err *err)
{
    if (e->wire->dead[e->number])
        return err_set(err, EPIPE, "this end is dead");
    if (e->wire->lanes[e->number].broken)
        return err_set(err, EIO, "the write failed");
    return e->wire->lanes[e->number].closed ? err_set(err, EPIPE, "cut")
                                            : err_set(err, ETIMEDOUT, "full");
}

static ssize_t on_write(void *ctx, const struct iovec *iov, unsigned count, uint64_t until,
                        struct err *err)
{
    struct wire_end *e = ctx;
    struct fake_wire *w = e->wire;
    struct lane *l = &w->lanes[e->number];
    ssize_t n = 0;
    pthread_mutex_lock(&w->lock);
    while (!l->closed && l->written - l->read >= ROOM)
        if (!wait_for_wire(e, until))
            break;
    for (unsigned i = 0; i < count; i++) {
        size_t took = put(w, e->number, iov[i].iov_base, iov[i].iov_len);
        n += (ssize_t)took;
        if (took < iov[i].iov_len)
            break;
    }
    wake(w);
    int rc = n ? 0 : refuse(e, err);
    pthread_mutex_unlock(&w->lock);
    return n ? n : rc;
}

static size_t get(struct lane *l, uint8_t *to, size_t count)
{
    size_t have = (size_t)(l->written - l->read), at = l->read % ROOM;
    count = count < have ? count : have;
    size_t first = count < ROOM - at ? count : ROOM - at;
    memcpy(to, l->data + at, first);
    memcpy(to + first, l->data, count - first);
    l->read += count;
    return count;
}

static ssize_t on_read(void *ctx, const struct iovec *iov, unsigned count, uint64_t until,
                       struct err *err)
{
    struct wire_end *e = ctx;
    struct fake_wire *w = e->wire;
    struct lane *l = &w->lanes[!e->number];
    ssize_t n = 0;
    bool late = false;
    pthread_mutex_lock(&w->lock);
    while (!late && !w->dead[e->number] && (l->frozen || (l->written == l->read && !l->closed)))
        late = !wait_for_wire(e, until);
    bool dead = w->dead[e->number];
    for (unsigned i = 0; !dead && !l->frozen && i < count; i++)
        n += (ssize_t)get(l, iov[i].iov_base, iov[i].iov_len);
    if (n)
        wake(w);
    pthread_mutex_unlock(&w->lock);
    if (dead)
        return err_set(err, EPIPE, "this end is dead");
    return n || !late ? n : err_set(err, ETIMEDOUT, "nothing");
}

static uint64_t on_now(void *ctx)
{
    struct wire_end *e = ctx;
    pthread_mutex_lock(&e->wire->lock);
    uint64_t now = e->wire->now_ns;
    pthread_mutex_unlock(&e->wire->lock);
    return now;
}

static const struct stream_ops ops = {.write = on_write, .read = on_read, .now_ns = on_now};

void fake_wire_leave(struct fake_wire *w, unsigned end)
{
    pthread_mutex_lock(&w->lock);
    close_both(w);
    w->left_ns[end] = w->now_ns;
    w->waits_until[end] = UINT64_MAX;
    wake(w);
    pthread_mutex_unlock(&w->lock);
}

bool fake_wire_is_dead(struct fake_wire *w, unsigned end)
{
    pthread_mutex_lock(&w->lock);
    bool dead = w->dead[end];
    pthread_mutex_unlock(&w->lock);
    return dead;
}

void fake_wire_init(struct fake_wire *w, enum wire_fault fault, unsigned lane, uint64_t at)
{
    memset(w, 0, sizeof(*w));
    pthread_mutex_init(&w->lock, NULL);
    pthread_cond_init(&w->changed, NULL);
    w->now_ns = 1;
    w->fault = fault;
    w->fault_lane = lane;
    w->fault_at = at;
    for (unsigned i = 0; i < WIRE_ENDS; i++) {
        w->lanes[i].data = malloc(ROOM);
        if (!w->lanes[i].data)
            abort();
        w->ends[i] = (struct wire_end){.wire = w, .number = i};
        w->ends[i].stream = (struct stream){.ops = &ops, .ctx = &w->ends[i]};
    }
}

void fake_wire_fini(struct fake_wire *w)
{
    free(w->lanes[0].data);
    free(w->lanes[1].data);
    pthread_cond_destroy(&w->changed);
    pthread_mutex_destroy(&w->lock);
}
