/*
 * The few facts that the guests want of ACPI: the CPUs, the power management ports, how to power
 * off. Without tables the answers are those of a PC with its PM block at 0x600.
 */
#include "guest.h"

#define VIRTIO_MAX 32
#define TEMPLATE_MAX 64 /* bytes from an id to its resources, and of these */

struct __attribute__((packed)) table {
    char signature[4];
    uint32_t length;
    uint8_t rest[28];
};

static uint32_t apic_ids[MAX_CPUS];
static unsigned nr_apic_ids;
static uint16_t pm_event = 0x600, pm_control = 0x604;
static uint8_t s5 = 5;
static uint64_t sleep_register;
static const uint8_t *dsdt;
static uint64_t virtio_addrs[VIRTIO_MAX];
static unsigned virtio_pins[VIRTIO_MAX], nr_virtio;

static uint16_t get16(const void *p)
{
    const uint8_t *b = p;

    return (uint16_t)(b[0] | b[1] << 8);
}

static uint32_t get32(const void *p)
{
    return get16(p) | (uint32_t)get16((const uint8_t *)p + 2) << 16;
}

static uint64_t get64(const void *p)
{
    return get32(p) | (uint64_t)get32((const uint8_t *)p + 4) << 32;
}

static void add_cpu(uint32_t id, uint32_t flags)
{
    if ((flags & 1) && nr_apic_ids < MAX_CPUS)
        apic_ids[nr_apic_ids++] = id;
}

static void read_madt(const uint8_t *t, uint32_t length)
{
    for (uint32_t at = 44; at + 2 <= length && t[at + 1] >= 2; at += t[at + 1]) {
        if (t[at] == 0 && t[at + 1] >= 8)
            add_cpu(t[at + 3], get32(t + at + 4));
        else if (t[at] == 9 && t[at + 1] >= 16)
            add_cpu(get32(t + at + 4), get32(t + at + 8));
    }
}

/* \_S5 is Name(_S5_, Package() {SLP_TYPa, ...}): the value is a byte, Zero or One. */
static void read_dsdt(const uint8_t *t)
{
    uint32_t length = get32(t + 4);

    dsdt = t;
    for (uint32_t i = 36; i + 9 < length; i++) {
        const uint8_t *p = t + i;

        if (memcmp(p, "_S5_\x12", 5))
            continue;
        p += 5 + (p[5] >> 6) + 2; /* over the length of the package and the count */
        s5 = p[0] == 0x0a ? p[1] : p[0] & 7;
        return;
    }
}

/* Behind the id: a fixed 32-bit window and an extended interrupt, as every maker of them has it. */
static void read_virtio_device(const uint8_t *at, const uint8_t *end)
{
    uint64_t addr = 0;

    for (unsigned i = 0; i < TEMPLATE_MAX && at + i + 9 <= end; i++) {
        if (!addr && !memcmp(at + i, "\x86\x09\x00", 3)) {
            addr = get32(at + i + 4);
            i += 11;
        } else if (addr && !memcmp(at + i, "\x89\x06\x00", 3) && nr_virtio < VIRTIO_MAX) {
            virtio_addrs[nr_virtio] = addr;
            virtio_pins[nr_virtio++] = get32(at + i + 5);
            return;
        }
    }
}

static void read_virtio(const uint8_t *t)
{
    const uint8_t *end = t + get32(t + 4);

    for (const uint8_t *p = t + 36; p + 8 < end; p++)
        if (!memcmp(p, "LNRO0005", 8))
            read_virtio_device(p + 8, end);
}

static void read_fadt(const uint8_t *t, uint32_t length)
{
    bool reduced = length >= 116 && get32(t + 112) & 1 << 20;

    if (get32(t + 40)) {
        read_dsdt((const uint8_t *)(uintptr_t)get32(t + 40));
        read_virtio((const uint8_t *)(uintptr_t)get32(t + 40));
    }
    if (get32(t + 56))
        pm_event = get16(t + 56);
    if (get32(t + 64))
        pm_control = get16(t + 64);
    if (reduced && length >= 256 && t[244] == 0) /* a GAS in memory space */
        sleep_register = get64(t + 248);
}

