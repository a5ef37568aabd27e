/*
 * A guest on its way from here to another host, from the request to the report.
 *
 *     migration_start ─► describe [loop] ─► dial, offer, worker's job [job] ─► report [loop]
 *
 * The client that asked may stay for the report, leave (then it is cancelled), or have asked to be
 * detached. Before the switch a cancel leaves all as it was; after it, it comes too late.
 *
 * ROOT/migrations/NAME keeps the report of the last one.
 */
#pragma once

#include "daemon/request.h"

struct migration;

/* The request waits for its end; or, detached, for its beginning. */
int migration_start(struct request *rq, struct err *err);

/* The one that is under way from that VM, or NULL. */
struct migration *migration_find(struct daemon *d, const char *vm);

/* Has it end early; the request waits for that. */
void migration_cancel(struct migration *m, struct request *rq);

/* The report of one under way: valid until the loop goes on. */
void migration_describe(struct migration *m, Ferry__MigrationReport *report,
                        Ferry__Progress *progress);

/* That of the last one, freed by frame_free. */
Ferry__MigrationReport *migration_load(struct daemon *d, const char *vm, struct err *err);
