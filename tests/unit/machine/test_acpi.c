/* The ACPI tables: found the way a guest finds them, checksums, every fact, and iasl's opinion. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "base/fs.h"
#include "base/le.h"
#include "machine/boot/acpi.h"
#include "machine/boot/aml.h"
#include "machine/layout.h"
#include "tests/temp.h"

#define TABLE_MAX 4096u
#define IASL_TEXT_MAX 65536u

static struct mem mem;
static struct err err;
static char dir[64]; /* of test_iasl; "" while there is none */

static int setup(void **state)
{
    return mem_init(&mem, 16 << 20, &err);
}

static int teardown(void **state)
{
    mem_fini(&mem);
    int rc = dir[0] ? fs_remove_tree(AT_FDCWD, dir, &err) : 0;
    dir[0] = 0;
    return rc;
}

struct table {
    uint8_t bytes[TABLE_MAX];
    uint32_t len;
};

static uint8_t sum(const uint8_t *bytes, size_t len)
{
    uint8_t s = 0;
    for (size_t i = 0; i < len; i++)
        s = (uint8_t)(s + bytes[i]);
    return s;
}

/* Reads and checks the table at `gpa`, which must be within the ACPI area. */
static void read_table(uint64_t gpa, const char *signature, struct table *t)
{
    uint8_t head[8];
    assert_int_equal(mem_read(&mem, gpa, head, 8, &err), 0);
    t->len = (uint32_t)le_get(head + 4, 4);
    assert_memory_equal(head, signature, 4);
    assert_in_range(t->len, 36, TABLE_MAX);
    assert_in_range(gpa, LAYOUT_ACPI_GPA, LAYOUT_ACPI_END - t->len);
    assert_int_equal(mem_read(&mem, gpa, t->bytes, t->len, &err), 0);
    if (strcmp(signature, "FACS") != 0)
        assert_int_equal(sum(t->bytes, t->len), 0);
}

static void find_table(const char *signature, struct table *t)
{
    uint8_t rsdp[36];
    struct table xsdt;
    assert_int_equal(mem_read(&mem, LAYOUT_ACPI_GPA, rsdp, sizeof(rsdp), &err), 0);
    assert_memory_equal(rsdp, "RSD PTR ", 8);
    assert_int_equal(rsdp[15], 2);
    assert_int_equal(sum(rsdp, 20), 0);
    assert_int_equal(sum(rsdp, 36), 0);
    read_table(le_get(rsdp + 24, 8), "XSDT", &xsdt);
    for (uint32_t at = 36; at + 8 <= xsdt.len; at += 8) {
        uint8_t got[4];
        uint64_t gpa = le_get(xsdt.bytes + at, 8);
        assert_int_equal(mem_read(&mem, gpa, got, 4, &err), 0);
        if (memcmp(got, signature, 4) == 0) {
            read_table(gpa, signature, t);
            return;
        }
    }
    fail_msg("no table %s", signature);
}

static void find_dsdt(struct table *t)
{
    struct table fadt;
    find_table("FACP", &fadt);
    assert_int_equal(le_get(fadt.bytes + 40, 4), le_get(fadt.bytes + 140, 8));
    read_table(le_get(fadt.bytes + 140, 8), "DSDT", t);
}

static void test_fadt(void **state)
{
    struct table t, facs;
    assert_int_equal(acpi_write(&mem, &(struct acpi_facts){.cpus = 1}, &err), 0);
    find_table("FACP", &t);
    assert_int_equal(t.len, 276);
    assert_int_equal(le_get(t.bytes + 46, 2), 9);     /* SCI_INT */
    assert_int_equal(le_get(t.bytes + 48, 4), 0);     /* SMI_CMD */
    assert_int_equal(le_get(t.bytes + 56, 4), 0x600); /* PM1a_EVT_BLK */
    assert_int_equal(le_get(t.bytes + 64, 4), 0x604); /* PM1a_CNT_BLK */
    assert_int_equal(le_get(t.bytes + 76, 4), 0x608); /* PM_TMR_BLK */
    assert_int_equal(le_get(t.bytes + 88, 4), 0x04000204);
    uint32_t flags = (uint32_t)le_get(t.bytes + 112, 4);
    assert_int_equal(flags & (1 << 4), 0);        /* fixed power button */
    assert_int_equal(flags & (1 << 5), 1 << 5);   /* no sleep button */
    assert_int_equal(flags & (1 << 8), 1 << 8);   /* the PM timer has 32 bits */
    assert_int_equal(flags & (1 << 10), 1 << 10); /* reset register */
    assert_int_equal(t.bytes[108], 0x32);         /* century in the RTC's RAM */
    assert_int_equal(flags & (1 << 20), 0);       /* not hardware-reduced */
    static const uint8_t reset[] = {1, 8, 0, 1, 0xf9, 0x0c, 0, 0, 0, 0, 0, 0, 6};
    assert_memory_equal(t.bytes + 116, reset, sizeof(reset));
    uint64_t gpa = le_get(t.bytes + 36, 4);
    assert_int_equal(gpa % 64, 0);
    read_table(gpa, "FACS", &facs);
    assert_int_equal(facs.len, 64);
}

