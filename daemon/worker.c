/* See worker.h. */
#include "daemon/worker.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "base/now.h"
#include "daemon/record.h"
#include "daemon/worker_console.h"
#include "daemon/worker_receive.h"
#include "daemon/worker_restore.h"
#include "daemon/worker_session.h"
#include "daemon/worker_status.h"
#include "machine/msrs.h"

#define WORKER_BACKLOG 8
#define WORKER_FLUSH_MS 1000 /* how long the last news may take to leave */
#define RESET_LOG_NS 1000000000ull

#define TO(state) SM_TO(FERRY__WORKER_STATE__WORKER_##state)

static const struct sm_state life[] = {
    [FERRY__WORKER_STATE__WORKER_NEW] = {"new",
                                         TO(RUNNING) | TO(PAUSED) | TO(INCOMING) | TO(ENDED)},
    [FERRY__WORKER_STATE__WORKER_RUNNING] = {"running",
                                             TO(PAUSED) | TO(FAILED) | TO(MOVING) | TO(ENDED)},
    [FERRY__WORKER_STATE__WORKER_PAUSED] = {"paused",
                                            TO(RUNNING) | TO(FAILED) | TO(MOVING) | TO(ENDED)},
    [FERRY__WORKER_STATE__WORKER_FAILED] = {"failed", TO(RUNNING) | TO(ENDED)},
    [FERRY__WORKER_STATE__WORKER_ENDED] = {"ended", 0},
    [FERRY__WORKER_STATE__WORKER_INCOMING] = {"incoming", TO(RUNNING) | TO(PAUSED) | TO(ENDED)},
    [FERRY__WORKER_STATE__WORKER_MOVING] = {"moving",
                                            TO(RUNNING) | TO(PAUSED) | TO(IN_DOUBT) | TO(ENDED)},
    [FERRY__WORKER_STATE__WORKER_IN_DOUBT] = {"in doubt", TO(RUNNING) | TO(PAUSED) | TO(ENDED)},
};

/* The record comes first: what was told to nobody is still found there. */
static void tell(struct worker *w)
{
    struct worker_status_storage storage;
    struct err err = {0};
    Ferry__WorkerStatus status = FERRY__WORKER_STATUS__INIT;
    worker_status(w, &status, &storage);
    pthread_mutex_lock(&w->record_lock);
    if (record_write(w->record_fd, ++w->record_seq, &status, &err) < 0)
        log_error("%s", err.text);
    pthread_mutex_unlock(&w->record_lock);
    session_tell_status(w, &status);
}

void worker_enter(struct worker *w, unsigned state)
{
    char from[16];
    snprintf(from, sizeof(from), "%s", sm_name(&w->life));
    if (sm_move(&w->life, state) < 0) {
        log_error("no way from %s to state %u", from, state);
        return;
    }
    log_info("%s -> %s", from, sm_name(&w->life));
    tell(w);
}

static bool is(const struct worker *w, unsigned state)
{
    return w->life.now == state;
}

/* [vcpu] The first event wins: what follows it is its consequence. */
static void on_stopped(void *ctx, const struct report *report)
{
    struct worker *w = ctx;
    pthread_mutex_lock(&w->event_lock);
    if (!w->has_event) {
        w->has_event = true;
        w->event = *report;
    }
    pthread_mutex_unlock(&w->event_lock);
    uv_async_send(&w->woken);
}

/* [any] */
static void on_warning(void *ctx, const char *text)
{
    log_warn("%s", text);
}

/* [vcpu] */
static void on_console_output(void *ctx)
{
    struct worker *w = ctx;
    if (atomic_load(&w->watchers))
        uv_async_send(&w->woken);
}

/* [vcpu] */
static void on_console_room(void *ctx)
{
    struct worker *w = ctx;
    uv_async_send(&w->woken);
}

static const struct console_ops console_ops = {
    .output = on_console_output,
    .input_room = on_console_room,
};

static bool take_event(struct worker *w, struct report *event)
{
    pthread_mutex_lock(&w->event_lock);
    bool has = w->has_event;
    *event = w->event;
    w->has_event = false;
    pthread_mutex_unlock(&w->event_lock);
    return has;
}

