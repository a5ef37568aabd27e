/*
 * Text that came from outside, made fit for a terminal: a control character, also one of the C1
 * set, would be an order to the terminal. So would a byte that is no UTF-8, on some.
 */
#pragma once

#include <stdio.h>

#include "base/err.h"

/* As one line: a tab or newline becomes a space, any other control or broken byte a '?'. */
void text_print_line(FILE *out, const char *text);

/* As several lines, each behind `indent`; ends with a newline unless `text` is empty. */
void text_print_lines(FILE *out, const char *indent, const char *text);

/* The number of terminal cells that text_print_line fills, counting one a character. */
size_t text_width(const char *text);

/* Length of the UTF-8 sequence at `p`, 0 when it is none; *code is its code point. */
unsigned text_decode(const unsigned char *p, size_t left, unsigned *code);

/* "vmctl: ..." on standard error, in one write. */
void text_note(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* "2031-05-06 07:08:09", local time; "-" for 0. Returns `to`. */
const char *text_time(unsigned long long wall_ns, char *to, size_t size);
#define TEXT_TIME_SIZE 32
