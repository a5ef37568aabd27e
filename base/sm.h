/*
 * A state machine is a table: each state has a name and the set of states it may move to. A move
 * that the table does not allow is refused and leaves the state as it was.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define SM_TO(state) (1u << (state))

struct sm_state {
    const char *name;
    uint32_t to; /* SM_TO(a) | SM_TO(b) */
};

struct sm {
    const struct sm_state *states; /* borrowed, const */
    unsigned count, now;
};

void sm_init(struct sm *sm, const struct sm_state *states, unsigned count, unsigned start);
bool sm_can(const struct sm *sm, unsigned to);

/* 0, or -EPERM when the table has no such move. */
int sm_move(struct sm *sm, unsigned to);

const char *sm_name(const struct sm *sm);
