/* A PVH kernel from file to registers: what lies in guest memory, byte by byte, and what does not.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "machine/boot/boot.h"
#include "machine/boot/entry.h"
#include "machine/layout.h"
#include "tests/unit/machine/boot_image.h"

#define MIB (1u << 20)

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

static int boot(const char *cmdline, const void *initrd, size_t initrd_bytes)
{
    CLEAN(clean_fd) int kernel = image_file(image_elf, sizeof(image_elf));
    CLEAN(clean_fd) int fd = initrd ? image_file(initrd, initrd_bytes) : -1;
    struct boot_source src = {.kernel_fd = kernel, .initrd_fd = fd, .cmdline = cmdline, .cpus = 1};
    err = (struct err){0};
    return boot_load(&mem, &src, &entry, &err);
}

static uint64_t peek(uint64_t gpa, unsigned bytes)
{
    uint8_t got[8];
    assert_int_equal(mem_read(&mem, gpa, got, bytes, &err), 0);
    return le_get(got, bytes);
}

static void test_start_info(void **state)
{
    char cmdline[12];
    assert_int_equal(boot("console=x", NULL, 0), 0);
    assert_int_equal(entry.protocol, BOOT_PVH);
    assert_int_equal(entry.rip, 0x100008);
    assert_int_equal(entry.info, 0x6000);
    assert_int_equal(peek(0x6000, 4), 0x336ec578); /* magic */
    assert_int_equal(peek(0x6004, 4), 1);          /* version */
    assert_int_equal(peek(0x6008, 4), 0);          /* flags */
    assert_int_equal(peek(0x600c, 4), 0);          /* nr_modules */
    assert_int_equal(peek(0x6010, 8), 0);          /* modlist_paddr */
    assert_int_equal(peek(0x6018, 8), 0x20000);    /* cmdline_paddr */
    assert_int_equal(peek(0x6020, 8), 0xe0000);    /* rsdp_paddr */
    assert_int_equal(peek(0x6028, 8), 0x6058);     /* memmap_paddr */
    assert_int_equal(peek(0x6030, 4), 5);          /* memmap_entries */
    assert_int_equal(mem_read(&mem, 0x20000, cmdline, sizeof(cmdline), &err), 0);
    assert_string_equal(cmdline, "console=x");
}

static const char *boot_with_virtio(const char *text, unsigned virtio)
{
    static char cmdline[2048];
    CLEAN(clean_fd) int kernel = image_file(image_elf, sizeof(image_elf));
    struct boot_source src = {
        .kernel_fd = kernel, .initrd_fd = -1, .cmdline = text, .cpus = 1, .virtio = virtio};
    int rc = boot_load(&mem, &src, &entry, &err);
    assert_int_equal(mem_read(&mem, 0x20000, cmdline, sizeof(cmdline), &err), 0);
    return rc == 0 ? cmdline : NULL;
}

/* Who does without ACPI is told of virtio devices here, as many as have an ISA interrupt. */
static void test_virtio_on_the_command_line(void **state)
{
    char text[2048];
    assert_string_equal(boot_with_virtio("quiet acpi=off", 2),
                        "quiet acpi=off virtio_mmio.device=4K@0xd0000000:10 "
                        "virtio_mmio.device=4K@0xd0001000:11");
    assert_string_equal(boot_with_virtio("acpi=off", 0), "acpi=off");
    static const char *const same[] = {"quiet", "acpi=offline", "noacpi=off",
                                       "acpi=off virtio_mmio.device=4K@0x1:2"};
    for (size_t i = 0; i < sizeof(same) / sizeof(same[0]); i++)
        assert_string_equal(boot_with_virtio(same[i], 3), same[i]);
    const char *at = boot_with_virtio("acpi=off", 16);
    unsigned n = 0;
    while ((at = strstr(at, "virtio_mmio.device=")))
        at += ++n ? 1 : 0;
    assert_int_equal(n, 8);
    memset(text, 'x', 2040);
    snprintf(text + 2020, sizeof(text) - 2020, " acpi=off");
    assert_null(boot_with_virtio(text, 1));
    assert_non_null(strstr(err.text, "command line has 2065 bytes, more than the 2047"));
}

