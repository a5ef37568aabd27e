/* A snapshot as ferryd describes it, for people and as JSON. */
#pragma once

#include <stdio.h>

#include "base/err.h"
#include "proto/ferry.pb-c.h"

/* Renderers; `now` is the time of the host, since 1970. A detail's summary is there. */
int snapshot_print_list(FILE *out, const Ferry__SnapshotList *list, uint64_t now_wall_ns,
                        struct err *err);
int snapshot_print_detail(FILE *out, const Ferry__SnapshotDetail *s, struct err *err);
int snapshot_json_list(FILE *out, const Ferry__SnapshotList *list, struct err *err);
int snapshot_json_detail(FILE *out, const Ferry__SnapshotDetail *s, struct err *err);

/* A capture that has just ended: one line, which says what it cost. */
int snapshot_print_made(FILE *out, const Ferry__SnapshotDetail *s);
int snapshot_json_made(FILE *out, const Ferry__SnapshotDetail *s, struct err *err);

/* One that has just come, likewise. */
int snapshot_print_imported(FILE *out, const Ferry__SnapshotDetail *s);
