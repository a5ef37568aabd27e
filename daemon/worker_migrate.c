/*
 * See worker_migrate.h.
 *
 * The happy path: source_run copies the guest, has the loop freeze it (worker_move.h), writes
 * HANDED_OFF, hears that it runs at the peer, writes GONE; ferryd gets the report, the worker ends.
 *
 * Failure modes: before HANDED_OFF the guest runs on and the job fails. After it, without an answer
 * of the peer, the worker is left in doubt: paused, until ferryd or an operator resolves it.
 */
#include "daemon/worker_migrate.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "base/now.h"
#include "daemon/migrate_cargo.h"
#include "daemon/ownership.h"
#include "daemon/peer_stream.h"
#include "daemon/worker.h"
#include "daemon/worker_guest.h"
#include "daemon/worker_move.h"
#include "daemon/worker_throttle.h"
#include "migrate/lanes_out.h"
#include "migrate/source.h"
#include "proto/utf8.h"

#define PROGRESS_EVERY_NS 100000000ull

struct migrate_job {
    struct worker_guest guest; /* first: its calls get the job by it */
    struct job *job;
    const Ferry__WorkerMigrate *ask;
    struct guest_ops guest_ops; /* the guest's, but for pause and resume */
    struct cargo_sender cargo;
    struct peer_stream peers[LANES_MAX + 1]; /* the first has all but pages to itself */
    int sockets[LANES_MAX + 1];              /* owned */
    unsigned streams;
    struct throttle throttle;
    struct ownership *owner;
    struct source_report report;
    uint64_t told_ns, began_wall_ns;
};

/* for the engine ------------------------------------------------------------------------------ */

static int pause_guest(void *ctx, struct err *err)
{
    struct worker_guest *g = ctx;
    struct migrate_job *m = (struct migrate_job *)g;
    throttle_stop(&m->throttle); /* what is held for longer now must not be let go */
    return job_call_loop(g->job, worker_move_freeze, err);
}

static int resume_guest(void *ctx, struct err *err)
{
    struct worker_guest *g = ctx;
    return job_call_loop(g->job, worker_move_thaw, err);
}

static int on_cargo(void *ctx, bool last, struct buf *out, struct err *err)
{
    struct migrate_job *m = ctx;
    return cargo_next(&m->cargo, last, out, err);
}

static int on_hand_off(void *ctx, struct err *err)
{
    struct migrate_job *m = ctx;
    return ownership_write(m->owner, FERRY__OWNER__OWNER_HANDED_OFF, m->ask->epoch, m->ask->peer,
                           err);
}

static void on_progress(void *ctx, const struct source_progress *now)
{
    struct migrate_job *m = ctx;
    struct err ignored; /* a peer that is gone has cancelled the job */
    Ferry__WorkerReply reply = FERRY__WORKER_REPLY__INIT;
    Ferry__WorkerProgress p = FERRY__WORKER_PROGRESS__INIT;
    if (now_ns() - m->told_ns < PROGRESS_EVERY_NS)
        return;
    m->told_ns = now_ns();
    p.stage = "memory";
    p.done_bytes = now->done_bytes;
    p.total_bytes = now->done_bytes + now->left_bytes;
    p.round = now->round;
    p.rate_bytes = now->bytes_per_s;
    p.dirty_rate_bytes = now->dirty_bytes_per_s;
    p.expected_downtime_ns = now->expected_downtime_ns;
    p.why = (char *)(uintptr_t)now->why;
    reply.body_case = FERRY__WORKER_REPLY__BODY_PROGRESS;
    reply.progress = &p;
    job_reply(m->job, &reply, &ignored);
}

static int on_throttle(void *ctx, unsigned percent, struct err *err)
{
    struct migrate_job *m = ctx;
    log_info("the guest writes faster than it can be sent: it is held for %u %% of the time",
             percent);
    return throttle_set(&m->throttle, percent, err);
}

/* ferryd closes the connection, or the machine is being taken apart. */
static bool on_cancelled(void *ctx)
{
    struct migrate_job *m = ctx;
    return job_is_cancelled(m->job);
}

static const struct source_ops source_ops = {.cargo = on_cargo,
                                             .hand_off = on_hand_off,
                                             .progress = on_progress,
                                             .throttle = on_throttle,
                                             .is_cancelled = on_cancelled};

/* the end ------------------------------------------------------------------------------------- */

