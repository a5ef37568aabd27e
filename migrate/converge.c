/* See converge.h. */
#include "migrate/converge.h"

#include <stdbool.h>

#define UNKNOWN_BYTES_PER_S (100ull << 20)

void converge_init(struct converge *c, uint64_t downtime_ns, enum converge_on_stall on_stall)
{
    *c = (struct converge){.downtime_ns = downtime_ns,
                           .on_stall = on_stall,
                           .last_left = UINT64_MAX,
                           .best_left = UINT64_MAX};
}

uint64_t converge_predict(const struct converge_round *r)
{
    uint64_t rate = r->bytes_per_s ? r->bytes_per_s : UNKNOWN_BYTES_PER_S;
    double ns = (double)r->fixed_ns + (double)r->left_bytes * 1e9 / (double)rate;
    return ns < (double)UINT64_MAX / 2 ? (uint64_t)ns : UINT64_MAX;
}

/* A gain of less than an eighth is noise. */
static void note(struct converge *c, uint64_t left)
{
    c->last_left = left;
    if (left < c->best_left - c->best_left / 8) {
        c->best_left = left;
        c->stalls = 0;
    } else {
        c->stalls++;
    }
}

/* A throttled guest begins anew: what it gained before says nothing now. */
static enum converge_verdict slow_down(struct converge *c)
{
    unsigned next = c->throttle ? c->throttle + CONVERGE_THROTTLE_STEP : CONVERGE_THROTTLE_FIRST;
    if (c->throttle >= CONVERGE_THROTTLE_MAX)
        return CONVERGE_GIVE_UP;
    c->throttle = next < CONVERGE_THROTTLE_MAX ? next : CONVERGE_THROTTLE_MAX;
    c->stalls = 0;
    c->best_left = UINT64_MAX;
    return CONVERGE_SLOW_DOWN;
}

static enum converge_verdict stalled(struct converge *c)
{
    switch (c->on_stall) {
    case CONVERGE_THROTTLE:
        return slow_down(c);
    case CONVERGE_FORCE:
        return CONVERGE_SWITCH_NOW;
    default:
        return CONVERGE_GIVE_UP;
    }
}

enum converge_verdict converge_decide(struct converge *c, const struct converge_round *r)
{
    bool fits = converge_predict(r) <= c->downtime_ns;
    bool worth = r->left_bytes > CONVERGE_FEW_BYTES && r->left_bytes <= c->last_left / 2;
    note(c, r->left_bytes);
    if (fits && (!worth || r->rounds >= CONVERGE_ROUNDS))
        return CONVERGE_SWITCH;
    if (!fits && c->stalls >= CONVERGE_STALLS)
        return stalled(c);
    return CONVERGE_GO_ON;
}
