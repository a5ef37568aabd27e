/* See sm.h. */
#include "base/sm.h"

#include <errno.h>

void sm_init(struct sm *sm, const struct sm_state *states, unsigned count, unsigned start)
{
    *sm = (struct sm){.states = states, .count = count, .now = start};
}

bool sm_can(const struct sm *sm, unsigned to)
{
    return to < sm->count && (sm->states[sm->now].to & SM_TO(to));
}

int sm_move(struct sm *sm, unsigned to)
{
    if (!sm_can(sm, to))
        return -EPERM;
    sm->now = to;
    return 0;
}

const char *sm_name(const struct sm *sm)
{
    return sm->states[sm->now].name;
}
