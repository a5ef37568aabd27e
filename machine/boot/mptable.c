/* See mptable.h. */
#include "machine/boot/mptable.h"

#include <errno.h>
#include <string.h>

#include "base/le.h"
#include "machine/boot/acpi.h"
#include "machine/layout.h"

#define POINTER_BYTES 16u
#define HEADER_BYTES 44u
#define CPU_BYTES 20u
#define ENTRY_BYTES 8u /* of every other kind */
#define SPEC_1_4 4u

enum { ENTRY_CPU, ENTRY_BUS, ENTRY_IOAPIC, ENTRY_INTERRUPT, ENTRY_LOCAL_INTERRUPT };
enum { KIND_INT, KIND_NMI, KIND_SMI, KIND_EXTINT };

#define CPU_ENABLED 1u
#define CPU_BOOT 2u
#define IOAPIC_ENABLED 1u
#define LAPIC_VERSION 0x14u
#define IOAPIC_VERSION 0x11u
#define ALL_LAPICS 0xffu
#define ISA_LINES 16u
#define TIMER_PIN 2u /* where line 0 arrives; line 2 joins the two PICs and arrives nowhere */

#define TABLE_MAX (HEADER_BYTES + ACPI_CPUS_MAX * CPU_BYTES + (2 + ISA_LINES + 2) * ENTRY_BYTES)

struct table {
    uint8_t bytes[TABLE_MAX];
    size_t len;
    unsigned entries;
};

static uint8_t checksum(const uint8_t *bytes, size_t len)
{
    uint8_t sum = 0;
    for (size_t i = 0; i < len; i++)
        sum = (uint8_t)(sum + bytes[i]);
    return (uint8_t)-sum;
}

static uint8_t *add(struct table *t, uint8_t type, size_t bytes)
{
    uint8_t *entry = t->bytes + t->len;
    entry[0] = type;
    t->len += bytes;
    t->entries++;
    return entry;
}

static void add_cpus(struct table *t, unsigned cpus)
{
    for (unsigned i = 0; i < cpus; i++) {
        uint8_t *e = add(t, ENTRY_CPU, CPU_BYTES);
        e[1] = (uint8_t)i;
        e[2] = LAPIC_VERSION;
        e[3] = CPU_ENABLED | (i == 0 ? CPU_BOOT : 0);
    }
}

/* An identity of its own, as the specification wants it: none of a CPU. */
static void add_chips(struct table *t, uint8_t ioapic)
{
    memcpy(add(t, ENTRY_BUS, ENTRY_BYTES) + 2, "ISA   ", 6);
    uint8_t *e = add(t, ENTRY_IOAPIC, ENTRY_BYTES);
    e[1] = ioapic;
    e[2] = IOAPIC_VERSION;
    e[3] = IOAPIC_ENABLED;
    le_put(e + 4, LAYOUT_IOAPIC_GPA, 4);
}

static void add_interrupt(struct table *t, uint8_t type, uint8_t kind, uint8_t line, uint8_t to,
                          uint8_t pin)
{
    uint8_t *e = add(t, type, ENTRY_BYTES);
    e[1] = kind;
    e[5] = line;
    e[6] = to;
    e[7] = pin;
}

static void add_interrupts(struct table *t, uint8_t ioapic)
{
    for (uint8_t line = 0; line < ISA_LINES; line++)
        if (line != TIMER_PIN)
            add_interrupt(t, ENTRY_INTERRUPT, KIND_INT, line, ioapic, line ? line : TIMER_PIN);
    add_interrupt(t, ENTRY_LOCAL_INTERRUPT, KIND_EXTINT, 0, ALL_LAPICS, 0);
    add_interrupt(t, ENTRY_LOCAL_INTERRUPT, KIND_NMI, 0, ALL_LAPICS, 1);
}

static void fill_header(struct table *t)
{
    uint8_t *h = t->bytes;
    memcpy(h, "PCMP", 4);
    le_put(h + 4, t->len, 2);
    h[6] = SPEC_1_4;
    memcpy(h + 8, "FERRY   ", 8);
    memcpy(h + 16, "FERRYVM     ", 12);
    le_put(h + 34, t->entries, 2);
    le_put(h + 36, LAYOUT_LAPIC_GPA, 4);
    h[7] = checksum(h, t->len);
}

static int write_pointer(struct mem *mem, struct err *err)
{
    uint8_t p[POINTER_BYTES] = "_MP_";
    le_put(p + 4, LAYOUT_MPTABLE_GPA, 4);
    p[8] = 1; /* length, in 16 bytes */
    p[9] = SPEC_1_4;
    p[10] = checksum(p, POINTER_BYTES);
    return mem_write(mem, LAYOUT_LOW_END, p, POINTER_BYTES, err);
}

int mptable_write(struct mem *mem, unsigned cpus, struct err *err)
{
    struct table t = {.len = HEADER_BYTES};
    if (cpus == 0 || cpus > ACPI_CPUS_MAX)
        return err_set(err, EINVAL, "%u CPUs; the MP table has room for 1 to %u", cpus,
                       ACPI_CPUS_MAX);
    add_cpus(&t, cpus);
    add_chips(&t, (uint8_t)cpus);
    add_interrupts(&t, (uint8_t)cpus);
    fill_header(&t);
    int rc = mem_write(mem, LAYOUT_MPTABLE_GPA, t.bytes, t.len, err);
    return rc < 0 ? rc : write_pointer(mem, err);
}
