/* See packing.h. */
#include "migrate/packing.h"

#define SECOND_NS 1e9

void packing_init(struct packing *p, enum packing_mode mode, unsigned threads, uint64_t limit,
                  uint64_t now_ns)
{
    *p = (struct packing){.mode = mode,
                          .threads = threads,
                          .limit = limit,
                          .on = mode == PACKING_ALWAYS,
                          .every = PACKING_TRIAL_EVERY,
                          .demand = PACKING_DEMAND,
                          .window_from_ns = now_ns,
                          .looked_ns = now_ns};
}

bool packing_promises(const struct packing_rates *r, unsigned demand)
{
    if (r->link == 0 || r->pack == 0)
        return false;
    double plain = (double)r->link;
    double through = r->permille ? plain * 1000 / r->permille : plain * 1000;
    double packed = through < (double)r->pack ? through : (double)r->pack;
    return packed > plain * demand / 1000;
}

bool packing_pays(const struct packing_rates *r)
{
    return r->plain == 0 || r->packed == 0 || r->packed > r->plain;
}

static bool is_trial(struct packing *p)
{
    if (p->settled || p->frames < p->next_trial)
        return false;
    p->next_trial = p->frames + (p->frames + 1 < PACKING_TRIALS ? 1 : p->every);
    return true;
}

bool packing_next(struct packing *p)
{
    if (p->mode != PACKING_AUTO)
        return p->mode == PACKING_ALWAYS;
    bool packed = (p->on && !p->looking) || is_trial(p);
    p->frames++;
    return packed;
}

static uint64_t per_second(double bytes, double ns)
{
    double rate = ns > 0 ? bytes * SECOND_NS / ns : 0;
    return rate < 1e18 ? (uint64_t)rate : (uint64_t)1e18;
}

static void measure_packing(struct packing *p)
{
    if (p->raw_bytes <= 0)
        return;
    p->rates.pack = per_second(p->raw_bytes, p->pack_ns) * p->threads;
    p->rates.permille = (unsigned)(p->packed_bytes * 1000 / p->raw_bytes);
    p->raw_bytes /= 2;
    p->packed_bytes /= 2;
    p->pack_ns /= 2;
}

static void measure_link(struct packing *p, uint64_t now_ns)
{
    p->rates.link = per_second((double)p->sent_bytes, (double)p->sent_ns);
    if (p->limit && p->rates.link > p->limit)
        p->rates.link = p->limit;
    p->looked_ns = now_ns;
}

static void begin_or_not(struct packing *p)
{
    if (p->wrong_link && p->rates.link < p->wrong_link / 2) {
        p->demand = PACKING_DEMAND;
        p->wrong_link = 0;
    }
    p->on = packing_promises(&p->rates, p->demand);
    p->rates.packed = 0;
    if (p->on)
        p->every = PACKING_TRIAL_EVERY;
    else if (p->every < PACKING_TRIAL_RAREST)
        p->every *= 2;
}

static void go_on_or_not(struct packing *p, uint64_t now_ns)
{
    p->on = packing_pays(&p->rates);
    p->looking = p->on && !p->looking && now_ns - p->looked_ns > PACKING_LOOK_NS;
    if (p->on)
        return;
    p->wrong_link = p->rates.link;
    p->demand = p->demand < PACKING_DEMAND_MAX / 2 ? p->demand * 2 : PACKING_DEMAND_MAX;
}

static void decide(struct packing *p, uint64_t now_ns)
{
    uint64_t through = per_second((double)p->raw_sent, (double)(now_ns - p->window_from_ns));
    measure_packing(p);
    if (p->on && !p->looking) {
        p->rates.packed = through;
    } else {
        p->rates.plain = through;
        measure_link(p, now_ns);
    }
    if (p->on)
        go_on_or_not(p, now_ns);
    else
        begin_or_not(p);
}

void packing_note_sent(struct packing *p, uint64_t raw, uint64_t bytes, uint64_t took_ns,
                       uint64_t now_ns)
{
    p->raw_sent += raw;
    p->sent_bytes += bytes;
    p->sent_ns += took_ns;
    bool full =
        p->raw_sent >= PACKING_WINDOW_BYTES ||
        (p->raw_sent >= PACKING_WINDOW_LEAST && now_ns - p->window_from_ns >= PACKING_WINDOW_NS);
    if (!full || p->mode != PACKING_AUTO || p->settled)
        return;
    decide(p, now_ns);
    p->window_from_ns = now_ns;
    p->raw_sent = p->sent_bytes = p->sent_ns = 0;
}

void packing_note_packed(struct packing *p, uint64_t raw, uint64_t packed, uint64_t took_ns)
{
    p->raw_bytes += (double)raw;
    p->packed_bytes += (double)packed;
    p->pack_ns += (double)took_ns;
}
