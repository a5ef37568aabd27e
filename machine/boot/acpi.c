/* See acpi.h. */
#include "machine/boot/acpi.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/le.h"
#include "machine/boot/aml.h"
#include "machine/layout.h"
#include "machine/virtio/mmio.h"

#define RSDP_BYTES 36u
#define RSDP_V1_BYTES 20u
#define HEADER_BYTES 36u
#define FACS_BYTES 64u
#define FADT_BYTES 276u
#define ALIGN 64u /* the FACS needs it; the others do not mind */

/* FADT flags. The power button is a fixed feature because bit 4 is clear. */
#define FADT_WBINVD (1u << 0)
#define FADT_PROC_C1 (1u << 2)
#define FADT_NO_SLEEP_BUTTON (1u << 5)
#define FADT_NO_FIXED_RTC (1u << 6)
#define FADT_TIMER_32BIT (1u << 8)
#define FADT_RESET_REGISTER (1u << 10)
#define RTC_CENTURY 0x32 /* a byte of the clock's RAM */

/* FADT boot architecture: there are ISA devices, no keyboard controller but for its reset line,
 * and no VGA. */
#define BOOT_LEGACY_DEVICES (1u << 0)
#define BOOT_NO_VGA (1u << 2)

#define FADT_NO_C2 0x0fffu /* latencies that say: not offered */
#define FADT_NO_C3 0xffffu

#define MADT_PCAT_COMPAT 1u /* there are two 8259 as well */
#define MADT_ENABLED 1u
#define MADT_ACTIVE_HIGH_LEVEL 0x0du
#define MADT_ALL_CPUS 0xffu
#define TIMER_IRQ 0u
#define TIMER_GSI 2u

#define GAS_IO 1u

struct acpi {
    struct buf out; /* what goes to LAYOUT_ACPI_GPA */
    uint64_t facs, dsdt, fadt, madt, xsdt;
};

static uint8_t checksum(const uint8_t *bytes, size_t len)
{
    uint8_t sum = 0;
    for (size_t i = 0; i < len; i++)
        sum = (uint8_t)(sum + bytes[i]);
    return (uint8_t)-sum;
}

static int out_of_room(struct err *err)
{
    return err_set(err, ENOMEM, "no room for the ACPI tables");
}

/* Room for `bytes` zeroes at the next aligned place; NULL when it is full. */
static uint8_t *place(struct acpi *acpi, size_t bytes, uint64_t *gpa)
{
    size_t pad = -acpi->out.len % ALIGN;
    uint8_t *at = buf_reserve(&acpi->out, pad + bytes);
    if (!at)
        return NULL;
    memset(at, 0, pad + bytes);
    acpi->out.len += pad;
    *gpa = LAYOUT_ACPI_GPA + acpi->out.len;
    acpi->out.len += bytes;
    return at + pad;
}

static uint8_t *begin(struct acpi *acpi, size_t bytes, const char *signature, uint8_t revision,
                      uint64_t *gpa)
{
    uint8_t *t = place(acpi, bytes, gpa);
    if (!t)
        return NULL;
    memcpy(t, signature, 4);
    t[8] = revision;
    memcpy(t + 10, "FERRY ", 6);
    memcpy(t + 16, "FERRYVM ", 8);
    le_put(t + 24, 1, 4);
    memcpy(t + 28, "FERY", 4);
    le_put(t + 32, 1, 4);
    return t;
}

/* The table is the last thing in the buffer: its length and checksum are known now. */
static void finish(struct acpi *acpi, uint64_t gpa)
{
    uint8_t *t = acpi->out.data + (gpa - LAYOUT_ACPI_GPA);
    size_t len = acpi->out.len - (gpa - LAYOUT_ACPI_GPA);
    le_put(t + 4, len, 4);
    t[9] = 0;
    t[9] = checksum(t, len);
}

/* The waking vector and the global lock, which nothing here uses; it has no checksum. */
static int add_facs(struct acpi *acpi, struct err *err)
{
    uint8_t *t = place(acpi, FACS_BYTES, &acpi->facs);
    if (!t)
        return out_of_room(err);
    memcpy(t, "FACS", 4);
    le_put(t + 4, FACS_BYTES, 4);
    t[32] = 2; /* version */
    return 0;
}

static void add_device(struct aml *aml, const char *name, const char *id, uint16_t port,
                       uint8_t ports, unsigned irq)
{
    aml_open_device(aml, name);
    aml_name(aml, "_HID");
    aml_eisa_id(aml, id);
    aml_name(aml, "_UID");
    aml_integer(aml, 1);
    aml_name(aml, "_CRS");
    aml_port_and_irq(aml, port, ports, irq);
    aml_close(aml);
}

/* The address of the generation is told as Microsoft's specification wants it; its change comes as
 * an interrupt of the generic event device, which needs no general purpose events of its own. */