static void check_madt(unsigned cpus)
{
    /* clang-format off */
    static const uint8_t rest[] = {
        /* I/O APIC */ 1, 12, 0, 0, 0, 0, 0xc0, 0xfe, 0, 0, 0, 0,
        /* IRQ 0 */    2, 10, 0, 0, 2, 0, 0, 0, 0, 0,
        /* IRQ 9 */    2, 10, 0, 9, 9, 0, 0, 0, 0x0d, 0,
        /* NMI */      4, 6, 0xff, 0, 0, 1};
    /* clang-format on */
    struct table t;
    assert_int_equal(acpi_write(&mem, &(struct acpi_facts){.cpus = cpus}, &err), 0);
    find_table("APIC", &t);
    assert_int_equal(t.len, 44 + 8 * cpus + sizeof(rest));
    assert_int_equal(le_get(t.bytes + 36, 4), 0xfee00000);
    assert_int_equal(le_get(t.bytes + 40, 4), 1);
    for (unsigned i = 0; i < cpus; i++) {
        const uint8_t cpu[] = {0, 8, (uint8_t)i, (uint8_t)i, 1, 0, 0, 0};
        assert_memory_equal(t.bytes + 44 + 8 * i, cpu, 8);
    }
    assert_memory_equal(t.bytes + 44 + 8 * cpus, rest, sizeof(rest));
}

static void test_madt(void **state)
{
    for (unsigned cpus = 1; cpus <= ACPI_CPUS_MAX; cpus++)
        check_madt(cpus);
}

static void test_cpu_count_refused(void **state)
{
    assert_int_equal(acpi_write(&mem, &(struct acpi_facts){.cpus = 0}, &err), -EINVAL);
    assert_int_equal(acpi_write(&mem, &(struct acpi_facts){.cpus = 65}, &err), -EINVAL);
    assert_string_equal(err.text, "number of vCPUs is 65, not 1 to 64");
}

static void test_dsdt(void **state)
{
    /* clang-format off */
    static const uint8_t want[] = {
        /* Name (_S5, Package (4) */ 0x08, '_', 'S', '5', '_', 0x12, 8, 4,
        /* 5, 5, 0, 0 */             0x0a, 5, 0x0a, 5, 0, 0,
        /* Scope (\_SB) */           0x10, 0x45, 15, 0x5c, '_', 'S', 'B', '_',
        /* Device (COM1) */          0x5b, 0x82, 43, 'C', 'O', 'M', '1',
        /* _HID PNP0501 */           0x08, '_', 'H', 'I', 'D', 0x0c, 0x41, 0xd0, 0x05, 0x01,
        /* _UID One */               0x08, '_', 'U', 'I', 'D', 1,
        /* _CRS Buffer (13) */       0x08, '_', 'C', 'R', 'S', 0x11, 16, 0x0a, 13,
        /* IO 0x3f8, 8 */            0x47, 1, 0xf8, 3, 0xf8, 3, 1, 8,
        /* IRQ 4 */                  0x22, 0x10, 0,
        /* end */                    0x79, 0,
        /* Device (RTC) */           0x5b, 0x82, 43, 'R', 'T', 'C', '_',
        /* _HID PNP0B00 */           0x08, '_', 'H', 'I', 'D', 0x0c, 0x41, 0xd0, 0x0b, 0x00,
        /* _UID One */               0x08, '_', 'U', 'I', 'D', 1,
        /* _CRS Buffer (13) */       0x08, '_', 'C', 'R', 'S', 0x11, 16, 0x0a, 13,
        /* IO 0x70, 2 */             0x47, 1, 0x70, 0, 0x70, 0, 1, 2,
        /* IRQ 8 */                  0x22, 0, 1,
        /* end */                    0x79, 0,
        /* Device (VGEN) */          0x5b, 0x82, 0x4d, 4, 'V', 'G', 'E', 'N',
        /* _HID */                   0x08, '_', 'H', 'I', 'D',
                                     0x0d, 'F', 'E', 'R', 'Y', '0', '0', '0', '1', 0,
        /* _CID */                   0x08, '_', 'C', 'I', 'D', 0x0d, 'V', 'M', '_', 'G', 'e', 'n',
                                     '_', 'C', 'o', 'u', 'n', 't', 'e', 'r', 0,
        /* _DDN */                   0x08, '_', 'D', 'D', 'N', 0x0d, 'V', 'M', '_', 'G', 'e', 'n',
                                     '_', 'C', 'o', 'u', 'n', 't', 'e', 'r', 0,
        /* ADDR Package (2) */       0x08, 'A', 'D', 'D', 'R', 0x12, 8, 2,
        /* 0xff000, 0 */             0x0c, 0, 0xf0, 0x0f, 0, 0,
        /* Device (GED) */           0x5b, 0x82, 0x43, 4, 'G', 'E', 'D', '_',
        /* _HID */                   0x08, '_', 'H', 'I', 'D',
                                     0x0d, 'A', 'C', 'P', 'I', '0', '0', '1', '3', 0,
        /* _UID Zero */              0x08, '_', 'U', 'I', 'D', 0,
        /* _CRS Buffer (11) */       0x08, '_', 'C', 'R', 'S', 0x11, 14, 0x0a, 11,
        /* Interrupt 5, edge */      0x89, 6, 0, 3, 1, 5, 0, 0, 0,
        /* end */                    0x79, 0,
        /* Method (_EVT, 1) */       0x14, 19, '_', 'E', 'V', 'T', 1,
        /* If (Arg0 == 5) */         0xa0, 12, 0x93, 0x68, 0x0a, 5,
        /* Notify (VGEN, 0x80) */    0x86, 'V', 'G', 'E', 'N', 0x0a, 0x80};
    /* clang-format on */
    struct table t;
    assert_int_equal(acpi_write(&mem, &(struct acpi_facts){.cpus = 1}, &err), 0);
    find_dsdt(&t);
    assert_int_equal(t.len, 36 + sizeof(want));
    assert_memory_equal(t.bytes + 36, want, sizeof(want));
}

