/* See io.h. */
#include "machine/io.h"

#include <errno.h>
#include <signal.h>

#include "base/now.h"

static void on_due(uv_poll_t *due, int status, int events)
{
    struct io *io = due->data;
    timer_set_run(&io->timers);
}

static void on_ready(uv_poll_t *ready, int status, int events)
{
    struct io *io = ready->data;
    watch_set_run(&io->watches);
}

/* Stands still here while a pause is wanted. [io] */
static void on_wake(uv_async_t *wake)
{
    struct io *io = wake->data;
    pthread_mutex_lock(&io->lock);
    while (io->pause && !io->stop) {
        io->paused = true;
        pthread_cond_broadcast(&io->changed);
        pthread_cond_wait(&io->changed, &io->lock);
    }
    io->paused = false;
    if (io->stop)
        uv_stop(&io->loop);
    pthread_mutex_unlock(&io->lock);
}

static int poll_on(struct io *io, uv_poll_t *poll, int fd, uv_poll_cb call)
{
    int rc = uv_poll_init(&io->loop, poll, fd);
    poll->data = io;
    return rc == 0 ? uv_poll_start(poll, UV_READABLE, call) : rc;
}

static int init_sets(struct io *io, struct err *err)
{
    int rc = timer_set_init(&io->timers, now_ns, err);
    if (rc < 0)
        return rc;
    rc = watch_set_init(&io->watches, err);
    if (rc < 0)
        timer_set_fini(&io->timers);
    return rc;
}

static void fini_sets(struct io *io)
{
    watch_set_fini(&io->watches);
    timer_set_fini(&io->timers);
}

int io_init(struct io *io, struct err *err)
{
    *io = (struct io){0};
    int rc = init_sets(io, err);
    if (rc < 0)
        return rc;
    rc = uv_loop_init(&io->loop);
    if (rc < 0) {
        fini_sets(io);
        return err_set(err, -rc, "cannot make the I/O loop: %s", uv_strerror(rc));
    }
    rc = uv_async_init(&io->loop, &io->wake, on_wake);
    if (rc < 0) {
        uv_loop_close(&io->loop);
        fini_sets(io);
        return err_set(err, -rc, "cannot make the I/O loop's wake-up: %s", uv_strerror(rc));
    }
    /* From here on io_fini can undo it all. */
    pthread_mutex_init(&io->lock, NULL);
    pthread_cond_init(&io->changed, NULL);
    io->wake.data = io;
    rc = poll_on(io, &io->due, io->timers.fd, on_due);
    if (rc == 0)
        rc = poll_on(io, &io->ready, io->watches.fd, on_ready);
    if (rc < 0) {
        io_fini(io);
        return err_set(err, -rc, "cannot poll for devices: %s", uv_strerror(rc));
    }
    return 0;
}

static void *io_main(void *arg)
{
    struct io *io = arg;
    pthread_setname_np(pthread_self(), "io");
    uv_run(&io->loop, UV_RUN_DEFAULT);
    return NULL;
}

int io_start(struct io *io, struct err *err)
{
    sigset_t all, before;
    /* Signals are for the other threads. */
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &before);
    int rc = pthread_create(&io->thread, NULL, io_main, io);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (rc != 0)
        return err_sys(err, rc, "cannot start the I/O thread");
    io->started = true;
    return 0;
}

void io_pause(struct io *io)
{
    pthread_mutex_lock(&io->lock);
    io->pause = true;
    uv_async_send(&io->wake);
    while (io->started && !io->paused)
        pthread_cond_wait(&io->changed, &io->lock);
    pthread_mutex_unlock(&io->lock);
}

void io_resume(struct io *io)
{
    pthread_mutex_lock(&io->lock);
    io->pause = false;
    pthread_cond_broadcast(&io->changed);
    pthread_mutex_unlock(&io->lock);
}

static void close_handle(uv_handle_t *handle, void *arg)
{
    if (!uv_is_closing(handle))
        uv_close(handle, NULL);
}

void io_fini(struct io *io)
{
    if (io->started) {
        pthread_mutex_lock(&io->lock);
        io->stop = true;
        pthread_cond_broadcast(&io->changed);
        pthread_mutex_unlock(&io->lock);
        uv_async_send(&io->wake);
        pthread_join(io->thread, NULL);
    }
    uv_walk(&io->loop, close_handle, NULL);
    uv_run(&io->loop, UV_RUN_DEFAULT);
    uv_loop_close(&io->loop);
    pthread_cond_destroy(&io->changed);
    pthread_mutex_destroy(&io->lock);
    fini_sets(io);
}
