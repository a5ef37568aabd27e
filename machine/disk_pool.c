/* See disk.h: requests by a few threads that block, for hosts without io_uring. */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/eventfd.h>

#include "machine/disk.h"

#define THREADS 4

struct list {
    struct disk_op *first, **last;
};

struct pool {
    const struct disk *disk; /* borrowed */
    pthread_mutex_t lock;
    pthread_cond_t work, ended;
    struct list waiting, done; /* locked, as the rest */
    bool stop;
    pthread_t threads[THREADS];
    unsigned started;
};

static void list_init(struct list *l)
{
    *l = (struct list){.last = &l->first};
}

static void list_put(struct list *l, struct disk_op *op)
{
    op->next = NULL;
    *l->last = op;
    l->last = &op->next;
}

static struct disk_op *list_take(struct list *l)
{
    struct disk_op *op = l->first;
    if (!op)
        return NULL;
    l->first = op->next;
    if (!l->first)
        l->last = &l->first;
    return op;
}

static void *pool_main(void *arg)
{
    struct pool *p = arg;
    struct disk_op *op;
    pthread_setname_np(pthread_self(), "disk");
    pthread_mutex_lock(&p->lock);
    for (;;) {
        while (!(op = list_take(&p->waiting)) && !p->stop)
            pthread_cond_wait(&p->work, &p->lock);
        if (!op)
            break;
        pthread_mutex_unlock(&p->lock);
        op->result = disk_do(p->disk, op);
        pthread_mutex_lock(&p->lock);
        list_put(&p->done, op);
        pthread_cond_signal(&p->ended);
        eventfd_write(p->disk->event_fd, 1);
    }
    pthread_mutex_unlock(&p->lock);
    return NULL;
}

static void pool_fini(struct disk *d)
{
    struct pool *p = d->data;
    pthread_mutex_lock(&p->lock);
    p->stop = true;
    pthread_cond_broadcast(&p->work);
    pthread_mutex_unlock(&p->lock);
    for (unsigned i = 0; i < p->started; i++)
        pthread_join(p->threads[i], NULL);
    pthread_cond_destroy(&p->work);
    pthread_cond_destroy(&p->ended);
    pthread_mutex_destroy(&p->lock);
    free(p);
}

/* Signals are for the other threads. */
static int start_threads(struct pool *p)
{
    sigset_t all, before;
    int rc = 0;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &before);
    for (; rc == 0 && p->started < THREADS; p->started += rc == 0)
        rc = pthread_create(&p->threads[p->started], NULL, pool_main, p);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return p->started ? 0 : rc;
}

static int pool_init(struct disk *d, struct err *err)
{
    struct pool *p = calloc(1, sizeof(*p));
    if (!p)
        return err_set(err, ENOMEM, "no memory for disk threads");
    p->disk = d;
    list_init(&p->waiting);
    list_init(&p->done);
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->work, NULL);
    pthread_cond_init(&p->ended, NULL);
    d->data = p;
    int rc = start_threads(p);
    if (rc == 0)
        return 0;
    pool_fini(d);
    return err_sys(err, rc, "cannot start disk threads");
}

static void pool_queue(struct disk *d, struct disk_op *op)
{
    struct pool *p = d->data;
    pthread_mutex_lock(&p->lock);
    list_put(&p->waiting, op);
    pthread_cond_signal(&p->work);
    pthread_mutex_unlock(&p->lock);
}

static void pool_kick(struct disk *d)
{
}

static struct disk_op *pool_reap(struct disk *d, bool wait)
{
    struct pool *p = d->data;
    struct disk_op *op;
    pthread_mutex_lock(&p->lock);
    while (!(op = list_take(&p->done)) && wait)
        pthread_cond_wait(&p->ended, &p->lock);
    pthread_mutex_unlock(&p->lock);
    return op;
}

const struct disk_engine disk_pool = {
    .name = "threads",
    .init = pool_init,
    .fini = pool_fini,
    .queue = pool_queue,
    .kick = pool_kick,
    .reap = pool_reap,
};