/* One window of virtio over MMIO behind the two devices that are always there. */
static void test_dsdt_virtio(void **state)
{
    /* clang-format off */
    static const uint8_t want[] = {
        /* Device (VR00) */            0x5b, 0x82, 0x3a, 'V', 'R', '0', '0',
        /* _HID "LNRO0005" */          0x08, '_', 'H', 'I', 'D', 0x0d,
                                       'L', 'N', 'R', 'O', '0', '0', '0', '5', 0,
        /* _UID Zero */                0x08, '_', 'U', 'I', 'D', 0,
        /* _CRS Buffer (23) */         0x08, '_', 'C', 'R', 'S', 0x11, 26, 0x0a, 23,
        /* 4 KiB at 0xd0000000 */      0x86, 9, 0, 1, 0, 0, 0, 0xd0, 0, 0x10, 0, 0,
        /* GSI 10, edge */             0x89, 6, 0, 3, 1, 10, 0, 0, 0,
        /* end */                      0x79, 0};
    /* clang-format on */
    struct table t;
    assert_int_equal(acpi_write(&mem, &(struct acpi_facts){.cpus = 1, .virtio = 1}, &err), 0);
    find_dsdt(&t);
    assert_memory_equal(t.bytes + t.len - sizeof(want), want, sizeof(want));
    assert_int_equal(acpi_write(&mem, &(struct acpi_facts){.cpus = 1, .virtio = 17}, &err),
                     -EINVAL);
    assert_string_equal(err.text, "17 virtio devices are more than 16");
}

/* Lengths at the edges of their 1, 2 and 3 byte forms; numbers of every size. */
static void test_aml_lengths(void **state)
{
    static const struct {
        size_t body;
        uint8_t length[4];
        unsigned bytes;
    } rows[] = {{1, {2}, 1},
                {62, {63}, 1},
                {63, {0x41, 0x04}, 2},
                {4093, {0x4f, 0xff}, 2},
                {4094, {0x81, 0x00, 0x01}, 3}};
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct buf out;
        struct aml aml;
        buf_init(&out, 1 << 20);
        aml_init(&aml, &out);
        aml_open_package(&aml, 0);
        for (size_t n = 1; n < rows[i].body; n++)
            aml_integer(&aml, 1);
        aml_close(&aml);
        assert_int_equal(aml_end(&aml), 0);
        assert_int_equal(out.len, 1 + rows[i].bytes + rows[i].body);
        assert_memory_equal(out.data + 1, rows[i].length, rows[i].bytes);
        assert_int_equal(out.data[1 + rows[i].bytes], 0);
        assert_int_equal(out.data[out.len - 1], rows[i].body > 1);
        buf_fini(&out);
    }
}

