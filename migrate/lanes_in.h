/*
 * The target's data connections beside the first: each has a thread that reads pages straight into
 * the guest's memory, and notes the end of each round. See lanes_out.h.
 */
#pragma once

#include "migrate/inbound.h"
#include "migrate/lanes_out.h"

struct lanes_in;

struct lanes_in *lanes_in_new(const struct stream *const *streams, unsigned count,
                              struct suspects *suspects, uint8_t *ram, uint64_t ram_bytes,
                              struct err *err);
/* Returns when no thread is left that could write to the guest's memory: how much has come. */
uint64_t lanes_in_free(struct lanes_in *s);

/* Whether one has failed; then `err` says how. [any] */
bool lanes_in_failed(struct lanes_in *s, struct err *err);

/* Waits until that round is over on all of them; meanwhile `main` is kept alive. */
int lanes_in_wait(struct lanes_in *s, uint64_t round, struct channel *main, struct err *err);
