/* See transfer.h. */
#include "cli/transfer.h"

#include <errno.h>
#include <poll.h>
#include <string.h>

#include "base/cleanup.h"
#include "cli/client.h"
#include "cli/deadline.h"
#include "cli/progress.h"

#define TICK_MS 1000
#define PIECE_BYTES (256u << 10)
#define ON_THE_WAY_MAX 2u
/* ferryd ends a cancelled request by itself, and only its disk may hold that up. */
#define CANCEL_MS 30000

/* One transfer on its way. */
struct mover {
    struct transfer *t;
    struct client client;
    struct interrupt interrupt;
    struct progress progress;
    uint32_t id;         /* of the export or import */
    unsigned on_the_way; /* pieces of an import without an answer */
    bool ended;          /* nothing more to send */
    Ferry__Reply *last;  /* owned; of the export or import */
};

static int mover_begin(struct mover *m, struct transfer *t, const char *doing, struct err *err)
{
    *m = (struct mover){.t = t, .client = CLIENT_NONE, .interrupt = INTERRUPT_NONE};
    int rc = client_connect(&m->client, t->run, err);
    if (rc == 0)
        rc = interrupt_open(&m->interrupt, true, err);
    t->end->interrupt = &m->interrupt;
    t->end->progress = &m->progress;
    progress_begin(&m->progress, doing, t->name);
    return rc;
}

static void mover_end(struct mover *m)
{
    progress_end(&m->progress);
    interrupt_close(&m->interrupt);
    client_close(&m->client);
    client_clean_reply(&m->last);
}

static int cancelled(const struct mover *m, struct err *err)
{
    return err_set(err, ECANCELED, "%s '%s' was cancelled; %s", m->progress.doing, m->t->name,
                   m->t->undone);
}

/* Waits for ferryd, a signal or, if it is not -1, `fd`; *ready says that it was the latter. */
static int wait_any(struct mover *m, int fd, bool *ready, struct err *err)
{
    struct client *c = &m->client;
    struct pollfd fds[] = {{.fd = c->fd, .events = client_interest(c)},
                           {.fd = m->interrupt.fd, .events = POLLIN},
                           {.fd = fd, .events = POLLIN}};
    int n = poll(fds, 3, deadline_sooner(TICK_MS, client_timeout_ms(c)));
    if (n < 0 && errno != EINTR)
        return err_sys(err, errno, "cannot wait for ferryd");
    if (n == 0)
        progress_tick(&m->progress);
    if (interrupt_came(&m->interrupt))
        return cancelled(m, err);
    *ready = n > 0 && fds[2].revents;
    return n > 0 && fds[0].revents ? client_pump(c, fds[0].revents, err) : 0;
}

/* 1 with a reply that is about the transfer, 0 when there is none yet. */
static int take(struct mover *m, Ferry__Reply **reply, struct err *err)
{
    int rc = 1;
    while (rc == 1) {
        CLEAN(client_clean_reply) Ferry__Reply *got = NULL;
        rc = client_take(&m->client, &got, err);
        if (rc == 1 && got->id == m->id) {
            *reply = steal_ptr(&got);
            return 1;
        }
        /* Of a piece, or a cancel: the transfer's own answer says more. */
        m->on_the_way -= rc == 1 && m->on_the_way && got->last;
    }
    return rc;
}

static int check_last(const struct mover *m, struct err *err)
{
    return m->last->code == ECANCELED ? cancelled(m, err) : client_check(m->last, err);
}

/* Has ferryd give the request up, and waits until it says so. */
static void cancel(struct mover *m)
{
    Ferry__Request request = FERRY__REQUEST__INIT;
    Ferry__CancelRequest body = FERRY__CANCEL_REQUEST__INIT;
    uint64_t until_ns = now_ns() + CANCEL_MS * DEADLINE_MS;
    struct err ignored;
    body.target = m->id;
    request.body_case = FERRY__REQUEST__BODY_CANCEL;
    request.cancel = &body;
    int rc = client_post(&m->client, &request, &ignored);
    for (int left_ms; rc >= 0 && (left_ms = deadline_left_ms(until_ns)) > 0;) {
        CLEAN(client_clean_reply) Ferry__Reply *reply = NULL;
        rc = client_wait(&m->client, -1, left_ms, &reply, &ignored);
        if (rc == 1 && reply->id == m->id && reply->last)
            return;
    }
}

/* export -------------------------------------------------------------------------------------- */

static int post_export(struct mover *m, bool alone, struct err *err)
{
    Ferry__Request request = FERRY__REQUEST__INIT;
    Ferry__SnapshotExportRequest body = FERRY__SNAPSHOT_EXPORT_REQUEST__INIT;
    body.name = (char *)m->t->name;
    body.alone = alone;
    request.body_case = FERRY__REQUEST__BODY_SNAPSHOT_EXPORT;
    request.snapshot_export = &body;
    int rc = client_post(&m->client, &request, err);
    m->id = request.id;
    m->t->bytes = 0;
    return rc;
}