static void log_downtime(const struct migrate_job *m)
{
    const struct source_report *r = &m->report;
    const struct source_downtime *d = &r->downtime;
    log_info(
        "moved to %s in %u rounds, %.1f ms, %llu MiB sent; stood still %.2f ms: stop %.2f, last "
        "pages %.2f (%llu), state %.2f, send %.2f, load %.2f, commit %.2f, resume %.2f",
        m->ask->peer, r->rounds, (double)r->total_ns / 1e6,
        (unsigned long long)(r->bytes_sent >> 20), (double)d->total_ns / 1e6,
        (double)d->stop_ns / 1e6, (double)d->last_pages_ns / 1e6, (unsigned long long)r->last_pages,
        (double)d->state_ns / 1e6, (double)d->send_ns / 1e6, (double)d->load_ns / 1e6,
        (double)d->commit_ns / 1e6, (double)d->resume_ns / 1e6);
}

static void fill_downtime(const struct source_downtime *from, Ferry__MigrationDowntime *to)
{
    ferry__migration_downtime__init(to);
    to->total_ns = from->total_ns;
    to->stop_ns = from->stop_ns;
    to->last_pages_ns = from->last_pages_ns;
    to->state_ns = from->state_ns;
    to->send_ns = from->send_ns;
    to->load_ns = from->load_ns;
    to->commit_ns = from->commit_ns;
    to->resume_ns = from->resume_ns;
}

static void send_report(struct migrate_job *m, const struct err *why)
{
    const struct source_report *r = &m->report;
    Ferry__WorkerReply reply = FERRY__WORKER_REPLY__INIT;
    Ferry__MigrationReport report = FERRY__MIGRATION_REPORT__INIT;
    Ferry__MigrationDowntime downtime;
    struct err clean = *why, ignored; /* who is gone finds the record */
    fill_downtime(&r->downtime, &downtime);
    utf8_clean(clean.text);
    report.peer = m->ask->peer;
    report.end = r->end == SOURCE_MOVED ? FERRY__MIGRATION_END__MIGRATION_MOVED
                                        : FERRY__MIGRATION_END__MIGRATION_IN_DOUBT;
    report.text = clean.text;
    report.began_wall_ns = m->began_wall_ns;
    report.total_ns = r->total_ns;
    report.rounds = r->rounds;
    report.throttle = r->throttle;
    report.pages = r->pages;
    report.zero_pages = r->zero_pages;
    report.last_pages = r->last_pages;
    report.packed_pages = r->packed_pages;
    report.bytes = r->bytes_sent;
    report.state_bytes = r->state_bytes;
    report.downtime = &downtime;
    report.epoch = m->ask->epoch;
    reply.body_case = FERRY__WORKER_REPLY__BODY_MIGRATED;
    reply.migrated = &report;
    job_reply(m->job, &reply, &ignored);
}

/* The guest is the peer's. A record that cannot be written stays HANDED_OFF, and who reads that
 * asks the peer. */
static void conclude_moved(struct migrate_job *m)
{
    struct err err = {0};
    char text[200];
    log_downtime(m);
    if (ownership_write(m->owner, FERRY__OWNER__OWNER_GONE, m->ask->epoch, NULL, &err) < 0 ||
        ownership_sync(m->owner, &err) < 0)
        log_warn("%s", err.text);
    snprintf(text, sizeof(text), "moved to %.180s", m->ask->peer);
    err = (struct err){0};
    send_report(m, &err);
    worker_move_done(m->job->worker, text);
}

static void conclude_doubt(struct migrate_job *m, const struct err *why)
{
    struct err err = {0};
    log_error("%s", why->text);
    if (ownership_sync(m->owner, &err) < 0)
        log_warn("%s", err.text);
    if (job_call_loop(m->job, worker_move_doubt, &err) < 0)
        log_warn("%s", err.text);
    send_report(m, why);
}

