/* The help texts, from the table of commands. */
#pragma once

#include <stdio.h>

#include "cli/commands.h"

/* "usage: vmctl start NAME [--kernel FILE] [--paused]", on as many lines as it needs. */
void usage_print_synopsis(FILE *out, const struct command *command);

void usage_print_command(FILE *out, const struct command *command);

/* All that have the first word of `group`. */
void usage_print_group(FILE *out, const struct command *group);
void usage_print_all(FILE *out);

/* Fills lines of `width` characters, each behind `indent` spaces; `used` are filled already. */
void usage_print_wrapped(FILE *out, const char *text, size_t indent, size_t used, size_t width);
