/* The 8259s, which are masked, and the IOAPIC. */
#include "guest.h"

#define IOAPIC 0xfec00000u

static void ioapic_write(uint32_t reg, uint32_t value)
{
    *(volatile uint32_t *)IOAPIC = reg;
    *(volatile uint32_t *)(IOAPIC + 0x10) = value;
}

void irq_init(void)
{
    outb(0x21, 0xff);
    outb(0xa1, 0xff);
    lapic_init();
}

void irq_route(unsigned pin, bool level, bool low)
{
    uint32_t flags = (level ? 1u << 15 : 0) | (low ? 1u << 13 : 0);

    ioapic_write(0x11 + 2 * pin, lapic_id() << 24);
    ioapic_write(0x10 + 2 * pin, (VECTOR_PIN + pin) | flags);
}

void irq_mask(unsigned pin)
{
    ioapic_write(0x10 + 2 * pin, 1 << 16);
}
