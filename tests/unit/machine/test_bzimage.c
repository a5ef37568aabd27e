/* bzImages built here from a small vmlinux: unpacked on the host, unpacking themselves, refused. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "machine/boot/kernel.h"
#include "machine/layout.h"
#include "tests/unit/machine/packed_image.h"

#define RAM (16u << 20)
#define KERNEL_BYTES 200000u

static struct mem mem;
static struct err err;
static struct kernel kernel;

static int setup(void **state)
{
    return mem_init(&mem, RAM, &err);
}

static int teardown(void **state)
{
    mem_fini(&mem);
    return 0;
}

static int load(const uint8_t *data, size_t len)
{
    struct input in;
    CLEAN(clean_fd) int fd = image_file(data, len);
    err = (struct err){0};
    int rc = input_init(&in, fd, &err);
    return rc < 0 ? rc : kernel_load(&mem, &in, &kernel, &err);
}

static bool same_bytes(uint64_t gpa, const uint8_t *want, size_t len)
{
    const uint8_t *got = mem_borrow(&mem, gpa, len, false, &err);
    return got && memcmp(got, want, len) == 0;
}

/* A small bzImage: the vmlinux of image_elf, packed by zstd. */
static struct packed small_bzimage(void)
{
    struct packed plain = packed_vmlinux(64), p = packed_zstd(plain.data, plain.len);
    struct packed image = packed_bzimage(p.data, p.len);
    free(plain.data);
    free(p.data);
    return image;
}

static void check_unpacked(struct packed p, const struct packed *plain)
{
    struct packed image = packed_bzimage(p.data, p.len);
    int rc = load(image.data, image.len);
    free(image.data);
    free(p.data);
    if (rc < 0)
        fail_msg("%s", err.text);
    assert_int_equal(kernel.protocol, BOOT_LINUX64);
    assert_int_equal(kernel.rip, 0x100010);
    assert_int_equal(kernel.end, 0x100000 + KERNEL_BYTES + 0x1000);
    assert_int_equal(kernel.initrd_max, 0x7fffffff);
    assert_int_equal(kernel.cmdline_max, 100);
    assert_int_equal(kernel.header.version, 0x20f);
    assert_true(same_bytes(0x100000, plain->data + IMAGE_HEADERS_END, KERNEL_BYTES));
    assert_int_equal(mem_clear(&mem, &err), 0);
}

static void test_unpacked_on_the_host(void **state)
{
    struct packed plain = packed_vmlinux(KERNEL_BYTES);
    check_unpacked(packed_gzip(plain.data, plain.len), &plain);
    check_unpacked(packed_xz(plain.data, plain.len, 1 << 20), &plain);
    check_unpacked(packed_zstd(plain.data, plain.len), &plain);
    check_unpacked(packed_lz4(plain.data, plain.len, 8u << 20), &plain);
    check_unpacked(packed_lz4(plain.data, plain.len, 1000), &plain);
    free(plain.data);
}

/* A kernel below 4 KiB: its headers are read when its last byte has come. */
static void test_small(void **state)
{
    struct packed image = small_bzimage();
    assert_int_equal(load(image.data, image.len), 0);
    assert_int_equal(kernel.rip, 0x100010);
    free(image.data);
}

static const uint8_t unknown[64] = "BZh9 or whatever else a kernel may be packed with";

static void test_unpacking_itself(void **state)
{
    struct packed image = packed_bzimage(unknown, sizeof(unknown));
    assert_int_equal(load(image.data, image.len), 0);
    assert_int_equal(kernel.protocol, BOOT_LINUX64);
    assert_int_equal(kernel.rip, 0x400200);
    assert_int_equal(kernel.end, 0x500000);
    assert_int_equal(kernel.header.code32_start, 0x400000);
    assert_true(same_bytes(0x400000, image.data + BZIMAGE_SETUP, image.len - BZIMAGE_SETUP));
    free(image.data);
}

/* Where it goes when its favourite place is outside of RAM. */
static void test_relocated(void **state)
{
    struct packed image = packed_bzimage(unknown, sizeof(unknown));
    le_put(image.data + BZ_PREF_ADDRESS, 0x1000000, 8);
    assert_int_equal(load(image.data, image.len), 0);
    assert_int_equal(kernel.rip, 0x200200);
    le_put(image.data + BZ_INIT_SIZE, RAM - 0x200000, 4);
    assert_int_equal(load(image.data, image.len), 0);
    assert_int_equal(kernel.end, RAM);
    le_put(image.data + BZ_INIT_SIZE, RAM - 0x200000 + 1, 4);
    assert_int_equal(load(image.data, image.len), -ENOSPC);
    le_put(image.data + BZ_INIT_SIZE, 0x100000, 4);
    image.data[BZ_RELOCATABLE] = 0;
    assert_int_equal(load(image.data, image.len), -ENOSPC);
    assert_non_null(strstr(err.text, "init_size"));
    assert_non_null(strstr(err.text, "pref_address"));
    le_put(image.data + BZ_PREF_ADDRESS, UINT64_MAX, 8);
    assert_int_equal(load(image.data, image.len), -ENOSPC);
    le_put(image.data + BZ_PREF_ADDRESS, 0x1000, 8);
    assert_int_equal(load(image.data, image.len), -ENOSPC);
    free(image.data);
}

