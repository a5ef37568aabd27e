/* What ferryd answers about snapshots: one of them, or all. Each ends the request. [loop] */
#pragma once

#include "daemon/snapshot_task.h"

/* Of a capture that has just ended. */
struct snapshot_done {
    uint64_t pause_ns, total_ns;
    uint32_t rounds;
    const char *note; /* why it is complete although a parent was asked for; or empty */
};

/* Of task.manifest and its entry in task.list; `done` may be NULL. */
void snapshot_reply_detail(struct snapshot_task *t, const struct snapshot_done *done);

/* Of task.list. */
void snapshot_reply_list(struct snapshot_task *t);
