/* See evil.h: ports. */
#include "evil.h"

struct range {
    uint16_t first, count;
};

static const struct range ranges[] = {
    {0x20, 2},  {0xa0, 2},  {0x40, 4},   {0x60, 5},  {0x70, 2},   {0x92, 1},
    {0x3f8, 8}, {0x4d0, 2}, {0x600, 16}, {0xcf8, 8}, {0, 0xfff0},
};

/* What would end it (no harm to anybody, but the end of the test) or speak for it. */
static bool spared(uint16_t port, uint8_t value)
{
    switch (port) {
    case 0x64:
        return value == 0xd1 || value >= 0xf0;
    case 0x92:
        return value & 1;
    case 0xcf9:
        return value & 4;
    case SERIAL_PORT:
        return true;
    default:
        return port == acpi_pm_control() + 1 && (value & 0x20);
    }
}

static void in(uint16_t port, unsigned bytes)
{
    uint32_t value;

    if (bytes == 1)
        inb(port);
    else if (bytes == 2)
        inw(port);
    else
        __asm__ volatile("inl %1, %0" : "=a"(value) : "Nd"(port) : "memory");
}

static void out(uint16_t port, uint32_t value, unsigned bytes)
{
    for (unsigned i = 0; i < bytes; i++)
        if (spared((uint16_t)(port + i), (uint8_t)(value >> 8 * i)))
            return;
    if (bytes == 1)
        outb(port, (uint8_t)value);
    else if (bytes == 2)
        outw(port, (uint16_t)value);
    else
        __asm__ volatile("outl %0, %1" : : "a"(value), "Nd"(port) : "memory");
}

void evil_port(void)
{
    const struct range *r = &ranges[evil_random() % (sizeof(ranges) / sizeof(ranges[0]))];
    uint16_t port = (uint16_t)(r->first + evil_random() % r->count);
    unsigned bytes = 1u << evil_random() % 3;

    if (evil_random() % 3)
        out(port, (uint32_t)evil_random(), bytes);
    else
        in(port, bytes);
}

void evil_mend(void)
{
    outb(SERIAL_PORT + 3, 0x03); /* 8 bits, no divisor */
    outb(SERIAL_PORT + 1, 0);
    outb(SERIAL_PORT + 4, 0x03); /* not looped back */
    serial_init();
    irq_init();
    for (unsigned pin = 0; pin < 24; pin++)
        irq_mask(pin);
}
