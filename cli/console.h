/*
 * A guest's serial port, here: what it says goes to standard output, standard input goes to it.
 *
 * Two connections, so that neither way can hold up the other: `watch` streams the output, `type`
 * sends the input, one acknowledged piece at a time (the acknowledgement is the guest's
 * backpressure). Nothing here blocks but poll: a guest that does not read, a terminal that does not
 * print and a ferryd that is being restarted all leave Ctrl-] and signals working.
 *
 * It ends, with 0, by Ctrl-] on a terminal, by a signal, when the guest is gone and when standard
 * output is closed. The end of standard input ends nothing: the guest goes on speaking.
 * Fails when ferryd refuses or stays away, and when a guest ends before it took all piped input.
 */
#pragma once

#include "base/err.h"
#include "cli/options.h"

#define CONSOLE_DETACH 0x1d /* Ctrl-] */

int console_attach(const struct args *args, struct err *err);

/* What is kept, from the oldest byte on. */
int console_print_log(const struct args *args, struct err *err);
