/*
 * Watches the generation of its machine (VMGenID): finds it by the ACPI tables, and says when it
 * changes. A change must be told by an interrupt, and an interrupt must have a change behind it.
 */
#include "guest.h"

#define NAP_NS 1000000
#define TOLD_WITHIN_NS 1000000000ul
#define BYTES 16

const char guest_name[] = "genid";

static struct life life;
static const volatile uint8_t *place;
static volatile uint32_t *told; /* how often the interrupt came */
static uint8_t have[BYTES];
static uint32_t changes, answered; /* of the generation; interrupts that were looked after */
static uint64_t changed_ns;

static void read_generation(uint8_t *to)
{
    for (unsigned i = 0; i < BYTES; i++)
        to[i] = place[i];
}

/* As Windows writes it: the first three numbers are little-endian. */
static void say_generation(const char *what)
{
    const uint8_t *g = have;

    say("%s %02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", what, g[3], g[2],
        g[1], g[0], g[5], g[4], g[7], g[6], g[8], g[9], g[10], g[11], g[12], g[13], g[14], g[15]);
}

static void look(void)
{
    uint32_t irqs = *told; /* before the bytes: they change first */
    uint8_t now[BYTES];

    read_generation(now);
    if (memcmp(now, have, BYTES)) {
        memcpy(have, now, BYTES);
        changes++;
        changed_ns = clock_ns();
        say_generation("changed to");
    }
    if (irqs > changes) {
        life_error(&life, "interrupts=%u, but the generation changed only %u times", irqs, changes);
        changes = irqs;
    }
    answered = irqs;
    if (answered < changes && clock_ns() - changed_ns > TOLD_WITHIN_NS) {
        life_error(&life, "the generation changed %u times, interrupts=%u", changes, answered);
        changes = answered;
    }
}

static bool begin(void)
{
    static const uint8_t nothing[BYTES];
    uint64_t addr;
    unsigned pin;

    if (!acpi_generation(&addr, &pin) || addr % 8 || addr >> 32) {
        life_error(&life, "the ACPI tables name no generation");
        return false;
    }
    say("found at 0x%lx, told by pin=%u", addr, pin);
    place = (const volatile uint8_t *)(uintptr_t)addr;
    told = &cpu_self()->irqs[VECTOR_PIN + pin];
    irq_route(pin, false, false);
    read_generation(have);
    if (!memcmp(have, nothing, BYTES))
        life_error(&life, "the generation is zero");
    say_generation("began as");
    return true;
}

void guest_main(void)
{
    say("ready");
    irq_init();
    clock_init_cpu();
    lapic_timer_hz();
    life_begin(&life, 100);
    if (!begin())
        life_finish(&life);
    for (;;) {
        clock_sleep_until(clock_ns() + NAP_NS);
        look();
        if (!life_due(&life, clock_ns()))
            continue;
        if (life_inject(&life))
            have[0] ^= 1;
        say("ms=%lu changes=%u interrupts=%u errors=%lu", (clock_ns() - life.started_ns) / 1000000,
            changes, answered, life.errors);
        if (life_line(&life))
            life_finish(&life);
    }
}
