/*
 * When to pause: what a pause would cost now, and whether another round would make it cheaper. Pure
 * functions of numbers.
 *
 * A round that is short leaves little behind, so rounds go on below the budget for as long as each
 * at least halves what is left: the pause then gets as short as the guest's writing allows.
 */
#pragma once

#include <stdint.h>

#include "vmstate/capture.h"

#define CAPTURE_PLAN_FEW 16u   /* pages that are not worth another round */
#define CAPTURE_PLAN_STALLS 3u /* rounds without gain before it counts as stalled */

/* Measured; a cost that was not measured yet has 0 pages. */
struct capture_cost {
    uint64_t ns, pages;
};

struct capture_costs {
    uint64_t fixed_ns, collect_ns;
    struct capture_cost copy, sink;
    uint64_t buffer_pages; /* copied in the pause; the rest goes to the sink in it */
};

#define CAPTURE_PLAN_COPY_NS 1000u /* a page, as long as nothing was measured */
#define CAPTURE_PLAN_SINK_NS 4000u

uint64_t capture_plan_predict(const struct capture_costs *costs, uint64_t left);

struct capture_plan {
    uint64_t budget_ns;
    unsigned max_rounds;
    uint64_t last_left, best_left; /* begin as UINT64_MAX */
    unsigned stalls;
};

void capture_plan_init(struct capture_plan *plan, uint64_t budget_ns, unsigned max_rounds);

/* After `rounds` rounds, with `left` pages to go; CAPTURE_NOT_PAUSED: another round. */
enum capture_reason capture_plan_judge(struct capture_plan *plan, unsigned rounds, uint64_t left,
                                       uint64_t predicted_ns);