struct change {
    unsigned at, bytes;
    uint64_t value;
    const char *says; /* NULL: loads all the same */
};

static const struct change changes[] = {
    {BZ_BOOT_FLAG, 2, 0xaa56, "boot_flag"},
    {BZ_HEADER, 4, 0, "neither an ELF file nor a Linux bzImage"},
    {BZ_JUMP + 1, 1, 0x4d, "payload_length"},
    {BZ_JUMP + 1, 1, 0x4e, NULL},
    {BZ_JUMP + 1, 1, 0xff, NULL},
    {BZ_VERSION, 2, 0x207, "boot protocol version 2.07 is too old"},
    {BZ_VERSION, 2, 0, "version"},
    {BZ_VERSION, 2, 0x208, NULL},
    {BZ_VERSION, 2, 0xffff, NULL},
    {BZ_LOADFLAGS, 1, 0, "LOADED_HIGH"},
    {BZ_XLOADFLAGS, 2, 0xfffe, "XLF_KERNEL_64"},
    {BZ_SETUP_SECTS, 1, 255, "truncated: the protected-mode part (syssize)"},
    {BZ_SETUP_SECTS, 1, 0, "truncated"},
    {BZ_SYSSIZE, 4, UINT32_MAX, "syssize"},
    {BZ_SYSSIZE, 4, 1u << 31, "syssize"},
    {BZ_SYSSIZE, 4, 0, NULL},
    {BZ_PAYLOAD_OFFSET, 4, UINT32_MAX, "payload_offset"},
    {BZ_PAYLOAD_OFFSET, 4, 1u << 31, "payload_offset"},
    {BZ_PAYLOAD_LENGTH, 4, UINT32_MAX, "payload_length"},
    {BZ_PAYLOAD_LENGTH, 4, 1u << 31, "payload_length"},
    {BZ_PAYLOAD_LENGTH, 4, 20, "the packed kernel in it: "},
};

static void test_changes(void **state)
{
    struct packed image = small_bzimage();
    for (size_t i = 0; i < sizeof(changes) / sizeof(changes[0]); i++) {
        const struct change *c = &changes[i];
        uint64_t was = le_get(image.data + c->at, c->bytes);
        le_put(image.data + c->at, c->value, c->bytes);
        int rc = load(image.data, image.len);
        le_put(image.data + c->at, was, c->bytes);
        if (!c->says && rc < 0)
            fail_msg("row %zu: %s", i, err.text);
        if (c->says && (rc == 0 || !strstr(err.text, c->says)))
            fail_msg("row %zu: rc %d, '%s' does not say '%s'", i, rc, err.text, c->says);
    }
    free(image.data);
}

/* The same for a kernel that nobody here can unpack. */
static void test_changes_unpacking_itself(void **state)
{
    struct packed image = packed_bzimage(unknown, sizeof(unknown));
    le_put(image.data + BZ_VERSION, 0x20b, 2);
    assert_int_equal(load(image.data, image.len), -ENOEXEC);
    assert_non_null(strstr(err.text, "2.11 has no 64-bit entry"));
    le_put(image.data + BZ_VERSION, 0x20f, 2);
    le_put(image.data + BZ_SYSSIZE, 0x200 / 16, 4);
    assert_int_equal(load(image.data, image.len), -ENOEXEC);
    assert_non_null(strstr(err.text, "syssize"));
    le_put(image.data + BZ_SYSSIZE, 0, 4);
    assert_int_equal(load(image.data, image.len), -ENOEXEC);
    le_put(image.data + BZ_SYSSIZE, 0x210 / 16, 4);
    le_put(image.data + BZ_PAYLOAD_LENGTH, 0, 4);
    assert_int_equal(load(image.data, image.len), 0);
    le_put(image.data + BZ_ALIGNMENT, 0, 4);
    le_put(image.data + BZ_PREF_ADDRESS, 0, 8);
    assert_int_equal(load(image.data, image.len), 0);
    assert_int_equal(kernel.rip, 0x100200);
    free(image.data);
}

