/* See crew.h. */
#include "migrate/crew.h"

#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "base/crc32c.h"
#include "base/now.h"
#include "vmstate/pack.h"

#define FRAME_BYTES ((size_t)WIRE_PAGES_MAX * WIRE_PAGE)

unsigned crew_threads(void)
{
    cpu_set_t set;
    int count = sched_getaffinity(0, sizeof(set), &set) == 0 ? CPU_COUNT(&set) : 2;
    return count <= 2 ? 1 : count > (int)CREW_THREADS_MAX ? CREW_THREADS_MAX : (unsigned)count - 1;
}

/* Unpacking is worth it only when it is less by a sixteenth. */
static void pack(struct packer *p, bool able, struct crew_slot *s)
{
    struct err ignored; /* what cannot be packed goes as it is */
    size_t bytes = s->npages * (size_t)WIRE_PAGE;
    uint64_t began = now_ns();
    for (unsigned i = 0; i < s->npages; i++)
        s->crcs[i] = crc32c(0, s->pages + i * (size_t)WIRE_PAGE, WIRE_PAGE);
    ssize_t n =
        able ? packer_pack(p, s->pages, bytes, s->packed, packer_bound(FRAME_BYTES), &ignored) : 0;
    s->packed_bytes = n > 0 && (size_t)n < bytes - bytes / 16 ? (size_t)n : 0;
    s->took_ns = now_ns() - began;
}

static void *thread_main(void *arg)
{
    struct crew *c = arg;
    struct packer packer;
    struct err ignored;
    bool able = packer_init(&packer, 0, &ignored) == 0;
    pthread_setname_np(pthread_self(), "pack");
    pthread_mutex_lock(&c->lock);
    while (!c->stop) {
        if (c->begun == c->given) {
            pthread_cond_wait(&c->changed, &c->lock);
            continue;
        }
        struct crew_slot *s = &c->slots[c->begun++ % c->nslots];
        pthread_mutex_unlock(&c->lock);
        pack(&packer, able, s);
        pthread_mutex_lock(&c->lock);
        s->done = true;
        pthread_cond_broadcast(&c->changed);
    }
    pthread_mutex_unlock(&c->lock);
    packer_fini(&packer);
    return NULL;
}

static int make_slots(struct crew *c, struct err *err)
{
    for (unsigned i = 0; i < c->nslots; i++) {
        c->slots[i].pages = malloc(FRAME_BYTES);
        c->slots[i].packed = malloc(packer_bound(FRAME_BYTES));
        if (!c->slots[i].pages || !c->slots[i].packed)
            return err_set(err, ENOMEM, "no memory to pack with");
    }
    return 0;
}

static int start(struct crew *c, unsigned threads, struct err *err)
{
    int rc = make_slots(c, err);
    for (; rc == 0 && c->nthreads < threads; c->nthreads++) {
        int failed = pthread_create(&c->threads[c->nthreads], NULL, thread_main, c);
        if (failed)
            return err_sys(err, failed, "cannot start a thread that packs");
    }
    return rc;
}

struct crew *crew_new(unsigned threads, struct err *err)
{
    struct crew *c = calloc(1, sizeof(*c));
    if (!c) {
        err_set(err, ENOMEM, "no memory to pack with");
        return NULL;
    }
    c->nslots = 2 * threads + 1;
    pthread_mutex_init(&c->lock, NULL);
    pthread_cond_init(&c->changed, NULL);
    if (start(c, threads, err) == 0)
        return c;
    crew_free(c);
    return NULL;
}

void crew_free(struct crew *c)
{
    if (!c)
        return;
    pthread_mutex_lock(&c->lock);
    c->stop = true;
    pthread_cond_broadcast(&c->changed);
    pthread_mutex_unlock(&c->lock);
    for (unsigned i = 0; i < c->nthreads; i++)
        pthread_join(c->threads[i], NULL);
    for (unsigned i = 0; i < c->nslots; i++) {
        free(c->slots[i].pages);
        free(c->slots[i].packed);
    }
    pthread_cond_destroy(&c->changed);
    pthread_mutex_destroy(&c->lock);
    free(c);
}

/* One stays free: what was taken last is still in use. */
bool crew_has_room(const struct crew *c)
{
    return c->given - c->taken < c->nslots - 1;
}

void crew_give(struct crew *c, const struct wire_run *runs, const struct iovec *data,
               unsigned nruns, unsigned npages)
{
    struct crew_slot *s = &c->slots[c->given % c->nslots];
    size_t at = 0;
    for (unsigned i = 0; i < nruns; at += data[i++].iov_len)
        memcpy(s->pages + at, data[i].iov_base, data[i].iov_len);
    memcpy(s->runs, runs, nruns * sizeof(*runs));
    s->nruns = nruns;
    s->npages = npages;
    s->packed_bytes = 0;
    s->done = false;
    pthread_mutex_lock(&c->lock);
    c->given++;
    pthread_cond_broadcast(&c->changed);
    pthread_mutex_unlock(&c->lock);
}

const struct crew_slot *crew_take(struct crew *c, bool wait)
{
    struct crew_slot *s = &c->slots[c->taken % c->nslots];
    if (c->taken == c->given)
        return NULL;
    pthread_mutex_lock(&c->lock);
    while (wait && !s->done)
        pthread_cond_wait(&c->changed, &c->lock);
    bool done = s->done;
    pthread_mutex_unlock(&c->lock);
    if (!done)
        return NULL;
    c->taken++;
    return s;
}
