/*
 * The clocks, looked at between two ticks.
 *
 * All CPUs compare with the latest value that any of them saw, under a lock: so a TSC or a
 * kvmclock that lags on one CPU goes backwards, though it never does by itself.
 */
#include "timer.h"

#define ROUNDS 16
#define JUMP_NS 1000000

struct latest {
    uint64_t tsc, ns;
    uint32_t tsc_cpu, ns_cpu;
};

static struct lock lock;
static struct latest latest;
static uint64_t start_tsc, start_ns, backwards, jumps;
static int64_t drift_ns;
static bool strict;

void clocks_begin(void)
{
    strict = cmdline_has("strict");
    start_tsc = cpu_tsc();
    start_ns = clock_ns();
}

/* In two steps: a division of 128 bits is not to be had here. */
static uint64_t ticks_ns(uint64_t ticks)
{
    uint64_t hz = clock_tsc_hz(), s = ticks / hz;

    return s * 1000000000 + (ticks - s * hz) * 1000000000 / hz;
}

static void check_order(struct cpu *cpu)
{
    uint64_t tsc, ns;
    struct latest seen;

    lock_take(&lock);
    tsc = cpu_tsc();
    ns = clock_ns();
    seen = latest;
    if (tsc > latest.tsc) {
        latest.tsc = tsc;
        latest.tsc_cpu = cpu->index;
    }
    if (ns > latest.ns) {
        latest.ns = ns;
        latest.ns_cpu = cpu->index;
    }
    backwards += (tsc < seen.tsc) + (ns < seen.ns);
    lock_drop(&lock);
    if (tsc < seen.tsc)
        life_error(&timer_life, "tsc=%lu on cpu=%u behind %lu on cpu=%u by %lu", tsc, cpu->index,
                   seen.tsc, seen.tsc_cpu, seen.tsc - tsc);
    if (ns < seen.ns)
        life_error(&timer_life, "%s=%lu on cpu=%u behind %lu on cpu=%u by ns=%lu", clock_source(),
                   ns, cpu->index, seen.ns, seen.ns_cpu, seen.ns - ns);
}

/* CPU 0 only: how far the two clocks went apart. A sample that was interrupted is taken again. */
static void check_drift(void)
{
    uint64_t before, ns, after;
    int64_t drift;

    do {
        before = cpu_tsc();
        ns = clock_ns();
        after = cpu_tsc();
    } while (after - before > clock_tsc_hz() / 10000);
    drift = (int64_t)(ns - start_ns) - (int64_t)ticks_ns(before - start_tsc);
    if (drift - drift_ns > JUMP_NS || drift_ns - drift > JUMP_NS) {
        jumps++;
        if (strict)
            life_error(&timer_life, "%s jumped against the tsc by ns=%ld", clock_source(),
                       drift - drift_ns);
    }
    drift_ns = drift;
}

void clocks_check(struct cpu *cpu)
{
    for (unsigned i = 0; i < ROUNDS; i++)
        check_order(cpu);
    if (cpu->index == 0)
        check_drift();
}

void clocks_break(void)
{
    lock_take(&lock);
    latest.tsc += clock_tsc_hz() / 100;
    latest.ns += 10000000;
    lock_drop(&lock);
}

int64_t clocks_drift_us(void)
{
    return drift_ns / 1000;
}

uint64_t clocks_jumps(void)
{
    return jumps;
}

uint64_t clocks_backwards(void)
{
    return backwards;
}
