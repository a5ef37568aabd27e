/* The timer of the local APIC of each CPU, in its three ways. */
#include "timer.h"

#define MSR_TSC_DEADLINE 0x6e0
#define LVT_TIMER 0x320
#define MODE_DEADLINE 0x40000
#define CPUID_DEADLINE (1u << 24)
#define PERIODS 8
#define MODES_EACH 20 /* one-shot ticks before the next way */

static uint64_t interval_ns, lost_ns, early_allowed, early;
static bool has_deadline;
static struct {
    unsigned kind, left;
} turns[MAX_CPUS];

void timer_begin(void)
{
    interval_ns = cmdline_number("interval", 5000) * 1000;
    lost_ns = cmdline_number("lost", 5000) * 1000000;
    early_allowed = cmdline_number("early", 0);
    has_deadline = cpu_id(1, 0).ecx & CPUID_DEADLINE;
    lapic_timer_hz();
}

bool timer_has_deadline(void)
{
    return has_deadline;
}

static uint32_t interval_ticks(void)
{
    return (uint32_t)(interval_ns * (lapic_timer_hz() / 1000) / 1000000);
}

/* Sleeps until count interrupts came since seen; false when one of them stays away too long. */
static bool wait_ticks(struct cpu *cpu, uint32_t seen, uint32_t count)
{
    volatile uint32_t *irqs = &cpu->irqs[VECTOR_TIMER];
    uint64_t last = clock_ns();

    for (uint32_t now = *irqs, before = now; now - seen < count; before = now, now = *irqs) {
        clocks_check(cpu);
        if (now != before)
            last = clock_ns();
        if (clock_ns() - last > interval_ns + lost_ns)
            return false;
        cpu_wait(irqs, now);
    }
    return true;
}

/*
 * Interrupts are off but in wait_ticks: one that was asked for meanwhile waits in the LAPIC, also
 * when its timer is stopped by now. It is let in here, or it would be taken for one of the next
 * timer.
 */
static void let_in(void)
{
    cpu_irqs_on();
    for (unsigned i = 0; i < 4; i++)
        cpu_relax();
    cpu_irqs_off();
}

/* A timer that ticks once has ticked, and does so no more. */
static void expect_one(struct cpu *cpu, const char *kind, uint32_t seen)
{
    let_in();
    if (cpu->irqs[VECTOR_TIMER] != seen + 1)
        life_error(&timer_life, "cpu=%u %s timer ticked %u times", cpu->index, kind,
                   cpu->irqs[VECTOR_TIMER] - seen);
}

/*
 * How late or early a tick is; the frequency of the timer was measured, to two parts in a hundred.
 * A machine that is saved stops its clock a moment before its timers: that makes a tick early.
 */
static void judge(struct cpu *cpu, const char *kind, uint64_t due, uint64_t now)
{
    struct timer_counts *c = &timer_counts[cpu->index];

    if (now > due && now - due > c->late_ns)
        c->late_ns = now - due;
    if (now + interval_ns / 50 + 20000 >= due)
        return;
    if (__atomic_add_fetch(&early, 1, __ATOMIC_SEQ_CST) > early_allowed)
        life_error(&timer_life, "cpu=%u %s tick early by ns=%lu, for the time %lu", cpu->index,
                   kind, due - now, early);
}

uint64_t timer_early(void)
{
    return early;
}

static void lost(struct cpu *cpu, const char *kind)
{
    life_error(&timer_life, "cpu=%u %s timer lost: no tick for ms=%lu lvt=0x%x current=%u",
               cpu->index, kind, lost_ns / 1000000, lapic_read(LVT_TIMER), lapic_read(0x390));
}

static void oneshot(struct cpu *cpu)
{
    uint32_t seen = cpu->irqs[VECTOR_TIMER];
    uint64_t start = clock_ns();

    lapic_timer(interval_ticks(), false);
    if (!wait_ticks(cpu, seen, 1)) {
        lost(cpu, "one-shot");
        return;
    }
    timer_counts[cpu->index].ticks[TIMER_ONESHOT]++;
    judge(cpu, "one-shot", start + interval_ns, clock_ns());
    expect_one(cpu, "one-shot", seen);
}

static void periodic(struct cpu *cpu)
{
    uint32_t seen = cpu->irqs[VECTOR_TIMER];
    uint64_t start = clock_ns(), ticks, due;

    lapic_timer(interval_ticks(), true);
    if (!wait_ticks(cpu, seen, PERIODS))
        lost(cpu, "periodic");
    lapic_timer_stop();
    let_in();
    due = (clock_ns() - start) / (interval_ns - interval_ns / 50) + 1;
    ticks = cpu->irqs[VECTOR_TIMER] - seen;
    timer_counts[cpu->index].ticks[TIMER_PERIODIC] += ticks;
    if (ticks > due)
        life_error(&timer_life, "cpu=%u periodic timer ticked %lu times, due are %lu", cpu->index,
                   ticks, due);
    if (due > ticks + 1)
        timer_counts[cpu->index].missed += due - ticks - 1;
}

static void deadline(struct cpu *cpu)
{
    uint32_t seen = cpu->irqs[VECTOR_TIMER];
    uint64_t start, due;

    lapic_write(LVT_TIMER, MODE_DEADLINE | VECTOR_TIMER);
    start = clock_ns();
    due = cpu_tsc() + interval_ns * (clock_tsc_hz() / 1000000) / 1000;
    if (cpu_wrmsr(MSR_TSC_DEADLINE, due)) {
        life_error(&timer_life, "cpu=%u the TSC deadline cannot be written", cpu->index);
        return;
    }
    if (!wait_ticks(cpu, seen, 1)) {
        lost(cpu, "deadline");
        return;
    }
    if (cpu_tsc() < due && early_allowed == 0)
        life_error(&timer_life, "cpu=%u deadline tick at tsc=%lu before %lu", cpu->index, cpu_tsc(),
                   due);
    timer_counts[cpu->index].ticks[TIMER_DEADLINE]++;
    judge(cpu, "deadline", start + interval_ns, clock_ns());
    expect_one(cpu, "deadline", seen);
}

void timer_step(struct cpu *cpu)
{
    static void (*const ways[TIMER_KINDS])(struct cpu *) = {oneshot, periodic, deadline};
    unsigned kinds = has_deadline ? TIMER_KINDS : TIMER_DEADLINE;
    unsigned kind = turns[cpu->index].kind % kinds;

    clocks_check(cpu);
    ways[kind](cpu);
    if (++turns[cpu->index].left >= (kind == TIMER_PERIODIC ? MODES_EACH / PERIODS : MODES_EACH)) {
        turns[cpu->index].left = 0;
        turns[cpu->index].kind = kind + 1;
        lapic_timer_stop();
    }
}
