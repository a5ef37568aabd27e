/*
 * Completion scripts from the table of commands. Each asks `vmctl list --names` for the names of
 * VMs and `vmctl snapshot list --names` for those of snapshots, with the --run that stands on the
 * line.
 */
#pragma once

#include <stdio.h>

#include "cli/commands.h"

/* The command that lists the names a word of that kind may be; NULL when there is none. */
const char *completion_lister(enum word_kind kind);

/* The first words of all commands, or the second ones of a group, with spaces between. */
void completion_print_firsts(FILE *out);
void completion_print_seconds(FILE *out, const struct command *group);

/* "advance|freeze" with spaces. */
void completion_print_choices(FILE *out, const char *choices);

void completion_print_bash(FILE *out);
void completion_print_zsh(FILE *out);
void completion_print_fish(FILE *out);