static void add_generation(struct aml *aml)
{
    aml_open_device(aml, "VGEN");
    aml_name(aml, "_HID");
    aml_string(aml, "FERY0001");
    aml_name(aml, "_CID");
    aml_string(aml, "VM_Gen_Counter");
    aml_name(aml, "_DDN");
    aml_string(aml, "VM_Gen_Counter");
    aml_name(aml, "ADDR");
    aml_open_package(aml, 2);
    aml_integer(aml, LAYOUT_VMGENID_GPA);
    aml_integer(aml, 0);
    aml_close(aml);
    aml_close(aml);
}

static void add_events(struct aml *aml)
{
    aml_open_device(aml, "GED_");
    aml_name(aml, "_HID");
    aml_string(aml, "ACPI0013");
    aml_name(aml, "_UID");
    aml_integer(aml, 0);
    aml_name(aml, "_CRS");
    aml_edge_interrupt(aml, LAYOUT_VMGENID_GSI);
    aml_open_method(aml, "_EVT", 1);
    aml_open_if_arg0_is(aml, LAYOUT_VMGENID_GSI);
    aml_notify(aml, "VGEN", 0x80);
    aml_close(aml);
    aml_close(aml);
    aml_close(aml);
}

/* A window of virtio over MMIO, as the id that Linux knows it by. */
static void add_virtio(struct aml *aml, unsigned index)
{
    char name[8];
    snprintf(name, sizeof(name), "VR%02X", index & 0xff);
    aml_open_device(aml, name);
    aml_name(aml, "_HID");
    aml_string(aml, "LNRO0005");
    aml_name(aml, "_UID");
    aml_integer(aml, index);
    aml_name(aml, "_CRS");
    aml_window_and_interrupt(aml, (uint32_t)virtio_mmio_gpa(index), LAYOUT_VIRTIO_BYTES,
                             virtio_mmio_gsi(index));
    aml_close(aml);
}

static int add_dsdt(struct acpi *acpi, unsigned virtio, struct err *err)
{
    struct aml aml;
    if (!begin(acpi, HEADER_BYTES, "DSDT", 2, &acpi->dsdt))
        return out_of_room(err);
    aml_init(&aml, &acpi->out);
    aml_name(&aml, "_S5_");
    aml_open_package(&aml, 4);
    aml_integer(&aml, LAYOUT_S5_SLEEP_TYPE);
    aml_integer(&aml, LAYOUT_S5_SLEEP_TYPE);
    aml_integer(&aml, 0);
    aml_integer(&aml, 0);
    aml_close(&aml);
    aml_open_scope(&aml, "_SB_");
    add_device(&aml, "COM1", "PNP0501", LAYOUT_SERIAL_PORT, 8, LAYOUT_SERIAL_GSI);
    add_device(&aml, "RTC_", "PNP0B00", LAYOUT_RTC_PORT, 2, LAYOUT_RTC_GSI);
    add_generation(&aml);
    add_events(&aml);
    for (unsigned i = 0; i < virtio; i++)
        add_virtio(&aml, i);
    aml_close(&aml);
    if (aml_end(&aml) < 0)
        return out_of_room(err);
    finish(acpi, acpi->dsdt);
    return 0;
}

/* A generic address: space, width and offset in bits, access size, address. */
static void put_gas(uint8_t *to, uint64_t port, unsigned bytes)
{
    to[0] = GAS_IO;
    to[1] = (uint8_t)(bytes * 8);
    to[3] = (uint8_t)(bytes == 4 ? 3 : bytes); /* access: 1 byte, 2 word, 3 double word */
    le_put(to + 4, port, 8);
}

static void put_fadt_ports(uint8_t *t)
{
    le_put(t + 56, LAYOUT_PM1A_EVENT, 4);
    le_put(t + 64, LAYOUT_PM1A_CONTROL, 4);
    le_put(t + 76, LAYOUT_PM_TIMER, 4);
    t[88] = 4; /* PM1_EVT_LEN */
    t[89] = 2; /* PM1_CNT_LEN */
    t[91] = 4; /* PM_TMR_LEN */
    put_gas(t + 116, LAYOUT_RESET_PORT, 1);
    t[128] = LAYOUT_RESET_VALUE;
    put_gas(t + 148, LAYOUT_PM1A_EVENT, 4);
    t[148 + 3] = 2; /* its two registers are words */
    put_gas(t + 172, LAYOUT_PM1A_CONTROL, 2);
    put_gas(t + 208, LAYOUT_PM_TIMER, 4);
}

/* SMI_CMD stays 0: the machine is in ACPI mode from the start. */
static int add_fadt(struct acpi *acpi, struct err *err)
{
    uint8_t *t = begin(acpi, FADT_BYTES, "FACP", 6, &acpi->fadt);
    if (!t)
        return out_of_room(err);
    le_put(t + 36, acpi->facs, 4);
    le_put(t + 40, acpi->dsdt, 4);
    le_put(t + 46, LAYOUT_SCI_GSI, 2);
    put_fadt_ports(t);
    le_put(t + 96, FADT_NO_C2, 2);
    le_put(t + 98, FADT_NO_C3, 2);
    t[108] = RTC_CENTURY;
    le_put(t + 109, BOOT_LEGACY_DEVICES | BOOT_NO_VGA, 2);
    le_put(t + 112,
           FADT_WBINVD | FADT_PROC_C1 | FADT_NO_SLEEP_BUTTON | FADT_NO_FIXED_RTC |
               FADT_TIMER_32BIT | FADT_RESET_REGISTER,
           4);
    le_put(t + 140, acpi->dsdt, 8);
    memcpy(t + 268, "FERRY", 5); /* hypervisor vendor */
    finish(acpi, acpi->fadt);
    return 0;
}