static void test_memory_map(void **state)
{
    static const uint64_t want[][3] = {
        {0, 0x9fc00, 1},         {0x9fc00, 0x400, 2},     {0xe0000, 0x20000, 2},
        {0x100000, 0xf00000, 1}, {0xfffbc000, 0x4000, 2},
    };
    assert_int_equal(boot(NULL, NULL, 0), 0);
    assert_int_equal(peek(0x6030, 4), sizeof(want) / sizeof(want[0]));
    for (unsigned i = 0; i < sizeof(want) / sizeof(want[0]); i++) {
        assert_int_equal(peek(0x6058 + 24 * i, 8), want[i][0]);
        assert_int_equal(peek(0x6058 + 24 * i + 8, 8), want[i][1]);
        assert_int_equal(peek(0x6058 + 24 * i + 16, 4), want[i][2]);
        assert_int_equal(peek(0x6058 + 24 * i + 20, 4), 0);
    }
}

/* RAM behind the hole at 3 GiB is an entry of its own. */
static void test_memory_map_high(void **state)
{
    mem_fini(&mem);
    assert_int_equal(mem_init(&mem, 5ull << 30, &err), 0);
    assert_int_equal(boot(NULL, NULL, 0), 0);
    assert_int_equal(peek(0x6030, 4), 6);
    assert_int_equal(peek(0x6058 + 24 * 3 + 8, 8), MEM_LOW_MAX - 0x100000);
    assert_int_equal(peek(0x6058 + 24 * 5, 8), 4ull << 30);
    assert_int_equal(peek(0x6058 + 24 * 5 + 8, 8), 2ull << 30);
}

static void test_registers(void **state)
{
    struct kvm_regs regs;
    struct kvm_sregs sregs;
    memset(&regs, 0xff, sizeof(regs));
    memset(&sregs, 0xff, sizeof(sregs));
    sregs.apic_base = 0xfee00900;
    assert_int_equal(boot(NULL, NULL, 0), 0);
    entry_regs(&entry, &regs, &sregs);
    assert_int_equal(regs.rip, 0x100008);
    assert_int_equal(regs.rbx, 0x6000);
    assert_int_equal(regs.rflags, 2);
    assert_int_equal(regs.rax | regs.rsi | regs.rsp, 0);
    assert_int_equal(sregs.cr0, 0x11);
    assert_int_equal(sregs.cr3 | sregs.cr4 | sregs.efer, 0);
    assert_int_equal(sregs.cs.base, 0);
    assert_int_equal(sregs.cs.limit, 0xffffffff);
    assert_int_equal(sregs.cs.type, 0xb);
    assert_int_equal(sregs.cs.db, 1);
    assert_int_equal(sregs.cs.l, 0);
    assert_int_equal(sregs.ds.type, 3);
    assert_memory_equal(&sregs.ds, &sregs.ss, sizeof(sregs.ds));
    assert_memory_equal(&sregs.ds, &sregs.es, sizeof(sregs.ds));
    assert_int_equal(sregs.tr.limit, 0x67);
    assert_int_equal(sregs.apic_base, 0xfee00900);
    /* The GDT says the same as the hidden parts of the registers. */
    assert_int_equal(sregs.gdt.base, LAYOUT_BOOT_GDT);
    assert_int_equal(peek(LAYOUT_BOOT_GDT + sregs.cs.selector, 8), 0x00cf9b000000ffff);
    assert_int_equal(peek(LAYOUT_BOOT_GDT + sregs.ds.selector, 8), 0x00cf93000000ffff);
}

static void test_initrd(void **state)
{
    uint8_t initrd[5000], got[5000];
    for (size_t i = 0; i < sizeof(initrd); i++)
        initrd[i] = (uint8_t)(i * 7 + 1);
    assert_int_equal(boot(NULL, initrd, sizeof(initrd)), 0);
    assert_int_equal(entry.initrd_gpa, 16 * MIB - 8192);
    assert_int_equal(entry.initrd_bytes, sizeof(initrd));
    assert_int_equal(peek(0x600c, 4), 1);
    assert_int_equal(peek(0x6010, 8), 0x6038);
    assert_int_equal(peek(0x6038, 8), 16 * MIB - 8192);
    assert_int_equal(peek(0x6040, 8), sizeof(initrd));
    assert_int_equal(peek(0x6048, 8), 0);
    assert_int_equal(mem_read(&mem, entry.initrd_gpa, got, sizeof(got), &err), 0);
    assert_memory_equal(got, initrd, sizeof(got));
}