/* 0 to go on, TRANSFER_AGAIN, or what failed. The last one is kept. */
static int take_exported(struct mover *m, Ferry__Reply **reply, struct err *err)
{
    const Ferry__Reply *r = *reply;
    struct transfer_end *end = m->t->end;
    if (r->last) {
        m->last = steal_ptr(reply);
        return check_last(m, err);
    }
    if (r->body_case == FERRY__REPLY__BODY_PROGRESS) {
        progress_update(&m->progress, r->progress);
        return 0;
    }
    if (r->body_case != FERRY__REPLY__BODY_SNAPSHOT_DATA)
        return err_set(err, EPROTO, "ferryd sent something else than a snapshot");
    m->t->bytes += r->snapshot_data->data.len;
    return end->write(end, r->snapshot_data->data.data, r->snapshot_data->data.len, err);
}

/* Until the last reply, which is good. */
static int pass_on(struct mover *m, struct err *err)
{
    int rc = 0;
    bool ready;
    while (rc == 0 && !m->last) {
        CLEAN(client_clean_reply) Ferry__Reply *reply = NULL;
        rc = take(m, &reply, err);
        if (rc == 1)
            rc = take_exported(m, &reply, err);
        else if (rc == 0)
            rc = wait_any(m, -1, &ready, err);
    }
    if (rc != 0 && !m->last && !m->client.lost)
        cancel(m);
    client_clean_reply(&m->last);
    return rc;
}

int transfer_export(struct transfer *t, bool alone, struct err *err)
{
    struct mover m;
    struct err ignored;
    int rc = mover_begin(&m, t, "exporting", err);
    do {
        if (rc >= 0)
            rc = post_export(&m, alone, err);
        if (rc == 0)
            rc = pass_on(&m, err);
        if (rc == 0)
            rc = t->end->close(t->end, true, err);
        else if (rc < 0)
            (void)t->end->close(t->end, false, &ignored);
    } while (rc == TRANSFER_AGAIN);
    if (rc < 0 && interrupt_came(&m.interrupt))
        rc = cancelled(&m, err);
    mover_end(&m);
    return rc;
}

/* import -------------------------------------------------------------------------------------- */

static int post_import(struct mover *m, const char *name, struct err *err)
{
    Ferry__Request request = FERRY__REQUEST__INIT;
    Ferry__SnapshotImportRequest body = FERRY__SNAPSHOT_IMPORT_REQUEST__INIT;
    body.name = name ? (char *)name : body.name;
    request.body_case = FERRY__REQUEST__BODY_SNAPSHOT_IMPORT;
    request.snapshot_import = &body;
    int rc = client_post(&m->client, &request, err);
    m->id = request.id;
    return rc;
}

static void show_received(struct mover *m)
{
    Ferry__Progress progress = FERRY__PROGRESS__INIT;
    progress.stage = (char *)"receiving";
    progress.done_bytes = m->t->bytes;
    progress.total_bytes = m->t->end->total;
    progress_update(&m->progress, &progress);
}

static int send_piece(struct mover *m, struct err *err)
{
    uint8_t piece[PIECE_BYTES];
    Ferry__Request request = FERRY__REQUEST__INIT;
    Ferry__SnapshotImportData body = FERRY__SNAPSHOT_IMPORT_DATA__INIT;
    ssize_t n = m->t->end->read(m->t->end, piece, sizeof(piece), err);
    if (n < 0)
        return n == -EAGAIN ? 0 : (int)n;
    m->t->bytes += (uint64_t)n;
    m->ended = n == 0;
    body.target = m->id;
    body.end = m->ended;
    body.data = (ProtobufCBinaryData){.data = piece, .len = (size_t)n};
    request.body_case = FERRY__REQUEST__BODY_SNAPSHOT_IMPORT_DATA;
    request.snapshot_import_data = &body;
    m->on_the_way++;
    show_received(m);
    return client_post(&m->client, &request, err);
}

static int take_imported(struct mover *m, Ferry__Reply **reply, struct err *err)
{
    const Ferry__Reply *r = *reply;
    if (r->last) {
        m->last = steal_ptr(reply);
        return check_last(m, err);
    }
    if (r->body_case != FERRY__REPLY__BODY_PROGRESS)
        return err_set(err, EPROTO, "ferryd answered in parts where one was asked");
    if (m->ended)
        progress_update(&m->progress, r->progress);
    return 0;
}

static int bring(struct mover *m, struct err *err)
{
    int rc = 0;
    while (rc == 0 && !m->last) {
        CLEAN(client_clean_reply) Ferry__Reply *reply = NULL;
        bool ready = false;
        rc = take(m, &reply, err);
        bool wants = !m->ended && m->on_the_way < ON_THE_WAY_MAX;
        if (rc == 1)
            rc = take_imported(m, &reply, err);
        else if (rc == 0)
            rc = wait_any(m, wants ? m->t->end->fd : -1, &ready, err);
        if (rc == 0 && ready && !m->last)
            rc = send_piece(m, err);
    }
    if (rc < 0 && !m->last && !m->client.lost)
        cancel(m);
    return rc;
}

int transfer_import(struct transfer *t, const char *name, Ferry__Reply **reply, struct err *err)
{
    struct mover m;
    struct err ignored;
    int rc = mover_begin(&m, t, "importing", err);
    if (rc == 0)
        rc = post_import(&m, name, err);
    if (rc == 0)
        rc = bring(&m, err);
    if (rc == 0 && (m.last->body_case != FERRY__REPLY__BODY_SNAPSHOT || !m.last->snapshot->summary))
        rc = err_set(err, EPROTO, "ferryd did not describe what it has imported");
    if (rc == 0)
        *reply = steal_ptr(&m.last);
    (void)t->end->close(t->end, false, &ignored);
    mover_end(&m);
    return rc;
}
