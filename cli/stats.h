/* Counters for people: the unit that ends a counter's name (_bytes, _ns, _us, _ms) is applied. */
#pragma once

#include <stdio.h>

#include "base/err.h"
#include "proto/ferry.pb-c.h"

int stats_print(FILE *out, const Ferry__VmStats *stats, struct err *err);
int stats_json(FILE *out, const Ferry__VmStats *stats, struct err *err);

/* "1 234 567" with spaces between groups of three; "412M"; "3.1us". Returns `to`. */
const char *stats_format(const char *name, uint64_t value, char *to, size_t size);
