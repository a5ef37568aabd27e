/* See worker_receive.h. */
#include "daemon/worker_receive.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "base/now.h"
#include "daemon/peer_stream.h"
#include "daemon/worker_session.h"
#include "migrate/channel.h"
#include "migrate/target.h"

struct receive_job {
    struct job *job;
    struct arrival *arrival; /* the worker's */
    struct peer_stream peer;
    struct target_report report;
};

static int on_cargo(void *ctx, struct span piece, struct err *err)
{
    struct receive_job *r = ctx;
    return cargo_take(&r->arrival->cargo, r->job->worker, piece, err);
}

static int on_load(void *ctx, struct span state, struct err *err)
{
    struct receive_job *r = ctx;
    if (!r->arrival->cargo.complete)
        return err_set(err, EPROTO, "the counters did not come");
    return machine_load(r->job->worker->machine, state, CLOCK_ADVANCE, err);
}

/* On the loop, so that ferryd's request to abandon it comes either before or too late. */
static int take(struct worker *w, struct err *err)
{
    struct arrival *a = w->arrival;
    if (a->abandoned)
        return err_set(err, ECANCELED, "it was abandoned");
    int rc =
        ownership_write(&w->ownership, FERRY__OWNER__OWNER_OURS, w->ownership.epoch, NULL, err);
    if (rc < 0)
        return rc;
    a->taken = true;
    a->taken_ns = now_ns();
    devices_arrived(machine_devices(w->machine));
    if (!a->cargo.paused)
        machine_resume(w->machine);
    return 0;
}

static int on_take_over(void *ctx, uint64_t *taken_ns, struct err *err)
{
    struct receive_job *r = ctx;
    int rc = job_call_loop(r->job, take, err);
    *taken_ns = r->arrival->taken_ns;
    return rc;
}

/* With the record synced and let go of: whoever hears of it may migrate the guest on. */
static int announce(struct worker *w, struct err *err)
{
    const struct cargo *c = &w->arrival->cargo;
    w->resets = c->resets;
    w->boot_wall_ns = c->boot_wall_ns;
    console_feed(&w->console, c->input, c->input_bytes);
    worker_enter(w, c->paused ? FERRY__WORKER_STATE__WORKER_PAUSED
                              : FERRY__WORKER_STATE__WORKER_RUNNING);
    session_answer_start(w, NULL);
    uv_async_send(&w->woken); /* for what the guest met since it runs */
    return 0;
}

/* To announce it can only fail when the worker is being ended, by request. */
static void on_settle(void *ctx)
{
    struct receive_job *r = ctx;
    struct worker *w = r->job->worker;
    struct err err = {0};
    if (ownership_sync(&w->ownership, &err) < 0)
        log_warn("%s", err.text);
    worker_move_end(w, false);
    job_call_loop(r->job, announce, &err);
}

static bool on_cancelled(void *ctx)
{
    const struct receive_job *r = ctx;
    return r->job->cancelled;
}

static unsigned on_lanes(void *ctx, const struct stream **to)
{
    struct receive_job *r = ctx;
    return arrival_lanes_get(&r->arrival->lanes, to);
}

static const struct target_ops ops = {.cargo = on_cargo,
                                      .load = on_load,
                                      .take_over = on_take_over,
                                      .settle = on_settle,
                                      .lanes = on_lanes,
                                      .is_cancelled = on_cancelled};

int worker_receive_abandon(struct worker *w, struct err *err)
{
    if (w->arrival->taken)
        return err_set(err, EALREADY, "the guest is here already");
    w->arrival->abandoned = true;
    return 0;
}

static void conclude(struct receive_job *r, int rc, const struct err *why)
{
    struct worker *w = r->job->worker;
    const struct target_report *t = &r->report;
    struct report report = {.kind = REPORT_SHUTDOWN};
    if (t->taken) {
        log_info("arrived in %u rounds, %llu MiB; load %.2f ms, commit %.2f, resume %.2f",
                 t->rounds, (unsigned long long)(t->bytes_in >> 20), (double)t->load_ns / 1e6,
                 (double)t->commit_ns / 1e6, (double)t->resume_ns / 1e6);
        return;
    }
    worker_move_end(w, false);
    snprintf(report.text, sizeof(report.text), "%.190s", rc < 0 ? why->text : "it did not arrive");
    worker_post_end(w, WORKER_END_NOT_ARRIVED, &report);
}

