/* boot_load by the 64-bit Linux protocol: zero page, page tables, registers; and twice in a row. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "machine/boot/boot.h"
#include "machine/boot/entry.h"
#include "machine/layout.h"
#include "tests/unit/machine/packed_image.h"

#define MIB (1u << 20)
#define ZERO_PAGE LAYOUT_ZERO_PAGE

static struct mem mem;
static struct err err;
static struct boot_entry entry;

static int setup(void **state)
{
    return mem_init(&mem, 16 * MIB, &err);
}

static int teardown(void **state)
{
    mem_fini(&mem);
    return 0;
}

static int boot(const struct packed *image, const char *cmdline, size_t initrd_bytes)
{
    uint8_t *initrd = calloc(1, initrd_bytes + 1);
    CLEAN(clean_fd) int kernel = image_file(image->data, image->len);
    CLEAN(clean_fd) int fd = initrd_bytes ? image_file(initrd, initrd_bytes) : -1;
    struct boot_source src = {.kernel_fd = kernel, .initrd_fd = fd, .cmdline = cmdline, .cpus = 2};
    err = (struct err){0};
    free(initrd);
    return boot_load(&mem, &src, &entry, &err);
}

static uint64_t peek(uint64_t gpa, unsigned bytes)
{
    uint8_t got[8];
    assert_int_equal(mem_read(&mem, gpa, got, bytes, &err), 0);
    return le_get(got, bytes);
}

static void test_vmlinux(void **state)
{
    char cmdline[8];
    struct packed image = packed_vmlinux(5000);
    assert_int_equal(boot(&image, "quiet", 3000), 0);
    free(image.data);
    assert_int_equal(entry.protocol, BOOT_LINUX64);
    assert_int_equal(entry.rip, 0x100010);
    assert_int_equal(entry.info, 0x7000);
    assert_int_equal(peek(ZERO_PAGE + 0x70, 8), 0xe0000);          /* acpi_rsdp_addr */
    assert_int_equal(peek(ZERO_PAGE + 0x1e8, 1), 5);               /* e820_entries */
    assert_int_equal(peek(ZERO_PAGE + 0x1ef, 1), 0);               /* sentinel */
    assert_int_equal(peek(ZERO_PAGE + 0x1fe, 2), 0xaa55);          /* boot_flag */
    assert_int_equal(peek(ZERO_PAGE + 0x202, 4), 0x53726448);      /* header */
    assert_int_equal(peek(ZERO_PAGE + 0x210, 1), 0xff);            /* type_of_loader */
    assert_int_equal(peek(ZERO_PAGE + 0x211, 1), 1);               /* loadflags */
    assert_int_equal(peek(ZERO_PAGE + 0x218, 4), 16 * MIB - 4096); /* ramdisk_image */
    assert_int_equal(peek(ZERO_PAGE + 0x21c, 4), 3000);            /* ramdisk_size */
    assert_int_equal(peek(ZERO_PAGE + 0x228, 4), 0x20000);         /* cmd_line_ptr */
    assert_int_equal(peek(ZERO_PAGE + 0x2d0 + 3 * 20, 8), 0x100000);
    assert_int_equal(peek(ZERO_PAGE + 0x2d0 + 3 * 20 + 8, 8), 15 * MIB);
    assert_int_equal(peek(ZERO_PAGE + 0x2d0 + 3 * 20 + 16, 4), 1);
    assert_int_equal(mem_read(&mem, 0x20000, cmdline, sizeof(cmdline), &err), 0);
    assert_string_equal(cmdline, "quiet");
}

/* The kernel's own header goes into the zero page, but for what the loader fills in. */
static void test_bzimage_header(void **state)
{
    struct packed plain = packed_vmlinux(5000), p = packed_gzip(plain.data, plain.len);
    struct packed image = packed_bzimage(p.data, p.len);
    image.data[BZ_LOADFLAGS] |= 0x80;           /* CAN_USE_HEAP */
    le_put(image.data + 0x250, 0x123456789, 8); /* setup_data */
    le_put(image.data + 0x1ef, 0xff, 1);        /* sentinel, not a part of the header */
    assert_int_equal(boot(&image, NULL, 0), 0);
    assert_int_equal(peek(ZERO_PAGE + 0x1ef, 1), 0);
    assert_int_equal(peek(ZERO_PAGE + 0x206, 2), 0x20f);
    assert_int_equal(peek(ZERO_PAGE + 0x211, 1), 1);
    assert_int_equal(peek(ZERO_PAGE + 0x230, 4), 0x200000);
    assert_int_equal(peek(ZERO_PAGE + 0x250, 8), 0);
    assert_int_equal(peek(ZERO_PAGE + 0x260, 4), 0x100000);
    assert_int_equal(peek(ZERO_PAGE + 0x26c, 8), 0);
    free(plain.data);
    free(p.data);
    free(image.data);
}

/* cmdline_size and initrd_addr_max of the bzImage bind. */
static void test_bzimage_limits(void **state)
{
    char cmdline[102];
    struct packed plain = packed_vmlinux(5000), p = packed_gzip(plain.data, plain.len);
    struct packed image = packed_bzimage(p.data, p.len);
    memset(cmdline, 'x', sizeof(cmdline));
    cmdline[100] = 0;
    le_put(image.data + BZ_INITRD_MAX, 0x7fffff, 4);
    assert_int_equal(boot(&image, cmdline, 4097), 0);
    assert_int_equal(entry.initrd_gpa, 8 * MIB - 8192);
    cmdline[100] = 'x';
    cmdline[101] = 0;
    assert_int_equal(boot(&image, cmdline, 0), -E2BIG);
    assert_string_equal(err.text,
                        "command line has 101 bytes, more than the 100 that fit this kernel");
    le_put(image.data + BZ_INITRD_MAX, 0x100fff, 4);
    assert_int_equal(boot(&image, NULL, 1), -ENOSPC);
    assert_non_null(strstr(err.text, "initrd: 1 bytes do not fit"));
    free(plain.data);
    free(p.data);
    free(image.data);
}