static void test_aml_integers(void **state)
{
    static const uint8_t want[] = {0, 1, 0x0a, 2, 0x0a, 0xff, 0x0b, 0, 1, 0x0b, 0xff, 0xff, 0x0c,
                                   0, 0, 1,    0, 0x0e, 0,    0,    0, 0, 1,    0,    0,    0};
    struct buf out;
    struct aml aml;
    buf_init(&out, 64);
    aml_init(&aml, &out);
    const uint64_t values[] = {0, 1, 2, 0xff, 0x100, 0xffff, 0x10000, 1ull << 32};
    for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++)
        aml_integer(&aml, values[i]);
    assert_int_equal(aml_end(&aml), 0);
    assert_int_equal(out.len, sizeof(want));
    assert_memory_equal(out.data, want, sizeof(want));
    buf_fini(&out);
}

static void test_aml_misuse(void **state)
{
    struct buf out;
    struct aml aml;
    buf_init(&out, 8);
    aml_init(&aml, &out);
    aml_open_device(&aml, "ABCD");
    assert_int_equal(aml_end(&aml), -1); /* still open */
    aml_name(&aml, "_HID");              /* full */
    aml_close(&aml);
    assert_int_equal(aml_end(&aml), -1);
    buf_fini(&out);
    buf_init(&out, 64);
    aml_init(&aml, &out);
    aml_close(&aml); /* nothing to close */
    assert_int_equal(aml_end(&aml), -1);
    buf_fini(&out);
}

static int run(const char *command, char *text)
{
    FILE *p = popen(command, "r");
    assert_non_null(p);
    size_t n = fread(text, 1, IASL_TEXT_MAX - 1, p);
    text[n] = 0;
    return pclose(p);
}

/* What was disassembled is a program without a flaw: names that exist, identifiers of a legal form.
 * The form of the tables themselves is not its matter. */
static void compile(const char *name, char *text)
{
    char command[300];
    snprintf(command, sizeof(command), "cd %s && iasl -we %s.dsl 2>&1", dir, name);
    if (run(command, text) != 0 || !strstr(text, " 0 Errors, 0 Warnings"))
        fail_msg("iasl on %s.dsl: %s", name, text);
}

/* Disassembles a table into `text`, with what iasl said before it. */
static void disassemble(const char *name, const struct table *t, char *text)
{
    char path[128], command[300];
    snprintf(path, sizeof(path), "%s/%s.dat", dir, name);
    CLEAN(clean_file) FILE *f = fopen(path, "w");
    assert_non_null(f);
    assert_int_equal(fwrite(t->bytes, 1, t->len, f), t->len);
    assert_int_equal(fflush(f), 0);
    snprintf(command, sizeof(command), "iasl -d %s 2>&1 && cat %s/%s.dsl", path, dir, name);
    int rc = run(command, text);
    if (rc != 0 || strstr(text, "incorrect") || strstr(text, "Invalid") || strstr(text, "Error"))
        fail_msg("iasl on %s gave %d: %s", name, rc, text);
}

static void test_iasl(void **state)
{
    static char text[IASL_TEXT_MAX];
    struct table t;
    if (system("iasl -v >/dev/null 2>&1") != 0)
        skip();
    assert_int_equal(acpi_write(&mem, &(struct acpi_facts){.cpus = 3, .virtio = 16}, &err), 0);
    assert_true(temp_dir(dir, sizeof(dir)));
    find_dsdt(&t);
    disassemble("dsdt", &t, text);
    assert_non_null(strstr(text, "Name (_S5, Package (0x04)"));
    assert_non_null(strstr(text, "Device (COM1)"));
    assert_non_null(strstr(text, "EisaId (\"PNP0501\")"));
    assert_non_null(strstr(text, "EisaId (\"PNP0B00\")"));
    assert_non_null(strstr(text, "{4}"));
    assert_non_null(strstr(text, "Name (_CID, \"VM_Gen_Counter\")"));
    assert_non_null(strstr(text, "Notify (VGEN, 0x80)"));
    assert_non_null(strstr(text, "Interrupt (ResourceConsumer, Edge, ActiveHigh, Exclusive, ,, )"));
    assert_non_null(strstr(text, "Device (VR0F)"));
    assert_non_null(strstr(text, "0xD000F000"));
    compile("dsdt", text);
    find_table("APIC", &t);
    disassemble("apic", &t, text);
    assert_non_null(strstr(text, "Interrupt Source Override"));
    find_table("FACP", &t);
    disassemble("facp", &t, text);
    assert_non_null(strstr(text, "Control Method Power Button (V1) : 0"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_fadt, setup, teardown),
        cmocka_unit_test_setup_teardown(test_madt, setup, teardown),
        cmocka_unit_test_setup_teardown(test_cpu_count_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(test_dsdt, setup, teardown),
        cmocka_unit_test_setup_teardown(test_dsdt_virtio, setup, teardown),
        cmocka_unit_test_setup_teardown(test_iasl, setup, teardown),
        cmocka_unit_test(test_aml_lengths),
        cmocka_unit_test(test_aml_integers),
        cmocka_unit_test(test_aml_misuse),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
