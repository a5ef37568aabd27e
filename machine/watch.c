/* See watch.h. */
#include "machine/watch.h"

#include <errno.h>
#include <unistd.h>

int watch_set_init(struct watch_set *set, struct err *err)
{
    *set = (struct watch_set){.fd = epoll_create1(EPOLL_CLOEXEC)};
    if (set->fd < 0)
        return err_sys(err, errno, "cannot make an epoll descriptor");
    pthread_mutex_init(&set->lock, NULL);
    pthread_cond_init(&set->done, NULL);
    return 0;
}

void watch_set_fini(struct watch_set *set)
{
    close(set->fd);
    set->fd = -1;
    pthread_cond_destroy(&set->done);
    pthread_mutex_destroy(&set->lock);
}

static void call(struct watch_set *set, struct watch *w)
{
    set->running = w;
    pthread_mutex_unlock(&set->lock);
    w->ready(w->owner);
    pthread_mutex_lock(&set->lock);
    set->running = NULL;
    pthread_cond_broadcast(&set->done);
}

void watch_set_run(struct watch_set *set)
{
    pthread_mutex_lock(&set->lock);
    set->count = epoll_wait(set->fd, set->batch, WATCH_BATCH, 0);
    for (set->at = 0; set->at < set->count;) {
        struct watch *w = set->batch[set->at++].data.ptr;
        if (w)
            call(set, w);
    }
    set->at = set->count = 0;
    pthread_mutex_unlock(&set->lock);
}

int watch_add(struct watch *w, struct watch_set *set, int fd, void (*ready)(void *owner),
              void *owner, struct err *err)
{
    struct epoll_event event = {.events = EPOLLIN | EPOLLET, .data.ptr = w};
    *w = (struct watch){.fd = fd, .ready = ready, .owner = owner};
    if (epoll_ctl(set->fd, EPOLL_CTL_ADD, fd, &event) < 0)
        return err_sys(err, errno, "cannot watch a descriptor");
    w->set = set;
    return 0;
}

/* It may be in the batch that is being worked off, behind the one that runs. */
static void forget(struct watch_set *set, const struct watch *w)
{
    for (int i = set->at; i < set->count; i++)
        if (set->batch[i].data.ptr == w)
            set->batch[i].data.ptr = NULL;
}

void watch_remove(struct watch *w)
{
    struct watch_set *set = w->set;
    if (!set)
        return;
    pthread_mutex_lock(&set->lock);
    epoll_ctl(set->fd, EPOLL_CTL_DEL, w->fd, NULL);
    forget(set, w);
    while (set->running == w)
        pthread_cond_wait(&set->done, &set->lock);
    pthread_mutex_unlock(&set->lock);
    w->set = NULL;
}