static void remember_ending(struct worker *w, const struct report *report)
{
    char line[700];
    w->ending = *report;
    w->ending_wall_ns = now_wall_ns();
    ending_line(report, line, sizeof(line));
    if (report->kind == REPORT_SHUTDOWN)
        log_info("%s", line);
    else
        log_error("guest stopped: %s", line);
}

bool worker_has_event(struct worker *w)
{
    pthread_mutex_lock(&w->event_lock);
    bool has = w->has_event;
    pthread_mutex_unlock(&w->event_lock);
    return has;
}

/* The guest runs when its state says so and no job holds it. One that met the end of its road while
 * it was being paused goes no further: the loop is about to hear of it. */
void worker_settle(struct worker *w)
{
    if (is(w, FERRY__WORKER_STATE__WORKER_RUNNING) && w->holds == 0 && !worker_has_event(w))
        machine_resume(w->machine);
    else
        machine_pause(w->machine);
}

/* No job uses the machine from here on; what they held is held no more. */
static void expel_jobs(struct worker *w)
{
    worker_jobs_expel(&w->jobs);
    w->holds = 0;
}

int worker_hold(struct worker *w, struct err *err)
{
    w->holds++;
    worker_settle(w);
    return 0;
}

int worker_release(struct worker *w, struct err *err)
{
    w->holds--;
    worker_settle(w);
    return 0;
}

int worker_tell(struct worker *w, struct err *err)
{
    tell(w);
    return 0;
}

int worker_untrack(struct worker *w, struct err *err)
{
    int rc = chain_untrack(&w->chain, machine_dirty(w->machine), err);
    if (rc == 0)
        tell(w);
    return rc;
}

/* Takes the guest apart and ends the loop once the sessions have heard of it. */
static void end(struct worker *w)
{
    if (is(w, FERRY__WORKER_STATE__WORKER_ENDED))
        return;
    expel_jobs(w);
    if (w->machine)
        chain_cut(&w->chain, machine_dirty(w->machine), "ended");
    machine_free(w->machine);
    w->machine = NULL;
    worker_console_wake(w);
    worker_enter(w, FERRY__WORKER_STATE__WORKER_ENDED);
    session_close_all(w);
    worker_jobs_close(&w->jobs);
    if (w->has_listener)
        uv_close((uv_handle_t *)&w->listener, NULL);
    uv_close((uv_handle_t *)&w->woken, NULL);
}

/* Other vCPUs may have met an end of their own before they were parked: those tell nothing more. */
static void freeze(struct worker *w)
{
    struct report later;
    machine_pause(w->machine);
    take_event(w, &later);
    worker_enter(w, FERRY__WORKER_STATE__WORKER_FAILED);
}

static int rebuild(struct worker *w, const char *by, struct err *err);

/* A guest that resets itself in a loop makes a line a second, and leaves the others readable. */
static void log_reset(struct worker *w, const char *by)
{
    uint64_t now = now_ns();
    if (w->reset_logged_ns && now - w->reset_logged_ns < RESET_LOG_NS)
        return;
    w->reset_logged_ns = now;
    log_info("%s, reset number %u", by, w->resets + 1);
}

/* A guest that was paused just when it reset itself stays paused: nobody asked it to run. */
static void guest_reset(struct worker *w, const char *by)
{
    struct err err = {0};
    log_reset(w, by);
    if (rebuild(w, by, &err) < 0) {
        log_error("%s", err.text);
        end(w);
    } else if (is(w, FERRY__WORKER_STATE__WORKER_RUNNING)) {
        machine_resume(w->machine);
    }
}

/* What it would boot from was gone already when it was restored. */
static void stand_without_kernel(struct worker *w, const char *by)
{
    struct report report = {.kind = REPORT_INTERNAL_ERROR};
    snprintf(report.text, sizeof(report.text),
             "%.60s, but its kernel '%.80s' was not there when it was restored", by,
             w->config->kernel);
    remember_ending(w, &report);
    freeze(w);
}