static uint8_t *put_override(uint8_t *to, unsigned irq, unsigned gsi, unsigned flags)
{
    to[0] = 2;
    to[1] = 10;
    to[3] = (uint8_t)irq;
    le_put(to + 4, gsi, 4);
    le_put(to + 8, flags, 2);
    return to + 10;
}

static uint8_t *put_cpus(uint8_t *to, unsigned cpus)
{
    for (unsigned i = 0; i < cpus; i++, to += 8) {
        to[0] = 0;
        to[1] = 8;
        to[2] = (uint8_t)i; /* processor UID */
        to[3] = (uint8_t)i; /* local APIC id */
        le_put(to + 4, MADT_ENABLED, 4);
    }
    return to;
}

/* The timer's ISA line 0 arrives at pin 2; every local APIC has NMI at LINT1. */
static int add_madt(struct acpi *acpi, unsigned cpus, struct err *err)
{
    uint8_t *t = begin(acpi, 44 + 8 * cpus + 12 + 2 * 10 + 6, "APIC", 4, &acpi->madt);
    if (!t)
        return out_of_room(err);
    le_put(t + 36, LAYOUT_LAPIC_GPA, 4);
    le_put(t + 40, MADT_PCAT_COMPAT, 4);
    uint8_t *e = put_cpus(t + 44, cpus);
    e[0] = 1; /* I/O APIC 0 with GSIs from 0 on */
    e[1] = 12;
    le_put(e + 4, LAYOUT_IOAPIC_GPA, 4);
    e = put_override(e + 12, TIMER_IRQ, TIMER_GSI, 0);
    e = put_override(e, LAYOUT_SCI_GSI, LAYOUT_SCI_GSI, MADT_ACTIVE_HIGH_LEVEL);
    e[0] = 4;
    e[1] = 6;
    e[2] = MADT_ALL_CPUS;
    e[5] = 1;
    finish(acpi, acpi->madt);
    return 0;
}

static int add_xsdt(struct acpi *acpi, struct err *err)
{
    uint8_t *t = begin(acpi, HEADER_BYTES + 2 * 8, "XSDT", 1, &acpi->xsdt);
    if (!t)
        return out_of_room(err);
    le_put(t + HEADER_BYTES, acpi->fadt, 8);
    le_put(t + HEADER_BYTES + 8, acpi->madt, 8);
    finish(acpi, acpi->xsdt);
    return 0;
}

/* Its first 20 bytes have a checksum of their own, for readers of revision 0. */
static void fill_rsdp(struct acpi *acpi)
{
    uint8_t *t = acpi->out.data;
    memcpy(t, "RSD PTR ", 8);
    memcpy(t + 9, "FERRY ", 6);
    t[15] = 2;
    le_put(t + 20, RSDP_BYTES, 4);
    le_put(t + 24, acpi->xsdt, 8);
    t[8] = checksum(t, RSDP_V1_BYTES);
    t[32] = checksum(t, RSDP_BYTES);
}

static int build(struct acpi *acpi, const struct acpi_facts *facts, struct err *err)
{
    uint64_t rsdp;
    if (!place(acpi, RSDP_BYTES, &rsdp))
        return out_of_room(err);
    int rc = add_facs(acpi, err);
    if (rc == 0)
        rc = add_dsdt(acpi, facts->virtio, err);
    if (rc == 0)
        rc = add_fadt(acpi, err);
    if (rc == 0)
        rc = add_madt(acpi, facts->cpus, err);
    if (rc == 0)
        rc = add_xsdt(acpi, err);
    if (rc == 0)
        fill_rsdp(acpi);
    return rc;
}

int acpi_write(struct mem *mem, const struct acpi_facts *facts, struct err *err)
{
    struct acpi acpi = {0};
    if (facts->cpus == 0 || facts->cpus > ACPI_CPUS_MAX)
        return err_set(err, EINVAL, "number of vCPUs is %u, not 1 to %u", facts->cpus,
                       ACPI_CPUS_MAX);
    if (facts->virtio > VIRTIO_MMIO_WINDOWS)
        return err_set(err, EINVAL, "%u virtio devices are more than %d", facts->virtio,
                       VIRTIO_MMIO_WINDOWS);
    buf_init(&acpi.out, LAYOUT_MPTABLE_GPA - LAYOUT_ACPI_GPA);
    int rc = build(&acpi, facts, err);
    if (rc == 0)
        rc = mem_write(mem, LAYOUT_ACPI_GPA, acpi.out.data, acpi.out.len, err);
    buf_fini(&acpi.out);
    return rc;
}