static void test_truncated(void **state)
{
    struct packed image = small_bzimage();
    for (size_t len = 0; len < image.len; len++) {
        assert_true(load(image.data, len) < 0);
        assert_true(err.text[0] != 0);
    }
    free(image.data);
}

static void test_trailing(void **state)
{
    struct packed image = small_bzimage();
    uint8_t *data = calloc(1, image.len + 500);
    memcpy(data, image.data, image.len);
    int rc = load(data, image.len + 500);
    free(data);
    free(image.data);
    assert_int_equal(rc, 0);
}

/* Every bit of the setup header, for both ways to be loaded. */
static void test_flips(void **state)
{
    struct packed images[] = {small_bzimage(), packed_bzimage(unknown, sizeof(unknown))};
    for (unsigned i = 0; i < 2; i++) {
        for (size_t bit = BZ_SETUP_SECTS * 8; bit < 0x26c * 8; bit++) {
            images[i].data[bit / 8] ^= (uint8_t)(1u << (bit % 8));
            int rc = load(images[i].data, images[i].len);
            images[i].data[bit / 8] ^= (uint8_t)(1u << (bit % 8));
            assert_true(rc == 0 || (err.code > 0 && err.text[0] != 0));
        }
        free(images[i].data);
    }
}

/* Packed correctly, but not a kernel. */
static int load_payload(const uint8_t *data, size_t len)
{
    struct packed p = packed_zstd(data, len), image = packed_bzimage(p.data, p.len);
    int rc = load(image.data, image.len);
    free(p.data);
    free(image.data);
    return rc;
}

static void test_wrong_contents(void **state)
{
    struct packed plain = packed_vmlinux(8192);
    assert_int_equal(load_payload((const uint8_t *)"hello", 5), -ENODATA);
    assert_non_null(strstr(err.text, "truncated"));
    assert_int_equal(load_payload(plain.data + 64, 8000), -ENOEXEC);
    assert_string_equal(err.text, "the packed kernel in it: not an ELF file");
    assert_int_equal(load_payload(plain.data, 8000), -ENODATA);
    assert_non_null(strstr(err.text, "p_filesz"));
    assert_int_equal(load_payload(plain.data, 0), -ENODATA);
    assert_non_null(strstr(err.text, "unpacks to nothing"));
    plain.data[4] = 1;
    assert_int_equal(load_payload(plain.data, plain.len), -ENOEXEC);
    assert_non_null(strstr(err.text, "EI_CLASS"));
    plain.data[4] = 2;
    le_put(plain.data + IMAGE_E_PHOFF, 4096, 8);
    assert_int_equal(load_payload(plain.data, plain.len), -ENOEXEC);
    assert_non_null(strstr(err.text, "e_phoff"));
    le_put(plain.data + IMAGE_E_PHOFF, 64, 8);
    le_put(plain.data + 0x18, 0x90000, 8);
    assert_int_equal(load_payload(plain.data, plain.len), -ENOEXEC);
    assert_non_null(strstr(err.text, "e_entry"));
    free(plain.data);
}

/* 17 MiB of zeroes behind an ELF header do not go into 16 MiB of RAM. */
static void test_larger_than_ram(void **state)
{
    struct packed plain = packed_vmlinux(17u << 20);
    assert_int_equal(load_payload(plain.data, plain.len), -ENOSPC);
    assert_non_null(strstr(err.text, "more than the guest's 16 MiB of RAM"));
    free(plain.data);
}

static void test_bare_packed_file(void **state)
{
    struct packed plain = packed_vmlinux(64), p = packed_gzip(plain.data, plain.len);
    assert_int_equal(load(p.data, p.len), -ENOEXEC);
    assert_string_equal(err.text, "a bare gzip file; give it unpacked");
    free(plain.data);
    free(p.data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_unpacked_on_the_host, setup, teardown),
        cmocka_unit_test_setup_teardown(test_small, setup, teardown),
        cmocka_unit_test_setup_teardown(test_unpacking_itself, setup, teardown),
        cmocka_unit_test_setup_teardown(test_relocated, setup, teardown),
        cmocka_unit_test_setup_teardown(test_changes, setup, teardown),
        cmocka_unit_test_setup_teardown(test_changes_unpacking_itself, setup, teardown),
        cmocka_unit_test_setup_teardown(test_truncated, setup, teardown),
        cmocka_unit_test_setup_teardown(test_trailing, setup, teardown),
        cmocka_unit_test_setup_teardown(test_flips, setup, teardown),
        cmocka_unit_test_setup_teardown(test_wrong_contents, setup, teardown),
        cmocka_unit_test_setup_teardown(test_larger_than_ram, setup, teardown),
        cmocka_unit_test_setup_teardown(test_bare_packed_file, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
