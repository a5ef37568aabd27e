/*
 * Completion scripts from the table of commands. Each asks `vmctl list --names` for the names of
 * VMs, with the --run that stands on the line.
 */
#pragma once

#include <stdio.h>

void completion_print_bash(FILE *out);
void completion_print_zsh(FILE *out);
void completion_print_fish(FILE *out);
