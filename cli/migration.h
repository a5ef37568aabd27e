/* A migration as people and programs read it. */
#pragma once

#include <stdio.h>

#include "base/err.h"
#include "proto/ferry.pb-c.h"

/* One line: where to, how long it took, and the downtime in its parts. */
int migration_print_done(FILE *out, const Ferry__MigrationReport *r);

/* What stands against it, a line each. */
int migration_print_reasons(FILE *out, const Ferry__MigrationReport *r);
int migration_print(FILE *out, const Ferry__MigrationReport *r, struct err *err);
int migration_json(FILE *out, const Ferry__MigrationReport *r, struct err *err);