static void on_event(struct worker *w, const struct report *event)
{
    if (!w->machine)
        return;
    switch (event->kind) {
    case REPORT_RESET:
        if (w->kernel_fd >= 0)
            guest_reset(w, event->text);
        else
            stand_without_kernel(w, event->text);
        break;
    case REPORT_SHUTDOWN:
        remember_ending(w, event);
        end(w);
        break;
    default:
        remember_ending(w, event);
        freeze(w);
    }
}

void worker_post_end(struct worker *w, enum worker_end why, const struct report *report)
{
    pthread_mutex_lock(&w->event_lock);
    w->posted_end = why;
    w->posted = *report;
    pthread_mutex_unlock(&w->event_lock);
    uv_async_send(&w->woken);
}

/* Whoever waits for the start of a guest that did not arrive hears why. */
static void take_posted_end(struct worker *w)
{
    struct err err = {0};
    pthread_mutex_lock(&w->event_lock);
    enum worker_end why = w->posted_end;
    struct report report = w->posted;
    w->posted_end = WORKER_END_NONE;
    pthread_mutex_unlock(&w->event_lock);
    if (why == WORKER_END_NONE || !w->machine)
        return;
    w->move.is_moved = why == WORKER_END_MOVED;
    if (why == WORKER_END_NOT_ARRIVED) {
        err_set(&err, ECONNABORTED, "%s", report.text);
        session_answer_start(w, &err);
    }
    remember_ending(w, &report);
    end(w);
}

static void on_woken(uv_async_t *handle)
{
    struct worker *w = handle->data;
    struct report event;
    /* A guest that has just come is announced first. */
    if (!is(w, FERRY__WORKER_STATE__WORKER_INCOMING) && take_event(w, &event))
        on_event(w, &event);
    worker_jobs_run_calls(&w->jobs);
    take_posted_end(w);
    worker_console_wake(w);
}

/* What a machine is built from, the first time and at each reset. */
struct plan {
    struct machine_config config;
    struct machine_host host;
};

static struct plan make_plan(struct worker *w)
{
    return (struct plan){
        .config =
            {
                .memory_bytes = w->config->memory_bytes,
                .cpus = w->config->cpus,
                .cpu_profile = w->config->cpu_profile,
                .cmdline = w->config->cmdline,
                .kernel_fd = w->kernel_fd,
                .initrd_fd = w->initrd_fd,
                .devices = w->devices.wishes,
                .ndevices = w->devices.count,
            },
        .host =
            {
                .kvm = &w->kvm,
                .console = &w->console,
                .counters = &w->counters,
                .stopped = on_stopped,
                .warn = on_warning,
                .ctx = w,
            },
    };
}

int worker_negotiate(const Ferry__WorkerHello *theirs, Ferry__WorkerHello *ours, struct err *err)
{
    uint32_t top =
        theirs->max_version < WORKER_PROTOCOL_MAX ? theirs->max_version : WORKER_PROTOCOL_MAX;
    if (top < WORKER_PROTOCOL_MIN || top < theirs->min_version)
        return err_set(err, EPROTONOSUPPORT,
                       "this worker speaks versions %d to %d of the protocol, not %u to %u",
                       WORKER_PROTOCOL_MIN, WORKER_PROTOCOL_MAX, theirs->min_version,
                       theirs->max_version);
    ours->min_version = ours->max_version = top;
    ours->release = FERRY_VERSION;
    ours->pid = (uint32_t)getpid();
    return 0;
}

int worker_pause(struct worker *w, struct err *err)
{
    machine_pause(w->machine); /* before it is told, not after */
    worker_enter(w, FERRY__WORKER_STATE__WORKER_PAUSED);
    return 0;
}

int worker_resume(struct worker *w, struct err *err)
{
    worker_enter(w, FERRY__WORKER_STATE__WORKER_RUNNING);
    worker_settle(w);
    return 0;
}

