/* The handlers of rpc_table.c, by noun. Each may rely on what its row says. */
#pragma once

#include "daemon/request.h"

/* handle_start.c */
int handle_start(struct request *rq, struct err *err);

/* handle_end.c */
int handle_stop(struct request *rq, struct err *err);
int handle_kill(struct request *rq, struct err *err);
int handle_remove(struct request *rq, struct err *err);

/* handle_control.c */
int handle_pause(struct request *rq, struct err *err);
int handle_resume(struct request *rq, struct err *err);
int handle_reset(struct request *rq, struct err *err);

/* handle_look.c */
int handle_version(struct request *rq, struct err *err);
int handle_list(struct request *rq, struct err *err);
int handle_show(struct request *rq, struct err *err);
int handle_stats(struct request *rq, struct err *err);

/* handle_events.c */
int handle_events(struct request *rq, struct err *err);

/* handle_console.c */
int handle_console(struct request *rq, struct err *err);
int handle_console_input(struct request *rq, struct err *err);

/* handle_snapshot_create.c */
int handle_snapshot_create(struct request *rq, struct err *err);
int handle_snapshot_untrack(struct request *rq, struct err *err);

/* handle_snapshot.c */
int handle_snapshot_list(struct request *rq, struct err *err);
int handle_snapshot_show(struct request *rq, struct err *err);
int handle_snapshot_verify(struct request *rq, struct err *err);

/* handle_snapshot_remove.c */
int handle_snapshot_remove(struct request *rq, struct err *err);
int handle_snapshot_prune(struct request *rq, struct err *err);

/* handle_transfer.c */
int handle_snapshot_export(struct request *rq, struct err *err);
int handle_snapshot_import(struct request *rq, struct err *err);
int handle_snapshot_import_data(struct request *rq, struct err *err);

/* handle_migrate.c */
int handle_migrate(struct request *rq, struct err *err);
int handle_migration_show(struct request *rq, struct err *err);
int handle_migration_cancel(struct request *rq, struct err *err);
int handle_migration_resolve(struct request *rq, struct err *err);

/* handle_restore.c */
int handle_restore(struct request *rq, struct err *err);
