/*
 * Writes pages at a rate, checks them, and tells how long it stood still.
 *
 * The time between two steps is looked at all the time, so the longest gap of a line shows a pause
 * to the microsecond. Printing takes long and is timed by itself.
 */
#include "dirty.h"

const char guest_name[] = "dirty";
struct life dirty_life;
uint64_t dirty_seed;

static void finish(void)
{
    work_check_all();
    sweep_check_all();
    say("checked all: pages=%lu fill_pages=%lu errors=%lu", work_pages(), sweep_pages(),
        dirty_life.errors);
    life_finish(&dirty_life);
}

static void print_line(uint64_t now, uint64_t gap_ns, uint64_t print_ns)
{
    say("ms=%lu gap_us=%lu print_us=%lu written=%lu pass=%lu swept=%lu errors=%lu",
        (now - dirty_life.started_ns) / 1000000, gap_ns / 1000, print_ns / 1000, work_pace()->done,
        work_pass(), sweep_pace()->done, dirty_life.errors);
}

/* Whatever is due. With the option sleep, sleeps when there was nothing to do. */
static void step(uint64_t now, uint64_t nap_ns)
{
    bool write = pace_due(work_pace(), now), check = pace_due(sweep_pace(), now);

    if (write)
        work_step();
    if (check)
        sweep_step();
    if (nap_ns && !write && !check)
        clock_sleep_until(now + nap_ns);
}

/* Steps until it is time for a line; returns the longest time between two steps. */
static uint64_t work_until_line(uint64_t *now, uint64_t nap_ns)
{
    uint64_t gap = 0;

    do {
        uint64_t last = *now;

        step(last, nap_ns);
        *now = clock_ns();
        if (*now < last)
            life_error(&dirty_life, "the clock went back: from %lu to %lu ns", last, *now);
        else if (*now - last > gap)
            gap = *now - last;
    } while (!life_due(&dirty_life, *now));
    return gap;
}

static void run(void)
{
    uint64_t now = clock_ns(), print_ns = 0;
    uint64_t nap_ns = cmdline_number("sleep", cmdline_has("sleep")) * 1000000;

    pace_begin(work_pace(), now);
    pace_begin(sweep_pace(), now);
    for (;;) {
        uint64_t gap_ns = work_until_line(&now, nap_ns), printed;

        if (life_inject(&dirty_life)) {
            work_break();
            sweep_break();
        }
        print_line(now, gap_ns, print_ns);
        if (life_line(&dirty_life))
            finish();
        printed = clock_ns();
        print_ns = printed - now;
        now = printed;
    }
}

void guest_main(void)
{
    uint64_t start;

    say("ready");
    irq_init();
    clock_init_cpu();
    dirty_seed = random_seed();
    start = clock_ns();
    work_begin();
    sweep_begin();
    say("filled pages=%lu fill_pages=%lu ms=%lu clock=%s", work_pages(), sweep_pages(),
        (clock_ns() - start) / 1000000, clock_source());
    life_begin(&dirty_life, 100);
    run();
}
