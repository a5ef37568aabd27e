/*
 * When to switch over: what a pause would cost now, and what to do about a guest that writes faster
 * than it can be sent. Pure functions of numbers.
 *
 *     prediction = fixed costs (stop, state, load, a round trip) + what is left / measured rate
 *
 * Rounds go on below the limit for as long as each at least halves what is left, so that the pause
 * gets as short as the guest's writing allows. Rounds that gain less than an eighth, three in a
 * row, are a stall.
 */
#pragma once

#include <stdint.h>

#define CONVERGE_STALLS 3u
#define CONVERGE_FEW_BYTES (16u * 4096u) /* not worth another round */
#define CONVERGE_ROUNDS 40u
#define CONVERGE_THROTTLE_FIRST 20u /* percent */
#define CONVERGE_THROTTLE_STEP 20u
#define CONVERGE_THROTTLE_MAX 95u

enum converge_on_stall { CONVERGE_THROTTLE, CONVERGE_CANCEL, CONVERGE_FORCE };

enum converge_verdict {
    CONVERGE_GO_ON,
    CONVERGE_SWITCH,     /* it fits */
    CONVERGE_SWITCH_NOW, /* it does not, but is wanted all the same */
    CONVERGE_SLOW_DOWN,  /* throttle the guest to converge->throttle percent and go on */
    CONVERGE_GIVE_UP,
};

struct converge {
    uint64_t downtime_ns; /* the limit */
    enum converge_on_stall on_stall;
    unsigned throttle; /* percent of their time that the vCPUs are held */
    uint64_t last_left, best_left;
    unsigned stalls;
};

/* After a round. */
struct converge_round {
    unsigned rounds; /* done so far */
    uint64_t left_bytes;
    uint64_t bytes_per_s; /* measured */
    uint64_t fixed_ns;
};

void converge_init(struct converge *c, uint64_t downtime_ns, enum converge_on_stall on_stall);

/* Saturates: an absurd prediction is long, not short. */
uint64_t converge_predict(const struct converge_round *r);

enum converge_verdict converge_decide(struct converge *c, const struct converge_round *r);
