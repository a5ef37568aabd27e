/*
 * The smallest guest: says hello at once, then counts, asleep between two lines.
 *
 *   once      power off behind the first line     reset     reset through the i8042
 *   triple    triple fault                        ud        an instruction that KVM cannot emulate
 *   idle      HLT for ever                        spin      busy instead of asleep
 *   exits=N   N port exits, and what one costs    reboot=N  reset after N lines
 */
#include "guest.h"

#define UNCLAIMED_PORT 0x80

const char guest_name[] = "hello";

void guest_early(void)
{
    static const char text[] = "hello from ferry guest\n";

    serial_write(text, sizeof(text) - 1);
}

static void measure_exits(uint64_t n)
{
    uint64_t start, ns, sum = 0;

    clock_init_cpu();
    start = clock_ns();
    for (uint64_t i = 0; i < n; i++)
        sum += inb(UNCLAIMED_PORT);
    ns = clock_ns() - start;
    say("exits=%lu ns=%lu ns_per_exit=%lu value=0x%lx", n, ns, ns / n, sum / n);
}

/* What ends the guest before it counts, if the command line asks for it. */
static void act_at_once(void)
{
    if (cmdline_has("once")) {
        say("ok once");
        power_off();
    }
    if (cmdline_has("reset"))
        power_reset();
    if (cmdline_has("triple"))
        power_triple_fault();
    if (cmdline_has("ud")) {
        gate(GATE_FAIL, 0, 0, NULL);
        say("FAIL an instruction that KVM cannot emulate was executed");
        power_off();
    }
    if (cmdline_has("idle"))
        cpu_halt();
}

static void wait_until(uint64_t ns)
{
    if (!cmdline_has("spin")) {
        clock_sleep_until(ns);
        return;
    }
    while (clock_ns() < ns)
        cpu_relax();
}

static void count_line(struct life *life, uint64_t now, uint64_t last)
{
    uint64_t due = last + life->period_ns;

    if (now < last)
        life_error(life, "the clock went back: from %lu to %lu ns", last, now);
    if (now < due)
        life_error(life, "woken early: %lu instead of %lu ns", now, due);
    say("count=%lu ms=%lu gap_us=%lu errors=%lu", life->lines + 1,
        (now - life->started_ns) / 1000000, (now - last) / 1000, life->errors);
}

void guest_main(void)
{
    uint64_t reboot = cmdline_number("reboot", 0), exits = cmdline_number("exits", 0);
    struct life life;
    uint64_t last;

    say("ready");
    act_at_once();
    if (exits)
        measure_exits(exits);
    irq_init();
    clock_init_cpu();
    life_begin(&life, 100);
    last = life.started_ns;
    for (;;) {
        uint64_t now;

        wait_until(last + life.period_ns);
        now = clock_ns();
        if (life_inject(&life))
            last += 1000 * life.period_ns;
        count_line(&life, now, last);
        last = now;
        if (reboot && life.lines + 1 >= reboot)
            power_reset();
        if (life_line(&life))
            life_finish(&life);
    }
}
