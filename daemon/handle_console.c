/*
 * console: what a guest says, to any number of attached clients, and what they type.
 *
 * Each attached client reads from the worker at its own offset and its own pace. Those that have
 * read all share one watch, which the worker answers when there is more. When the worker has ended,
 * the rest comes from the console file that it left.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "daemon/console_file.h"
#include "daemon/handlers.h"
#include "daemon/tenant.h"

#define CHUNK_BYTES 65536u
#define INPUT_BYTES_MAX 65536u

struct reader {
    TAILQ_ENTRY(reader) all;
    struct request *request;
    uint64_t offset;      /* as the client counts */
    uint64_t before;      /* what earlier workers said: the worker counts from there */
    unsigned incarnation; /* of the tenant's worker */
    bool asking;          /* a read is on its way */
    bool at_end;          /* everything there was is read */
    bool placed;          /* the offset is what the client meant */
    int file;             /* -1 while the worker lives */
};

TAILQ_HEAD(reader_list, reader);

/* What the readers of one tenant share; freed when the last has left and no watch is open, because
 * the worker keeps one watch for all of us. */
struct console_hub {
    struct tenant *tenant;
    struct reader_list readers;
    bool watching;
};

static void pump(struct reader *r);

static struct console_hub *hub_get(struct tenant *t)
{
    if (t->console)
        return t->console;
    struct console_hub *hub = calloc(1, sizeof(*hub));
    if (!hub)
        return NULL;
    hub->tenant = t;
    TAILQ_INIT(&hub->readers);
    t->console = hub;
    return hub;
}

static void hub_put(struct console_hub *hub)
{
    if (hub->watching || !TAILQ_EMPTY(&hub->readers))
        return;
    hub->tenant->console = NULL;
    free(hub);
}

static void reader_leave(struct reader *r)
{
    struct console_hub *hub = r->request->tenant->console;
    TAILQ_REMOVE(&hub->readers, r, all);
    clean_fd(&r->file);
    hub_put(hub);
}

static void reader_end(struct reader *r, const struct err *err)
{
    struct request *rq = r->request;
    reader_leave(r);
    if (err)
        request_fail(rq, err);
    else
        request_done(rq, NULL);
}

static void drop(struct request *rq)
{
    reader_leave(rq->state);
}

static void send_output(struct reader *r, uint64_t offset, uint8_t *data, size_t len)
{
    Ferry__ConsoleOutput out = FERRY__CONSOLE_OUTPUT__INIT;
    Ferry__Reply reply = FERRY__REPLY__INIT;
    out.offset = offset;
    out.data = (ProtobufCBinaryData){.data = data, .len = len};
    reply.body_case = FERRY__REPLY__BODY_CONSOLE;
    reply.console = &out;
    request_send(r->request, &reply);
    r->offset = offset + len;
}

/* from the worker ----------------------------------------------------------------------------- */

/* All who wait at the end read again. */
static void on_watch(void *ctx, const Ferry__WorkerReply *reply, const struct err *err)
{
    struct console_hub *hub = ctx;
    struct reader *r, *next;
    hub->watching = false;
    if (err ||
        TAILQ_EMPTY(&hub->readers)) { /* an error is the worker's end: the state will say so */
        hub_put(hub);
        return;
    }
    for (r = TAILQ_FIRST(&hub->readers); r; r = next) {
        next = TAILQ_NEXT(r, all);
        r->at_end = false;
        pump(r);
    }
}

static void watch_for_more(struct reader *r)
{
    struct err ignored;
    struct console_hub *hub = r->request->tenant->console;
    Ferry__WorkerConsoleWatch watch = FERRY__WORKER_CONSOLE_WATCH__INIT;
    Ferry__WorkerRequest request = FERRY__WORKER_REQUEST__INIT;
    if (hub->watching)
        return;
    watch.offset = r->offset - r->before;
    request.body_case = FERRY__WORKER_REQUEST__BODY_CONSOLE_WATCH;
    request.console_watch = &watch;
    hub->watching = tenant_call(hub->tenant, &request, 0, on_watch, hub, &ignored) == 0;
}

/* Where the client wants to begin, now that the end is known. */
static void place(struct reader *r, uint64_t end)
{
    uint64_t tail = r->request->message->console->tail_bytes;
    r->placed = true;
    if (tail)
        r->offset = end > tail ? end - tail : 0;
}

static void on_data(struct reader *r, const Ferry__WorkerConsoleData *data)
{
    if (!r->placed) {
        place(r, data->end);
        pump(r);
        return;
    }
    if (data->data.len) {
        send_output(r, r->before + data->offset, data->data.data, data->data.len);
        r->at_end = r->offset >= r->before + data->end;
    } else {
        r->at_end = true;
        if (r->offset > r->before + data->end) /* it asked for what was never said */
            r->offset = r->before + data->end;
    }
    if (r->at_end && !r->request->message->console->follow)
        reader_end(r, NULL);
    else
        pump(r);
}

static void on_read(void *ctx, const Ferry__WorkerReply *reply, const struct err *err)
{
    struct request *rq = ctx;
    struct reader *r = rq->state;
    r->asking = false;
    if (err && err->code == ECONNRESET)
        return; /* the rest comes from the file */
    if (err || reply->body_case != FERRY__WORKER_REPLY__BODY_CONSOLE) {
        struct err odd = {0};
        err_set(&odd, EPROTO, "the worker gives no console");
        reader_end(r, err ? err : &odd);
        return;
    }
    on_data(r, reply->console);
}