static int run(struct migrate_job *m, struct err *err)
{
    static const enum converge_on_stall stalls[] = {
        [FERRY__ON_STALL__STALL_THROTTLE] = CONVERGE_THROTTLE,
        [FERRY__ON_STALL__STALL_CANCEL] = CONVERGE_CANCEL,
        [FERRY__ON_STALL__STALL_FORCE] = CONVERGE_FORCE,
    };
    static const enum packing_mode modes[] = {
        [FERRY__COMPRESS__COMPRESS_AUTO] = PACKING_AUTO,
        [FERRY__COMPRESS__COMPRESS_ZSTD] = PACKING_ALWAYS,
        [FERRY__COMPRESS__COMPRESS_OFF] = PACKING_NEVER,
    };
    const Ferry__WorkerMigrate *ask = m->ask;
    if ((size_t)ask->on_stall >= sizeof(stalls) / sizeof(stalls[0]))
        return err_set(err, EINVAL, "on_stall has the unknown value %d", (int)ask->on_stall);
    if ((size_t)ask->compress >= sizeof(modes) / sizeof(modes[0]))
        return err_set(err, EINVAL, "compress has the unknown value %d", (int)ask->compress);
    const struct stream *lanes[LANES_MAX];
    for (unsigned i = 1; i < m->streams; i++)
        lanes[i - 1] = m->peers[i].stream;
    const struct source_options options = {
        .epoch = ask->epoch,
        .downtime_ns = ask->downtime_ns,
        .timeout_ns = ask->timeout_ns,
        .bytes_per_s = ask->bandwidth,
        .on_stall = stalls[ask->on_stall],
        .packing = modes[ask->compress],
        .lanes = lanes,
        .nlanes = m->streams - 1,
        .ops = &source_ops,
        .ctx = m,
    };
    int rc = source_run(&m->guest.guest, m->peers[0].stream, &options, &m->report, err);
    if (m->report.end == SOURCE_MOVED)
        conclude_moved(m);
    else if (m->report.end == SOURCE_IN_DOUBT)
        conclude_doubt(m, err);
    return m->report.end == SOURCE_FAILED ? rc : 0;
}

static void init(struct migrate_job *m)
{
    struct worker *w = m->job->worker;
    worker_guest_init(&m->guest, m->job, w->machine);
    m->guest_ops = *m->guest.guest.ops;
    m->guest_ops.pause = pause_guest;
    m->guest_ops.resume = resume_guest;
    m->guest.guest.ops = &m->guest_ops;
    m->owner = &w->ownership;
    m->began_wall_ns = now_wall_ns();
    throttle_init(&m->throttle, m->job);
    cargo_sender_init(&m->cargo, w);
}

static int open_stream(struct migrate_job *m, int socket, const ProtobufCBinaryData *bytes,
                       struct err *err)
{
    struct tls_key key;
    m->sockets[m->streams] = socket;
    struct peer_stream *p = &m->peers[m->streams++];
    if (socket < 0)
        return err_set(err, EINVAL, "a migration came with too few sockets");
    int rc = tls_key_take(&key, bytes->data, bytes->len, err);
    if (rc == 0)
        rc = peer_stream_init(p, socket, STREAM_TLS_ASKS, &key, err);
    tls_key_forget(&key);
    return rc;
}

static int open_streams(struct migrate_job *m, struct fds *fds, struct err *err)
{
    const Ferry__WorkerMigrate *ask = m->ask;
    if (ask->n_lane_keys > LANES_MAX)
        return err_set(err, EINVAL, "%zu data connections are too many", ask->n_lane_keys);
    int rc = open_stream(m, fds_take(fds, 0), &ask->tls_key, err);
    for (unsigned i = 0; rc == 0 && i < ask->n_lane_keys; i++)
        rc = open_stream(m, fds_take(fds, 2 + i), &ask->lane_keys[i], err);
    return rc;
}

static void close_streams(struct migrate_job *m)
{
    for (unsigned i = 0; i < m->streams; i++) {
        peer_stream_fini(&m->peers[i]);
        clean_fd(&m->sockets[i]);
    }
}

static int migrate(struct migrate_job *m, struct fds *fds, struct err *err)
{
    CLEAN(clean_fd) int record = fds_take(fds, 1);
    if (record < 0)
        return err_set(err, EINVAL, "a migration needs a socket and a record of ownership");
    int rc = open_streams(m, fds, err);
    if (rc == 0)
        rc = worker_move_begin(m->job->worker, steal_fd(&record), err);
    if (rc == 0) {
        init(m);
        rc = run(m, err);
        throttle_fini(&m->throttle);
        worker_move_end(m->job->worker, m->report.end == SOURCE_IN_DOUBT);
    }
    close_streams(m);
    return rc;
}

int worker_migrate(struct job *job, const Ferry__WorkerMigrate *ask, struct fds *fds,
                   struct err *err)
{
    struct migrate_job *m = calloc(1, sizeof(*m));
    if (!m)
        return err_set(err, ENOMEM, "no memory for a migration");
    m->job = job;
    m->ask = ask;
    int rc = job_enter(job, err);
    if (rc == 0) {
        rc = migrate(m, fds, err);
        job_leave(job);
    }
    free(m);
    return rc;
}
