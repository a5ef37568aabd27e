/*
 * The way from standard input to the guest. Bytes wait in a bounded buffer until ferryd says that
 * the guest has taken them; only one piece is on its way at a time. When the connection breaks with
 * a piece on its way nobody knows whether it arrived: it is not sent twice, and that is said.
 */
#pragma once

#include <stdbool.h>

#include "base/buf.h"
#include "cli/client.h"

struct console_input {
    const char *run, *name; /* borrowed */
    bool terminal;          /* watch for Ctrl-] */
    bool ended;             /* nothing more to read */
    bool detach;            /* Ctrl-] was typed */
    bool incomplete;        /* something did not, or may not have, reached the guest */
    size_t on_the_way;      /* bytes at the front of `pending` that ferryd has */
    struct buf pending;
    struct client client;
};

void console_input_init(struct console_input *in, const char *run, const char *name, bool terminal);
void console_input_fini(struct console_input *in);

/* Whether there is room for what stdin has. */
bool console_input_wants(const struct console_input *in);

/* Reads standard input once. */
void console_input_read(struct console_input *in);

/* After each poll: moves bytes. `up` says that ferryd is there. What it refuses is told on standard
 * error, and for a pipe it is the end of the input. */
void console_input_pump(struct console_input *in, short revents, bool up);

/* How long a poll may last; -1 for ever. */
int console_input_timeout_ms(const struct console_input *in, bool up);