/* On failure there is no machine any more, and the ending says why. */
static int rebuild(struct worker *w, const char *by, struct err *err)
{
    struct report stale;
    struct plan plan = make_plan(w);
    expel_jobs(w);
    chain_cut(&w->chain, machine_dirty(w->machine), "reset");
    w->machine = machine_reset(w->machine, &plan.config, &plan.host, err);
    worker_restore_free(steal_ptr(&w->restored)); /* nothing comes out of it any more */
    take_event(w, &stale);                        /* of the machine that is gone */
    if (!w->machine) {
        err_wrap(err, "the machine cannot be built again after a reset");
        struct report report = {.kind = REPORT_INTERNAL_ERROR};
        snprintf(report.text, sizeof(report.text), "%.190s", err->text);
        remember_ending(w, &report);
        return -err->code;
    }
    worker_jobs_admit(&w->jobs);
    w->resets++;
    w->boot_wall_ns = now_wall_ns();
    w->ending = (struct report){0};
    w->ending_wall_ns = 0;
    session_tell_reset(w, by);
    tell(w); /* what is the guest's history no more */
    return 0;
}

int worker_reset(struct worker *w, const char *by, struct err *err)
{
    if (w->kernel_fd < 0)
        return err_set(err, ENOENT, "its kernel '%.300s' was not there when it was restored",
                       w->config->kernel);
    int rc = rebuild(w, by, err);
    if (rc < 0)
        return rc;
    if (!is(w, FERRY__WORKER_STATE__WORKER_RUNNING))
        worker_enter(w, FERRY__WORKER_STATE__WORKER_RUNNING);
    worker_settle(w);
    return 0;
}

void worker_quit(struct worker *w)
{
    end(w);
}

/* 1 when there is one. */
static int take_generation(const Ferry__WorkerStart *start, struct uuid *to, struct err *err)
{
    const ProtobufCBinaryData *from = &start->generation;
    if (from->len && from->len != sizeof(to->bytes))
        return err_set(err, EINVAL, "the generation has %zu bytes, not %zu", from->len,
                       sizeof(to->bytes));
    if (from->len)
        memcpy(to->bytes, from->data, sizeof(to->bytes));
    return from->len > 0;
}

static void tell_msrs(const struct msr_list *msrs)
{
    if (msrs->refused)
        log_info("KVM names %u MSRs that it does not give, first 0x%x: they are not saved",
                 msrs->refused, msrs->first_refused);
}

static int build_first(struct worker *w, const Ferry__WorkerStart *start, struct fds *fds,
                       unsigned at, struct err *err)
{
    struct plan plan = make_plan(w);
    struct uuid generation;
    int rc = take_generation(start, &generation, err);
    if (rc > 0)
        plan.config.generation = &generation;
    if (rc >= 0 && start->restore) {
        w->restored = worker_restore_open(w, start->restore, fds, at, err);
        plan.config.saved = w->restored ? &w->restored->saved : NULL;
        rc = w->restored ? 0 : -err->code;
        chain_set_lineage(&w->chain, start->restore->lineage, start->restore->n_lineage);
    }
    if (rc >= 0 && start->incoming) {
        plan.config.empty = true;
        rc = worker_receive_take(w, start->incoming, fds, at, err);
    }
    if (rc >= 0)
        w->machine = machine_new(&plan.config, &plan.host, err);
    if (w->machine)
        tell_msrs(machine_msrs(w->machine));
    if (w->machine && w->restored)
        worker_restore_built(w->restored);
    return w->machine ? 0 : -err->code;
}