static int receive(struct job *job, struct err *err)
{
    struct worker *w = job->worker;
    struct mem *mem = machine_mem(w->machine);
    struct receive_job *r = calloc(1, sizeof(*r));
    if (!r)
        return err_set(err, ENOMEM, "no memory for a migration");
    r->job = job;
    r->arrival = w->arrival;
    const struct target_options options = {
        .epoch = w->ownership.epoch,
        .ram = mem->base,
        .ram_bytes = mem->size,
        .populate = true,
        .ops = &ops,
        .ctx = r,
    };
    int rc = peer_stream_init(&r->peer, job->socket, STREAM_TLS_ANSWERS, &w->peer_key, err);
    tls_key_forget(&w->peer_key);
    if (rc == 0)
        rc = target_run(r->peer.stream, &options, &r->report, err);
    conclude(r, rc, err);
    arrival_lanes_close(&r->arrival->lanes);
    peer_stream_fini(&r->peer);
    free(r);
    return rc;
}

static int on_job(struct job *job, struct err *err)
{
    int rc = job_enter(job, err);
    if (rc == 0) {
        rc = receive(job, err);
        job_leave(job);
    }
    return rc;
}

int worker_receive_take(struct worker *w, const Ferry__WorkerIncoming *incoming, struct fds *fds,
                        unsigned at, struct err *err)
{
    w->peer_fd = fds_take(fds, at);
    CLEAN(clean_fd) int record = fds_take(fds, at + 1);
    if (record < 0)
        return err_set(err, EINVAL, "the start request came with too few descriptors");
    int rc = tls_key_take(&w->peer_key, incoming->tls_key.data, incoming->tls_key.len, err);
    if (rc == 0)
        rc = worker_move_begin(w, steal_fd(&record), err);
    if (rc == 0 && w->ownership.epoch != incoming->epoch)
        rc = err_set(err, ESTALE, "the record of ownership is of epoch %llu, not %llu",
                     (unsigned long long)w->ownership.epoch, (unsigned long long)incoming->epoch);
    return rc;
}

int worker_receive_start(struct worker *w, struct err *err)
{
    w->arrival = calloc(1, sizeof(*w->arrival));
    if (!w->arrival)
        return err_set(err, ENOMEM, "no memory for a guest to come");
    arrival_lanes_init(&w->arrival->lanes);
    worker_enter(w, FERRY__WORKER_STATE__WORKER_INCOMING);
    int socket = w->peer_fd;
    w->peer_fd = -1;
    return worker_jobs_spawn(&w->jobs, socket, on_job, err);
}

void worker_receive_fini(struct worker *w)
{
    if (w->arrival)
        arrival_lanes_close(&w->arrival->lanes);
    free(w->arrival);
    w->arrival = NULL;
}

/* ferryd's answer came first on this connection; the source has begun when that is there. */
static void tell_failure(const struct stream *stream, const struct err *why)
{
    struct wire_head head;
    struct err ignored; /* what matters is why the machine could not be built */
    struct channel *channel = calloc(1, sizeof(*channel));
    if (!channel)
        return;
    channel_init(channel, stream, NULL, NULL);
    if (channel_receive(channel, &head, 0, &ignored) == 0)
        channel_send_failure(channel, why);
    free(channel);
}

void worker_receive_refuse(struct worker *w, const struct err *why)
{
    struct peer_stream peer;
    struct err ignored;
    if (w->peer_fd < 0)
        return;
    if (peer_stream_init(&peer, w->peer_fd, STREAM_TLS_ANSWERS, &w->peer_key, &ignored) == 0)
        tell_failure(peer.stream, why);
    peer_stream_fini(&peer);
}
