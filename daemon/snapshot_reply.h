/* What ferryd answers about snapshots: one of them, or all. Each ends the request. [loop] */
#pragma once

#include "daemon/snapshot_task.h"
#include "proto/worker.pb-c.h"

/* Of task.manifest and its entry in task.list; `done` is that of a capture which has just ended,
 * or NULL. */
void snapshot_reply_detail(struct snapshot_task *t, const Ferry__WorkerSnapshotDone *done);

/* Of task.list. */
void snapshot_reply_list(struct snapshot_task *t);
