/* See capture_plan.h. */
#include "vmstate/capture_plan.h"

#include <stdbool.h>

/* Saturates: a prediction that is absurd is long, not short. */
static uint64_t times(struct capture_cost cost, uint64_t unknown_ns, uint64_t pages)
{
    uint64_t each = cost.pages ? cost.ns / cost.pages + (cost.ns % cost.pages != 0) : unknown_ns;
    uint64_t out;
    return __builtin_mul_overflow(each, pages, &out) ? UINT64_MAX : out;
}

static uint64_t plus(uint64_t a, uint64_t b)
{
    return a > UINT64_MAX - b ? UINT64_MAX : a + b;
}

uint64_t capture_plan_predict(const struct capture_costs *costs, uint64_t left)
{
    uint64_t copied = left < costs->buffer_pages ? left : costs->buffer_pages;
    uint64_t ns = plus(costs->fixed_ns, costs->collect_ns);
    ns = plus(ns, times(costs->copy, CAPTURE_PLAN_COPY_NS, copied));
    return plus(ns, times(costs->sink, CAPTURE_PLAN_SINK_NS, left - copied));
}

void capture_plan_init(struct capture_plan *plan, uint64_t budget_ns, unsigned max_rounds)
{
    *plan = (struct capture_plan){.budget_ns = budget_ns,
                                  .max_rounds = max_rounds,
                                  .last_left = UINT64_MAX,
                                  .best_left = UINT64_MAX};
}

/* A gain of less than an eighth is noise. */
static void note(struct capture_plan *plan, uint64_t left)
{
    if (left < plan->best_left - plan->best_left / 8) {
        plan->best_left = left;
        plan->stalls = 0;
    } else {
        plan->stalls++;
    }
}

enum capture_reason capture_plan_judge(struct capture_plan *plan, unsigned rounds, uint64_t left,
                                       uint64_t predicted_ns)
{
    bool fits = predicted_ns <= plan->budget_ns;
    bool worth = left > CAPTURE_PLAN_FEW && left <= plan->last_left / 2;
    plan->last_left = left;
    note(plan, left);
    if (fits && (!worth || rounds >= plan->max_rounds))
        return CAPTURE_FITS;
    if (plan->stalls >= CAPTURE_PLAN_STALLS)
        return CAPTURE_STALLED;
    return rounds >= plan->max_rounds ? CAPTURE_ROUNDS : CAPTURE_NOT_PAUSED;
}