/* Walks the boot page tables as a CPU does. */
static uint64_t translate(uint64_t cr3, uint64_t va)
{
    uint64_t table = cr3;
    for (unsigned shift = 39; shift >= 21; shift -= 9) {
        uint64_t e = peek(table + 8 * (va >> shift & 511), 8);
        if (!(e & 1))
            return UINT64_MAX;
        if (e & 0x80)
            return (e & ~((1ull << shift) - 1)) | (va & ((1ull << shift) - 1));
        table = e & ~0xfffull;
    }
    return UINT64_MAX;
}

static void test_registers(void **state)
{
    struct kvm_regs regs;
    struct kvm_sregs sregs = {.apic_base = 0xfee00900};
    struct packed image = packed_vmlinux(5000);
    assert_int_equal(boot(&image, NULL, 0), 0);
    free(image.data);
    entry_regs(&entry, &regs, &sregs);
    assert_int_equal(regs.rip, 0x100010);
    assert_int_equal(regs.rsi, 0x7000);
    assert_int_equal(regs.rflags, 2);
    assert_int_equal(sregs.cr0, 0x80000011);
    assert_int_equal(sregs.cr4, 0x20);
    assert_int_equal(sregs.efer, 0x500);
    assert_int_equal(sregs.cs.selector, 0x10);
    assert_int_equal(sregs.cs.l, 1);
    assert_int_equal(sregs.cs.db, 0);
    assert_int_equal(sregs.ds.selector, 0x18);
    assert_int_equal(sregs.es.selector, 0x18);
    assert_int_equal(sregs.ss.selector, 0x18);
    assert_int_equal(sregs.apic_base, 0xfee00900);
    assert_int_equal(peek(sregs.gdt.base + 0x10, 8), 0x00af9b000000ffff);
    assert_int_equal(peek(sregs.gdt.base + 0x18, 8), 0x00cf93000000ffff);
    static const uint64_t vas[] = {0, 0x7000, 0x100010, 0x40000000, 0xfee00030, 0xffffffff};
    for (unsigned i = 0; i < sizeof(vas) / sizeof(vas[0]); i++)
        assert_int_equal(translate(sregs.cr3, vas[i]), vas[i]);
    assert_int_equal(translate(sregs.cr3, 1ull << 32), UINT64_MAX);
    assert_int_equal(translate(sregs.cr3, 1ull << 39), UINT64_MAX);
}

/* A reset: nothing of the first run is left, the same kernel stands there again. */
static void test_again(void **state)
{
    struct packed image = packed_vmlinux(5000);
    uint8_t *first = malloc(16 * MIB);
    assert_int_equal(boot(&image, "one", 3000), 0);
    assert_int_equal(mem_read(&mem, 0, first, 16 * MIB, &err), 0);
    memset(mem_borrow(&mem, 0, 16 * MIB, true, &err), 0xcc, 16 * MIB);
    assert_int_equal(mem_clear(&mem, &err), 0);
    assert_int_equal(boot(&image, "one", 3000), 0);
    assert_memory_equal(first, mem_borrow(&mem, 0, 16 * MIB, false, &err), 16 * MIB);
    free(first);
    free(image.data);
}

static void test_cpus_refused(void **state)
{
    CLEAN(clean_fd) int fd = image_file(image_elf, sizeof(image_elf));
    struct boot_source src = {.kernel_fd = fd, .initrd_fd = -1, .cpus = 65};
    assert_int_equal(boot_load(&mem, &src, &entry, &err), -EINVAL);
    assert_non_null(strstr(err.text, "65"));
}

static void test_not_a_kernel(void **state)
{
    static const struct packed images[] = {
        {(uint8_t *)"", 0}, {(uint8_t *)"\x7f", 1}, {(uint8_t *)"#!/bin/sh\n", 10}};
    for (unsigned i = 0; i < 3; i++) {
        assert_true(boot(&images[i], NULL, 0) < 0);
        assert_int_equal(strncmp(err.text, "kernel: ", 8), 0);
    }
}

/* The guest that the tests of all tiers run. */
static void test_own_guest(void **state)
{
    char path[4096];
    const char *build = getenv("FERRY_BUILD");
    snprintf(path, sizeof(path), "%s/guests/hello.elf", build ? build : ".");
    CLEAN(clean_fd) int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        skip();
    struct boot_source src = {.kernel_fd = fd, .initrd_fd = -1, .cmdline = "x", .cpus = 1};
    assert_int_equal(boot_load(&mem, &src, &entry, &err), 0);
    assert_int_equal(entry.protocol, BOOT_PVH);
    assert_in_range(entry.rip, 0x100000, 16 * MIB);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_vmlinux, setup, teardown),
        cmocka_unit_test_setup_teardown(test_bzimage_header, setup, teardown),
        cmocka_unit_test_setup_teardown(test_bzimage_limits, setup, teardown),
        cmocka_unit_test_setup_teardown(test_registers, setup, teardown),
        cmocka_unit_test_setup_teardown(test_again, setup, teardown),
        cmocka_unit_test_setup_teardown(test_cpus_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(test_not_a_kernel, setup, teardown),
        cmocka_unit_test_setup_teardown(test_own_guest, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
