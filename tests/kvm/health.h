/* What a guest says of itself on its serial port: the judge of all that is done to it. */
#pragma once

#include <stddef.h>

#include "tests/kvm/host.h"

#define CONSOLE_MAX (1u << 20)

/* All that is kept, freed by the caller. */
char *console_of(struct host *h, const char *name);

/* The guest has said something since it began, and found nothing wrong in all that it said. */
void expect_healthy(struct host *h, const char *name);

/* How many whole lines with its verdict there are. */
unsigned count_verdicts(struct host *h, const char *name);

/* Waits until there are more than that, and expects it to be healthy. */
void expect_more(struct host *h, const char *name, unsigned verdicts);
