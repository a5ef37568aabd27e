/* See worker_throttle.h. */
#include "daemon/worker_throttle.h"

#include <time.h>

#include "daemon/worker.h"

void throttle_init(struct throttle *t, struct job *job)
{
    pthread_condattr_t attr;
    *t = (struct throttle){.job = job};
    pthread_mutex_init(&t->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&t->changed, &attr);
    pthread_condattr_destroy(&attr);
}

void throttle_fini(struct throttle *t)
{
    throttle_stop(t);
    pthread_cond_destroy(&t->changed);
    pthread_mutex_destroy(&t->lock);
}

/* Waits for this part of a period, in percent; false when it is over. */
static bool wait_part(struct throttle *t, unsigned percent)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    long ns = until.tv_nsec + (long)percent * THROTTLE_PERIOD_MS * 10000;
    until.tv_sec += ns / 1000000000;
    until.tv_nsec = ns % 1000000000;
    pthread_mutex_lock(&t->lock);
    while (!t->stop && pthread_cond_timedwait(&t->changed, &t->lock, &until) == 0) {
    }
    bool go_on = !t->stop;
    pthread_mutex_unlock(&t->lock);
    return go_on;
}

static unsigned percent_of(struct throttle *t)
{
    pthread_mutex_lock(&t->lock);
    unsigned percent = t->percent;
    pthread_mutex_unlock(&t->lock);
    return percent;
}

/* A machine that is being taken apart refuses the calls, and then forgets what was held. */
static void *thread_main(void *arg)
{
    struct throttle *t = arg;
    struct err ignored;
    bool go_on = true;
    pthread_setname_np(pthread_self(), "throttle");
    while (go_on) {
        unsigned percent = percent_of(t);
        if (job_call_loop(t->job, worker_hold, &ignored) < 0)
            return NULL;
        go_on = wait_part(t, percent);
        if (job_call_loop(t->job, worker_release, &ignored) < 0)
            return NULL;
        go_on = go_on && wait_part(t, 100 - percent);
    }
    return NULL;
}

int throttle_set(struct throttle *t, unsigned percent, struct err *err)
{
    pthread_mutex_lock(&t->lock);
    t->percent = percent;
    pthread_mutex_unlock(&t->lock);
    if (t->runs)
        return 0;
    t->stop = false;
    int rc = pthread_create(&t->thread, NULL, thread_main, t);
    t->runs = rc == 0;
    return rc ? err_sys(err, rc, "cannot slow the guest down") : 0;
}

void throttle_stop(struct throttle *t)
{
    if (!t->runs)
        return;
    pthread_mutex_lock(&t->lock);
    t->stop = true;
    pthread_cond_broadcast(&t->changed);
    pthread_mutex_unlock(&t->lock);
    pthread_join(t->thread, NULL);
    t->runs = false;
}
