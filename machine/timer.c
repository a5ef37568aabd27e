/* See timer.h. */
#include "machine/timer.h"

#include <errno.h>
#include <sys/timerfd.h>
#include <unistd.h>

int timer_set_init(struct timer_set *set, uint64_t (*clock_ns)(void), struct err *err)
{
    *set = (struct timer_set){.clock_ns = clock_ns};
    set->fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    if (set->fd < 0)
        return err_sys(err, errno, "cannot make a timer descriptor");
    pthread_mutex_init(&set->lock, NULL);
    pthread_cond_init(&set->fired, NULL);
    return 0;
}

void timer_set_fini(struct timer_set *set)
{
    close(set->fd);
    set->fd = -1;
    pthread_cond_destroy(&set->fired);
    pthread_mutex_destroy(&set->lock);
}

uint64_t timer_now(const struct timer_set *set)
{
    return set->clock_ns();
}

/* Makes the descriptor say when the first timer is due. Under the lock. */
static void program(struct timer_set *set)
{
    uint64_t at = 0;
    if (set->armed)
        at = set->armed->deadline_ns ? set->armed->deadline_ns : 1;
    if (at == set->programmed_ns)
        return;
    struct itimerspec spec = {
        .it_value = {.tv_sec = (time_t)(at / 1000000000u), .tv_nsec = (long)(at % 1000000000u)}};
    timerfd_settime(set->fd, TFD_TIMER_ABSTIME, &spec, NULL);
    set->programmed_ns = at;
}

static void unlink_timer(struct timer *t)
{
    struct timer **at = &t->set->armed;
    if (!t->armed)
        return;
    while (*at != t)
        at = &(*at)->next;
    *at = t->next;
    t->armed = false;
}

void timer_init(struct timer *t, struct timer_set *set, void (*fire)(void *owner), void *owner)
{
    *t = (struct timer){.set = set, .fire = fire, .owner = owner};
}

void timer_arm(struct timer *t, uint64_t deadline_ns)
{
    struct timer_set *set = t->set;
    pthread_mutex_lock(&set->lock);
    unlink_timer(t);
    struct timer **at = &set->armed;
    while (*at && (*at)->deadline_ns <= deadline_ns)
        at = &(*at)->next;
    t->deadline_ns = deadline_ns;
    t->next = *at;
    t->armed = true;
    *at = t;
    program(set);
    pthread_mutex_unlock(&set->lock);
}

void timer_cancel(struct timer *t)
{
    pthread_mutex_lock(&t->set->lock);
    unlink_timer(t);
    program(t->set);
    pthread_mutex_unlock(&t->set->lock);
}

void timer_fini(struct timer *t)
{
    pthread_mutex_lock(&t->set->lock);
    /* A fire under way may arm again: only after it is the timer gone for good. */
    while (t->set->firing == t)
        pthread_cond_wait(&t->set->fired, &t->set->lock);
    unlink_timer(t);
    program(t->set);
    pthread_mutex_unlock(&t->set->lock);
}

static void fire_first(struct timer_set *set)
{
    struct timer *t = set->armed;
    unlink_timer(t);
    set->firing = t;
    pthread_mutex_unlock(&set->lock);
    t->fire(t->owner);
    pthread_mutex_lock(&set->lock);
    set->firing = NULL;
    pthread_cond_broadcast(&set->fired);
}

void timer_set_run(struct timer_set *set)
{
    uint64_t expirations;
    pthread_mutex_lock(&set->lock);
    if (read(set->fd, &expirations, sizeof(expirations)) > 0)
        set->programmed_ns = 0;
    /* Only what is due now: a timer that arms itself again waits for the next round. */
    uint64_t now = set->clock_ns();
    while (set->armed && set->armed->deadline_ns <= now)
        fire_first(set);
    program(set);
    pthread_mutex_unlock(&set->lock);
}
