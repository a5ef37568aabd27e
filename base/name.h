/* What may be called how: names become file names and log words, so they are narrow. */
#pragma once

#include <stdbool.h>

#include "base/err.h"

#define NAME_MAX_CHARS 64

bool name_valid(const char *name);

/* A letter or digit, then letters, digits, '.', '_' or '-'; at most 64. `what` names it. */
int name_check(const char *name, const char *what, struct err *err);
