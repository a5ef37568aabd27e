/*
 * Finding what an earlier ferryd left: definitions, workers that run on, and how those that do not
 * ended. [loop]
 *
 * A locked record file says that a worker lives. It is found on its socket, says hello and its
 * status, and is adopted. One that stays silent for 5 s is killed: only the process that the state
 * file names, begun when it says, in this boot. Without a lock the record says how it ended.
 */
#pragma once

#include "daemon/daemon.h"

/* Calls done(d) when every VM has a state, perhaps at once. */
int adopt_all(struct daemon *d, void (*done)(struct daemon *d), struct err *err);
