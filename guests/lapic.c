/* The local APIC of this CPU, by MMIO. */
#include "guest.h"

#define LAPIC 0xfee00000u
#define REG_ID 0x20
#define REG_TPR 0x80
#define REG_SPURIOUS 0xf0
#define REG_ICR 0x300
#define REG_ICR_HIGH 0x310
#define REG_TIMER 0x320
#define REG_LINT0 0x350
#define REG_LINT1 0x360
#define REG_INITIAL 0x380
#define REG_CURRENT 0x390
#define REG_DIVIDE 0x3e0
#define MASKED 0x10000
#define PERIODIC 0x20000
#define PENDING 0x1000
#define OTHERS 0xc0000

uint32_t lapic_read(unsigned reg)
{
    return *(volatile uint32_t *)(LAPIC + (uintptr_t)reg);
}

void lapic_write(unsigned reg, uint32_t value)
{
    *(volatile uint32_t *)(LAPIC + (uintptr_t)reg) = value;
}

void lapic_init(void)
{
    lapic_write(REG_TPR, 0);
    lapic_write(REG_TIMER, MASKED);
    lapic_write(REG_LINT0, MASKED);
    lapic_write(REG_LINT1, MASKED);
    lapic_write(REG_DIVIDE, 0xb); /* by 1 */
    lapic_write(REG_SPURIOUS, 0x1ff);
}

uint32_t lapic_id(void)
{
    return lapic_read(REG_ID) >> 24;
}

static void wait_sent(void)
{
    while (lapic_read(REG_ICR) & PENDING)
        cpu_relax();
}

void lapic_ipi(uint32_t apic_id, uint32_t command)
{
    lapic_write(REG_ICR_HIGH, apic_id << 24);
    lapic_write(REG_ICR, command);
    wait_sent();
}

void lapic_ipi_others(uint32_t command)
{
    lapic_write(REG_ICR, command | OTHERS);
    wait_sent();
}

/* One measurement; in *doubt_ns how long its two ends lasted: the vCPU may have been set aside. */
static uint64_t measure_hz(uint64_t *doubt_ns)
{
    uint64_t begin = clock_ns(), start, stop, end;
    uint32_t left;

    lapic_write(REG_INITIAL, 0xffffffff);
    start = clock_ns();
    clock_spin_ns(2000000);
    stop = clock_ns();
    left = lapic_read(REG_CURRENT);
    end = clock_ns();
    lapic_write(REG_INITIAL, 0);
    *doubt_ns = start - begin + end - stop;
    return (uint64_t)(0xffffffff - left) * 1000000000 / ((stop + end - start - begin) / 2);
}

/* The one of several measurements with the least doubt, and the first with hardly any. */
uint64_t lapic_timer_hz(void)
{
    static uint64_t hz;
    uint64_t best = ~0ul;

    if (hz)
        return hz;
    lapic_write(REG_TIMER, MASKED);
    for (unsigned i = 0; i < 20 && best > 10000; i++) {
        uint64_t doubt, now = measure_hz(&doubt);

        if (doubt < best) {
            best = doubt;
            hz = now;
        }
    }
    return hz;
}

void lapic_timer(uint32_t ticks, bool periodic)
{
    lapic_write(REG_TIMER, VECTOR_TIMER | (periodic ? PERIODIC : 0));
    lapic_write(REG_INITIAL, ticks);
}

void lapic_timer_stop(void)
{
    lapic_write(REG_TIMER, MASKED);
    lapic_write(REG_INITIAL, 0);
}
