/* See console_input.h. */
#include "cli/console_input.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "cli/console.h"
#include "cli/text.h"

#define PIECE_BYTES (32u << 10)

/* A pipe is left unread when this much waits. A terminal is read on, lest Ctrl-] stay behind what a
 * guest does not take; its bound is only against running away. */
#define PIPE_PENDING (64u << 10)
#define TERMINAL_PENDING (16u << 20)

#define RETRY_MS 50

void console_input_init(struct console_input *in, const char *run, const char *name, bool terminal)
{
    *in = (struct console_input){
        .run = run, .name = name, .terminal = terminal, .client = CLIENT_NONE};
    buf_init(&in->pending, terminal ? TERMINAL_PENDING : PIPE_PENDING);
}

void console_input_fini(struct console_input *in)
{
    client_close(&in->client);
    buf_fini(&in->pending);
}

bool console_input_wants(const struct console_input *in)
{
    return !in->ended && in->pending.max - in->pending.len >= PIECE_BYTES;
}

void console_input_read(struct console_input *in)
{
    uint8_t *to = buf_reserve(&in->pending, PIECE_BYTES);
    ssize_t n = to ? read(STDIN_FILENO, to, PIECE_BYTES) : 0;
    if (n < 0 && (errno == EINTR || errno == EAGAIN))
        return;
    if (n <= 0) {
        in->ended = true;
        in->detach = in->terminal; /* it was hung up */
        return;
    }
    uint8_t *mark = in->terminal ? memchr(to, CONSOLE_DETACH, (size_t)n) : NULL;
    if (mark) {
        n = mark - to;
        in->ended = in->detach = true;
    }
    in->pending.len += (size_t)n;
}

static int send_piece(struct console_input *in, struct err *err)
{
    Ferry__Request request = FERRY__REQUEST__INIT;
    Ferry__ConsoleInput body = FERRY__CONSOLE_INPUT__INIT;
    size_t n = in->pending.len < PIECE_BYTES ? in->pending.len : PIECE_BYTES;
    body.name = (char *)in->name;
    body.data.data = in->pending.data;
    body.data.len = n;
    request.body_case = FERRY__REQUEST__BODY_CONSOLE_INPUT;
    request.console_input = &body;
    int rc = client_post(&in->client, &request, err);
    if (rc == 0)
        in->on_the_way = n;
    return rc;
}

static void drop_piece(struct console_input *in)
{
    if (in->on_the_way) {
        text_note("the last %zu bytes of input may not have reached the guest", in->on_the_way);
        in->incomplete = true;
    }
    buf_consume(&in->pending, in->on_the_way);
    in->on_the_way = 0;
}

static int take_acknowledgement(struct console_input *in, struct err *err)
{
    CLEAN(client_clean_reply) Ferry__Reply *reply = NULL;
    int rc = client_take(&in->client, &reply, err);
    if (rc == 1)
        rc = client_check(reply, err);
    if (rc == 0 && reply && reply->last) {
        buf_consume(&in->pending, in->on_the_way);
        in->on_the_way = 0;
    }
    return rc;
}

static int step(struct console_input *in, short revents, struct err *err)
{
    int rc = in->client.fd < 0 ? client_connect(&in->client, in->run, err) : 0;
    if (rc == 0 && revents)
        rc = client_pump(&in->client, revents, err);
    if (rc == 0)
        rc = take_acknowledgement(in, err);
    if (rc == 0 && !in->on_the_way && in->pending.len)
        rc = send_piece(in, err);
    return rc;
}

static void refused(struct console_input *in, const struct err *err)
{
    text_note("%s", err->text);
    in->incomplete = true;
    in->ended |= !in->terminal;
    in->pending.len = in->on_the_way = 0;
}

void console_input_pump(struct console_input *in, short revents, bool up)
{
    struct err err;
    bool idle = !in->pending.len && !revents;
    if (idle || (in->client.fd < 0 && !up) || step(in, revents, &err) == 0)
        return;
    bool lost = in->client.lost;
    client_close(&in->client);
    if (lost)
        drop_piece(in);
    else
        refused(in, &err);
}

int console_input_timeout_ms(const struct console_input *in, bool up)
{
    bool unconnected = in->client.fd < 0 && in->pending.len && up;
    return unconnected ? RETRY_MS : client_timeout_ms(&in->client);
}
