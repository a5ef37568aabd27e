/*
 * Clocks against each other, and timers against clocks, on every CPU.
 *
 * A CPU arms its local timer in three ways by turns: one shot, periodic, TSC deadline. Too early is
 * an error, and so is never; too late is only reported, for a machine may have been stopped. CPU 0
 * also counts the ticks of the PIT, and wakes the others now and then, so that a CPU whose timer
 * is lost can say so.
 *
 *   interval=US   between two ticks, 5000        strict   a clock that jumps is an error
 *   lost=MS       a timer this late is lost, 5000          early=N  early ticks allowed, 0
 */
#include "timer.h"

#define PIT_HZ 1193182ul
#define PIT_DIVISOR 11932ul /* 100 a second */
#define PIT_SLACK 3

const char guest_name[] = "timer";
struct life timer_life;
struct timer_counts timer_counts[MAX_CPUS];
static uint64_t pit_start_ns, pit_extra;

static uint32_t pit_ticks(void)
{
    /* Machines differ in which pin the PIT has: that of the bus, or 2. */
    return cpu_at(0)->irqs[VECTOR_PIN] + cpu_at(0)->irqs[VECTOR_PIN + 2];
}

static void pit_begin(void)
{
    irq_route(0, false, false);
    irq_route(2, false, false);
    outb(0x43, 0x34); /* channel 0, low and high byte, mode 2 */
    outb(0x40, PIT_DIVISOR & 0xff);
    outb(0x40, PIT_DIVISOR >> 8);
    pit_start_ns = clock_ns();
}

/* Ticks that were missed may be made up for, but none may come that were not due. */
static void pit_check(uint64_t now)
{
    uint64_t due = (now - pit_start_ns) / 1000 * PIT_HZ / PIT_DIVISOR / 1000000;
    uint64_t ticks = pit_ticks() + pit_extra;

    if (ticks > due + due / 100 + PIT_SLACK)
        life_error(&timer_life, "pit ticks=%lu, due are %lu", ticks, due);
}

static void print_line(uint64_t now, unsigned cpus)
{
    struct timer_counts sum = {0};

    for (unsigned i = 0; i < cpus; i++) {
        struct timer_counts *c = &timer_counts[i];

        for (unsigned kind = 0; kind < TIMER_KINDS; kind++)
            sum.ticks[kind] += c->ticks[kind];
        sum.late_ns = sum.late_ns > c->late_ns ? sum.late_ns : c->late_ns;
        sum.missed += c->missed;
        c->late_ns = 0;
    }
    say("ms=%lu cpus=%u oneshot=%lu periodic=%lu deadline=%lu pit=%u max_late_us=%lu early=%lu "
        "missed=%lu "
        "drift_us=%ld jumps=%lu backwards=%lu errors=%lu",
        (now - timer_life.started_ns) / 1000000, cpus, sum.ticks[TIMER_ONESHOT],
        sum.ticks[TIMER_PERIODIC], sum.ticks[TIMER_DEADLINE], pit_ticks(), sum.late_ns / 1000,
        timer_early(), sum.missed, clocks_drift_us(), clocks_jumps(), clocks_backwards(),
        timer_life.errors);
}

static void other_main(struct cpu *cpu)
{
    for (;;)
        timer_step(cpu);
}

static void run(unsigned cpus)
{
    for (;;) {
        uint64_t now;

        timer_step(cpu_self());
        now = clock_ns();
        if (!life_due(&timer_life, now))
            continue;
        if (cpus > 1)
            lapic_ipi_others(VECTOR_IPI);
        if (life_inject(&timer_life)) {
            pit_extra = 1000;
            clocks_break();
        }
        pit_check(now);
        print_line(now, cpus);
        if (life_line(&timer_life))
            life_finish(&timer_life);
    }
}

void guest_main(void)
{
    unsigned cpus;

    say("ready");
    irq_init();
    clock_init_cpu();
    timer_begin();
    life_begin(&timer_life, 100);
    clocks_begin();
    cpus = cpus_start(other_main);
    say("started cpus=%u clock=%s tsc_hz=%lu lapic_hz=%lu deadline=%s", cpus, clock_source(),
        clock_tsc_hz(), lapic_timer_hz(), timer_has_deadline() ? "yes" : "no");
    pit_begin();
    run(cpus);
}