static void read_more(struct reader *r)
{
    struct err ignored;
    Ferry__WorkerConsoleRead ask = FERRY__WORKER_CONSOLE_READ__INIT;
    Ferry__WorkerRequest request = FERRY__WORKER_REQUEST__INIT;
    ask.offset = r->placed ? r->offset - r->before : 0;
    ask.max_bytes = r->placed ? CHUNK_BYTES : 1;
    request.body_case = FERRY__WORKER_REQUEST__BODY_CONSOLE_READ;
    request.console_read = &ask;
    r->asking = tenant_call(r->request->tenant, &request, WORKER_PATIENCE_MS, on_read, r->request,
                            &ignored) == 0;
}

/* from the file ------------------------------------------------------------------------------- */

static int place_in_file(struct reader *r, struct err *err)
{
    uint64_t begin, end;
    int rc = console_file_range(r->file, &begin, &end, err);
    if (rc == 0 && !r->placed)
        place(r, end);
    return rc;
}

static void pump_file(struct reader *r)
{
    struct err err = {0};
    uint8_t data[CHUNK_BYTES];
    ssize_t n = place_in_file(r, &err);
    while (n >= 0 && !request_is_full(r->request)) {
        uint64_t at = r->offset - r->before;
        n = console_file_read(r->file, &at, data, sizeof(data), &err);
        if (n == 0) {
            reader_end(r, NULL);
            return;
        }
        if (n > 0)
            send_output(r, r->before + at, data, (size_t)n);
    }
    if (n < 0)
        reader_end(r, &err);
}

static void turn_to_file(struct reader *r)
{
    struct err err = {0};
    r->file = openat(r->request->tenant->dirfd, "console", O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (r->file >= 0)
        pump_file(r);
    else if (errno == ENOENT)
        reader_end(r, NULL); /* it never ran */
    else {
        err_sys(&err, errno, "cannot open the console of '%s'", r->request->tenant->name);
        reader_end(r, &err);
    }
}

/* both ---------------------------------------------------------------------------------------- */

static void pump(struct reader *r)
{
    if (r->file >= 0)
        pump_file(r);
    else if (r->asking || request_is_full(r->request))
        return;
    else if (r->at_end)
        watch_for_more(r);
    else
        read_more(r);
}

static void drained(struct request *rq)
{
    pump(rq->state);
}

/* Another worker has taken the place of the one it read from, and has said nothing yet. */
static void turn_to_successor(struct reader *r)
{
    r->incarnation = r->request->tenant->incarnation;
    r->before = r->offset;
    r->placed = true;
    r->at_end = false;
    clean_fd(&r->file);
    pump(r);
}

static void on_moved(struct tenant_watch *watch, bool removed)
{
    struct request *rq = (struct request *)watch;
    struct reader *r = rq->state;
    if (removed) {
        struct err err = {0};
        err_set(&err, ENOENT, "'%s' was removed", rq->tenant->name);
        reader_leave(r);
        tenant_unwatch(watch);
        rq->tenant = NULL;
        request_fail(rq, &err);
    } else if (r->incarnation != rq->tenant->incarnation) {
        turn_to_successor(r);
    } else if (r->file < 0 && !tenant_in(rq->tenant, STATES_LIVE)) {
        turn_to_file(r);
    }
}

int handle_console(struct request *rq, struct err *err)
{
    struct tenant *t = rq->tenant;
    struct console_hub *hub = hub_get(t);
    struct reader *r = calloc(1, sizeof(*r));
    if (!hub || !r) {
        free(r);
        if (hub)
            hub_put(hub);
        return err_set(err, ENOMEM, "no memory for a console");
    }
    *r = (struct reader){.request = rq,
                         .offset = rq->message->console->offset,
                         .incarnation = t->incarnation,
                         .placed = rq->message->console->tail_bytes == 0,
                         .file = -1};
    TAILQ_INSERT_TAIL(&hub->readers, r, all);
    rq->state = r;
    rq->drop = drop;
    rq->drained = drained;
    tenant_watch(t, &rq->watch, on_moved);
    if (tenant_in(t, STATES_LIVE))
        pump(r);
    else
        turn_to_file(r);
    return 0;
}

/* input --------------------------------------------------------------------------------------- */

static void on_written(void *ctx, const Ferry__WorkerReply *reply, const struct err *err)
{
    if (err)
        request_fail(ctx, err);
    else
        request_done(ctx, NULL);
}

/* How much may wait for a guest that does not read is the worker's to bound. */
int handle_console_input(struct request *rq, struct err *err)
{
    Ferry__WorkerConsoleWrite write = FERRY__WORKER_CONSOLE_WRITE__INIT;
    Ferry__WorkerRequest request = FERRY__WORKER_REQUEST__INIT;
    const ProtobufCBinaryData *data = &rq->message->console_input->data;
    if (data->len > INPUT_BYTES_MAX)
        return err_set(err, EMSGSIZE, "console input of %zu bytes: at most %u at once", data->len,
                       INPUT_BYTES_MAX);
    if (data->len == 0) {
        request_done(rq, NULL);
        return 0;
    }
    write.data = *data;
    request.body_case = FERRY__WORKER_REQUEST__BODY_CONSOLE_WRITE;
    request.console_write = &write;
    return tenant_call(rq->tenant, &request, 0, on_written, rq, err);
}