int worker_init(struct worker *w, Ferry__WorkerStart *start, struct fds *fds, struct err *err)
{
    Ferry__MachineConfig *config = start->config;
    unsigned i = 0;
    memset(w, 0, sizeof(*w));
    sm_init(&w->life, life, sizeof(life) / sizeof(life[0]), FERRY__WORKER_STATE__WORKER_NEW);
    pthread_mutex_init(&w->event_lock, NULL);
    pthread_mutex_init(&w->record_lock, NULL);
    w->config = config;
    start->config = NULL;
    bool boots = !start->restore || !start->restore->without_kernel;
    chain_init(&w->chain);
    w->peer_fd = w->ownership.fd = -1;
    w->kvm_fd = fds_take(fds, i++);
    w->kernel_fd = boots ? fds_take(fds, i++) : -1;
    w->initrd_fd = boots && config->initrd[0] ? fds_take(fds, i++) : -1;
    w->listen_fd = fds_take(fds, i++);
    w->record_fd = fds_take(fds, i++);
    w->console_fd = fds_take(fds, i++);
    int jobs_fd = fds_take(fds, i++);
    int rc = jobs_fd < 0 ? err_set(err, EINVAL, "the start request came with too few descriptors")
                         : console_init_file(&w->console, w->console_fd, &console_ops, w, err);
    if (rc == 0)
        rc = kvm_init(&w->kvm, w->kvm_fd, err);
    if (rc == 0)
        rc = worker_devices_init(&w->devices, config,
                                 start->restore ? start->restore->other_disks : 0, fds, &i, err);
    if (rc == 0)
        rc = uv_loop_init(&w->loop) < 0 ? err_set(err, ENOMEM, "cannot make an event loop") : 0;
    if (rc == 0) {
        /* Before the machine: its vCPUs send to it. */
        uv_async_init(&w->loop, &w->woken, on_woken);
        w->woken.data = w;
        rc = worker_jobs_init(&w->jobs, w, jobs_fd, err);
    }
    if (rc == 0)
        rc = build_first(w, start, fds, i, err);
    w->boot_wall_ns = now_wall_ns();
    return rc;
}

static void on_connection(uv_stream_t *server, int status)
{
    struct worker *w = server->data;
    struct err err = {0};
    if (status == 0 && session_accept(w, server, &err) < 0)
        log_warn("%s", err.text);
}

static int listen_for_ferryd(struct worker *w, struct err *err)
{
    uv_pipe_init(&w->loop, &w->listener, 0);
    w->listener.data = w;
    w->has_listener = true;
    int rc = uv_pipe_open(&w->listener, w->listen_fd);
    if (rc == 0) {
        w->listen_fd = -1; /* libuv's now */
        rc = uv_listen((uv_stream_t *)&w->listener, WORKER_BACKLOG, on_connection);
    }
    return rc < 0 ? err_sys(err, -rc, "cannot listen for ferryd") : 0;
}

static void give_up_flushing(uv_timer_t *timer)
{
    uv_stop(timer->loop);
}

int worker_run(struct worker *w, int first, bool paused, struct err *err)
{
    int rc = listen_for_ferryd(w, err);
    if (rc == 0)
        rc = session_open(w, first, err);
    if (rc < 0)
        return rc;
    w->sessions->start_id = w->start_id;
    if (w->peer_fd >= 0)
        rc = worker_receive_start(w, err);
    else if (paused)
        worker_enter(w, FERRY__WORKER_STATE__WORKER_PAUSED);
    else
        worker_resume(w, err);
    if (rc < 0)
        return rc;
    while (!is(w, FERRY__WORKER_STATE__WORKER_ENDED))
        uv_run(&w->loop, UV_RUN_ONCE);
    uv_timer_init(&w->loop, &w->patience);
    uv_timer_start(&w->patience, give_up_flushing, WORKER_FLUSH_MS, 0);
    uv_unref((uv_handle_t *)&w->patience);
    uv_run(&w->loop, UV_RUN_DEFAULT);
    return 0;
}

static void close_fd(int *fd)
{
    if (*fd > 0)
        close(*fd);
    *fd = -1;
}

void worker_fini(struct worker *w)
{
    machine_free(w->machine);
    worker_restore_free(w->restored);
    worker_devices_fini(&w->devices);
    console_fini(&w->console);
    close_fd(&w->kvm_fd);
    close_fd(&w->kernel_fd);
    close_fd(&w->initrd_fd);
    close_fd(&w->listen_fd);
    close_fd(&w->record_fd);
    close_fd(&w->console_fd);
    close_fd(&w->jobs.listener);
    chain_fini(&w->chain);
    close_fd(&w->peer_fd);
    ownership_close(&w->ownership);
    worker_receive_fini(w);
    frame_free(w->config ? &w->config->base : NULL);
    pthread_mutex_destroy(&w->event_lock);
    pthread_mutex_destroy(&w->record_lock);
}
