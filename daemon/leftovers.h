/*
 * Unfinished snapshots that a ferryd which died has left in the catalogue.
 *
 * Those that nobody writes any more are removed at once. A worker that outlives its ferryd may
 * still write one, which nobody will ever give a name: it gives up when it finds its connection
 * closed. The lock of the directory tells when; a thread waits for it.
 */
#pragma once

#include "daemon/root.h"

/* At the start, before anybody may write a snapshot. What goes wrong is logged. */
void leftovers_clean(const struct root *root);