static void read_table(uint64_t addr)
{
    const struct table *t = (const void *)(uintptr_t)addr;

    if (!addr || addr >> 32)
        return;
    if (!memcmp(t->signature, "APIC", 4))
        read_madt((const uint8_t *)t, t->length);
    else if (!memcmp(t->signature, "FACP", 4))
        read_fadt((const uint8_t *)t, t->length);
}

void acpi_init(uint64_t rsdp)
{
    const uint8_t *r = (const uint8_t *)(uintptr_t)rsdp, *root;
    bool wide;
    uint32_t length;

    if (!rsdp || rsdp >> 32 || memcmp(r, "RSD PTR ", 8))
        return;
    wide = r[15] >= 2 && get64(r + 24);
    root = (const uint8_t *)(uintptr_t)(wide ? get64(r + 24) : get32(r + 16));
    length = get32(root + 4);
    for (uint32_t at = 36; at + (wide ? 8 : 4) <= length; at += wide ? 8 : 4)
        read_table(wide ? get64(root + at) : get32(root + at));
}

unsigned acpi_cpus(uint32_t *ids, unsigned max)
{
    unsigned n = nr_apic_ids < max ? nr_apic_ids : max;

    memcpy(ids, apic_ids, n * sizeof(*ids));
    return n;
}

uint16_t acpi_pm_event(void)
{
    return pm_event;
}

uint16_t acpi_pm_control(void)
{
    return pm_control;
}

uint8_t acpi_s5(void)
{
    return s5;
}

uint64_t acpi_sleep_register(void)
{
    return sleep_register;
}

/* The first place behind `from` with these bytes, of which the DSDT has no others; NULL. */
static const uint8_t *find(const uint8_t *from, const void *bytes, uint32_t n)
{
    const uint8_t *end = dsdt + get32(dsdt + 4);

    for (; from && from + n <= end; from++)
        if (!memcmp(from, bytes, n))
            return from;
    return NULL;
}

/* An integer of AML; *p moves behind it. */
static uint64_t take_integer(const uint8_t **p)
{
    uint8_t op = *(*p)++;
    unsigned bytes = op == 0x0a ? 1 : op == 0x0b ? 2 : op == 0x0c ? 4 : op == 0x0e ? 8 : 0;
    uint64_t value = bytes ? 0 : op; /* Zero, One */

    for (unsigned i = 0; i < bytes; i++)
        value |= (uint64_t) * (*p)++ << 8 * i;
    return value;
}

/*
 * Of a device with _CID "VM_Gen_Counter" Name(ADDR, Package() {low, high}); behind it the generic
 * event device, whose first resource is an extended interrupt descriptor.
 */
bool acpi_generation(uint64_t *addr, unsigned *pin)
{
    const uint8_t *p = dsdt ? find(dsdt, "VM_Gen_Counter", 15) : NULL, *event;

    p = p ? find(p, "ADDR\x12", 5) : NULL;
    event = p ? find(p, "ACPI0013", 9) : NULL;
    event = event ? find(event, "\x89\x06\x00", 3) : NULL;
    if (!event)
        return false;
    p += 5 + (p[5] >> 6) + 2; /* over the length of the package and the count */
    *addr = take_integer(&p);
    *addr |= take_integer(&p) << 32;
    *pin = get32(event + 5);
    return true;
}

unsigned acpi_virtio(uint64_t *addrs, unsigned *pins, unsigned max)
{
    unsigned n = nr_virtio < max ? nr_virtio : max;

    memcpy(addrs, virtio_addrs, n * sizeof(*addrs));
    memcpy(pins, virtio_pins, n * sizeof(*pins));
    return n;
}
