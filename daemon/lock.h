/* One ferryd per directory: a lock file that names its holder. */
#pragma once

#include "base/err.h"

/* Takes DIR/lock and writes our pid into it; returns the descriptor that holds it, or -EBUSY with a
 * sentence that names the other's pid. `dir` is for the sentence. */
int lock_take(int dirfd, const char *dir, struct err *err);
