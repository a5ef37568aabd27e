/* ferryd has another working directory than vmctl: what a user names is made absolute here. */
#pragma once

#include "base/err.h"

/* `path` behind our own directory, to be freed; NULL stays NULL. */
int path_absolute(const char *path, char **out, struct err *err);
