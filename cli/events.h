/* One event as a line. */
#pragma once

#include <stdio.h>

#include "base/err.h"
#include "proto/ferry.pb-c.h"

/* "2031-05-06 07:08:09  web  running  text"; always 0. */
int events_print(FILE *out, const Ferry__Event *event);
int events_json(FILE *out, const Ferry__Event *event, struct err *err);
