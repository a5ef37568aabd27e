/* The power button, and the ways to end the machine. */
#include "guest.h"

#define PWRBTN 0x100
#define SLP_EN 0x2000
#define PATIENCE_TICKS 2000000000ul /* of the TSC: about a second */

bool power_button(void)
{
    static bool enabled;
    uint16_t port = acpi_pm_event(), status = inw(port);

    if (status == 0xffff) /* nobody answers */
        return false;
    if (!enabled)
        outw(port + 2, PWRBTN);
    enabled = true;
    if (!(status & PWRBTN))
        return false;
    outw(port, PWRBTN);
    return true;
}

static void wait_for_the_end(void)
{
    uint64_t start = cpu_tsc();

    while (cpu_tsc() - start < PATIENCE_TICKS)
        cpu_relax();
}

void power_reset(void)
{
    outb(0x64, 0xfe);
    wait_for_the_end();
    say("the machine cannot be reset");
    cpu_halt();
}

void power_off(void)
{
    if (acpi_sleep_register())
        *(volatile uint8_t *)(uintptr_t)acpi_sleep_register() = acpi_s5() << 2 | 0x20;
    outw(acpi_pm_control(), (uint16_t)(acpi_s5() << 10 | SLP_EN));
    wait_for_the_end();
    power_reset();
}

void power_triple_fault(void)
{
    gate(GATE_TRIPLE, 0, 0, NULL);
    cpu_halt();
}
