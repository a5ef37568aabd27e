/*
 * The way from the guest to standard output: a bounded buffer in front of a descriptor that may not
 * take everything at once.
 */
#pragma once

#include <stdbool.h>

#include "base/buf.h"
#include "base/err.h"
#include "proto/ferry.pb-c.h"

struct console_output {
    int fd; /* owned when it is not standard output itself */
    bool json, terminal;
    bool begun;      /* something came already */
    bool closed;     /* nobody reads any more */
    uint64_t offset; /* of the next byte in all that the guest ever said */
    struct buf pending;
};

void console_output_init(struct console_output *out, bool json);
void console_output_fini(struct console_output *out);

/* Whether more may be added. */
bool console_output_wants(const struct console_output *out);

/* Adds what ferryd sent; a gap before it is told on standard error. */
int console_output_add(struct console_output *out, const Ferry__ConsoleOutput *said,
                       struct err *err);

/* Writes what goes. */
int console_output_pump(struct console_output *out, short revents, struct err *err);