/* The kernel ends at 0x103000: one byte more than fits is refused. */
static void test_initrd_too_large(void **state)
{
    size_t fits = 16 * MIB - 0x103000;
    uint8_t *initrd = calloc(1, fits + 1);
    assert_non_null(initrd);
    int exact = boot(NULL, initrd, fits);
    uint64_t gpa = entry.initrd_gpa;
    int more = boot(NULL, initrd, fits + 1);
    int none = boot(NULL, initrd, 0);
    free(initrd);
    assert_int_equal(exact, 0);
    assert_int_equal(gpa, 0x103000);
    assert_int_equal(more, -ENOSPC);
    assert_int_equal(none, -ENODATA);
    assert_string_equal(err.text, "initrd: the file is empty");
}

/* More than all of RAM, up to the largest file there can be: holes, so nothing is stored. */
static void test_initrd_beyond_ram(void **state)
{
    static const off_t sizes[] = {16 * MIB + 1, 1ll << 31, 1ll << 32, 1ll << 40, INT64_MAX};
    CLEAN(clean_fd) int kernel = image_file(image_elf, sizeof(image_elf));
    CLEAN(clean_fd) int fd = image_file("", 0);
    struct boot_source src = {.kernel_fd = kernel, .initrd_fd = fd, .cpus = 1};
    for (unsigned i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        assert_int_equal(ftruncate(fd, sizes[i]), 0);
        assert_int_equal(boot_load(&mem, &src, &entry, &err), -ENOSPC);
        assert_non_null(strstr(err.text, "the guest needs more memory"));
    }
}

static void test_cmdline_length(void **state)
{
    char cmdline[LAYOUT_CMDLINE_MAX + 1];
    memset(cmdline, 'x', sizeof(cmdline));
    cmdline[LAYOUT_CMDLINE_MAX - 1] = 0;
    assert_int_equal(boot(cmdline, NULL, 0), 0);
    assert_int_equal(peek(LAYOUT_CMDLINE + LAYOUT_CMDLINE_MAX - 2, 2), 'x');
    cmdline[LAYOUT_CMDLINE_MAX - 1] = 'x';
    cmdline[LAYOUT_CMDLINE_MAX] = 0;
    assert_int_equal(boot(cmdline, NULL, 0), -E2BIG);
    assert_non_null(strstr(err.text, "command line has 2048 bytes"));
}

static int boot_changed(unsigned at, uint64_t value, unsigned bytes)
{
    uint8_t image[IMAGE_ELF_BYTES];
    memcpy(image, image_elf, sizeof(image));
    le_put(image + at, value, bytes);
    CLEAN(clean_fd) int fd = image_file(image, sizeof(image));
    struct boot_source src = {.kernel_fd = fd, .initrd_fd = -1, .cpus = 1};
    return boot_load(&mem, &src, &entry, &err);
}

static void test_entry_outside(void **state)
{
    static const uint32_t entries[] = {0, 0xfffff, 0x103000, UINT32_MAX};
    for (unsigned i = 0; i < 4; i++) {
        assert_int_equal(boot_changed(IMAGE_NOTE + 16, entries[i], 4), -ENOEXEC);
        assert_non_null(strstr(err.text, "kernel: the PVH entry 0x"));
    }
}

static void test_not_a_plain_file(void **state)
{
    int fds[2];
    assert_int_equal(pipe(fds), 0);
    struct boot_source src = {.kernel_fd = fds[0], .initrd_fd = -1, .cpus = 1};
    assert_int_equal(boot_load(&mem, &src, &entry, &err), -EINVAL);
    assert_string_equal(err.text, "kernel: not a plain file");
    close(fds[0]);
    close(fds[1]);
    src.kernel_fd = -1;
    assert_int_equal(boot_load(&mem, &src, &entry, &err), -EBADF);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_start_info, setup, teardown),
        cmocka_unit_test_setup_teardown(test_virtio_on_the_command_line, setup, teardown),
        cmocka_unit_test_setup_teardown(test_memory_map, setup, teardown),
        cmocka_unit_test_setup_teardown(test_memory_map_high, setup, teardown),
        cmocka_unit_test_setup_teardown(test_registers, setup, teardown),
        cmocka_unit_test_setup_teardown(test_initrd, setup, teardown),
        cmocka_unit_test_setup_teardown(test_initrd_too_large, setup, teardown),
        cmocka_unit_test_setup_teardown(test_initrd_beyond_ram, setup, teardown),
        cmocka_unit_test_setup_teardown(test_cmdline_length, setup, teardown),
        cmocka_unit_test_setup_teardown(test_entry_outside, setup, teardown),
        cmocka_unit_test_setup_teardown(test_not_a_plain_file, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
