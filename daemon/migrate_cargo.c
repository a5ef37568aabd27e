/* See migrate_cargo.h. */
#include "daemon/migrate_cargo.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "proto/frame.h"
#include "proto/migrate.pb-c.h"

#define CONSOLE_PIECE 65536u
#define CONSOLE_OFFSET_MAX (1ull << 62)

void cargo_sender_init(struct cargo_sender *c, struct worker *w)
{
    *c = (struct cargo_sender){.worker = w,
                               .console_at = console_begin(&w->console),
                               .console_until = console_end(&w->console)};
}

static int add_piece(const Ferry__MigrateCargo *piece, struct buf *out, struct err *err)
{
    size_t len = ferry__migrate_cargo__get_packed_size(piece);
    uint8_t *to = buf_reserve(out, len);
    if (!to)
        return err_set(err, ENOMEM, "no room for a piece of cargo of %zu bytes", len);
    ferry__migrate_cargo__pack(piece, to);
    out->len += len;
    return 1;
}

static int next_console(struct cargo_sender *c, struct buf *out, struct err *err)
{
    Ferry__MigrateCargo piece = FERRY__MIGRATE_CARGO__INIT;
    Ferry__CargoConsole console = FERRY__CARGO_CONSOLE__INIT;
    uint64_t missed;
    CLEAN(clean_free) uint8_t *data = malloc(CONSOLE_PIECE);
    if (!data)
        return err_set(err, ENOMEM, "no memory for the scrollback");
    size_t n = console_read(&c->worker->console, &c->console_at, data, CONSOLE_PIECE, &missed);
    if (n == 0)
        return 0;
    console.offset = c->console_at - n;
    console.data = (ProtobufCBinaryData){.data = data, .len = n};
    piece.body_case = FERRY__MIGRATE_CARGO__BODY_CONSOLE;
    piece.console = &console;
    return add_piece(&piece, out, err);
}

/* The loop has frozen the guest: nothing of this changes any more. */
static int next_counters(struct cargo_sender *c, struct buf *out, struct err *err)
{
    struct worker *w = c->worker;
    Ferry__MigrateCargo piece = FERRY__MIGRATE_CARGO__INIT;
    Ferry__CargoCounters body = FERRY__CARGO_COUNTERS__INIT;
    Ferry__Counter counters[COUNTER_KINDS], *list[COUNTER_KINDS];
    uint8_t input[CONSOLE_INPUT_BYTES];
    for (unsigned i = 0; i < COUNTER_KINDS; i++) {
        ferry__counter__init(&counters[i]);
        counters[i].name = (char *)(uintptr_t)counter_name(i);
        counters[i].value = atomic_load(&w->counters.exits[i]);
        list[i] = &counters[i];
    }
    body.counters = list;
    body.n_counters = COUNTER_KINDS;
    body.resets = w->resets;
    body.boot_wall_ns = w->boot_wall_ns;
    body.paused = w->move.was_paused;
    body.console_input.data = input;
    body.console_input.len = console_peek_input(&w->console, input, sizeof(input));
    piece.body_case = FERRY__MIGRATE_CARGO__BODY_COUNTERS;
    piece.counters = &body;
    c->told_counters = true;
    return add_piece(&piece, out, err);
}

/* A guest that says more all the time would be followed for ever: what came since goes with the
 * last pieces. */
int cargo_next(struct cargo_sender *c, bool last, struct buf *out, struct err *err)
{
    if (!last && c->console_at >= c->console_until)
        return 0;
    int rc = next_console(c, out, err);
    return rc || !last || c->told_counters ? rc : next_counters(c, out, err);
}

/* taking -------------------------------------------------------------------------------------- */

static int take_console(struct worker *w, const Ferry__CargoConsole *console, struct err *err)
{
    if (console->offset > CONSOLE_OFFSET_MAX)
        return err_set(err, EBADMSG, "a piece of the scrollback is at offset %llu",
                       (unsigned long long)console->offset);
    console_adopt(&w->console, console->offset, console->data.data, console->data.len);
    return 0;
}

/* Names that this release does not know are left. */
static void take_counter(struct worker *w, const Ferry__Counter *counter)
{
    for (unsigned i = 0; i < COUNTER_KINDS; i++)
        if (strcmp(counter->name, counter_name(i)) == 0)
            atomic_store(&w->counters.exits[i], counter->value);
}

static int take_counters(struct cargo *c, struct worker *w, const Ferry__CargoCounters *body,
                         struct err *err)
{
    if (body->console_input.len > sizeof(c->input))
        return err_set(err, EBADMSG, "%zu bytes of console input are more than fit",
                       body->console_input.len);
    for (size_t i = 0; i < body->n_counters; i++)
        take_counter(w, body->counters[i]);
    if (body->console_input.len)
        memcpy(c->input, body->console_input.data, body->console_input.len);
    c->input_bytes = body->console_input.len;
    c->resets = body->resets;
    c->boot_wall_ns = body->boot_wall_ns;
    c->paused = body->paused;
    c->complete = true;
    return 0;
}

int cargo_take(struct cargo *c, struct worker *w, struct span piece, struct err *err)
{
    int rc = 0;
    Ferry__MigrateCargo *m = (Ferry__MigrateCargo *)frame_unpack(&ferry__migrate_cargo__descriptor,
                                                                 piece.at, piece.left, err);
    if (!m)
        return -err->code;
    if (m->body_case == FERRY__MIGRATE_CARGO__BODY_CONSOLE)
        rc = take_console(w, m->console, err);
    else if (m->body_case == FERRY__MIGRATE_CARGO__BODY_COUNTERS)
        rc = take_counters(c, w, m->counters, err);
    frame_free(&m->base);
    return rc;
}
