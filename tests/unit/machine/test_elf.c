/* ELF kernels: what is read from the headers, where the bytes go, and every way to be refused. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "machine/boot/elf.h"
#include "machine/layout.h"
#include "tests/unit/machine/boot_image.h"

#define RAM (16u << 20)

static struct mem mem;
static struct err err;

static int setup(void **state)
{
    return mem_init(&mem, RAM, &err);
}

static int teardown(void **state)
{
    mem_fini(&mem);
    return 0;
}

/* Parse, check, find the note, load: what a boot does. */
static int load_fd(int fd, struct elf_image *image, bool *pvh, uint64_t *entry)
{
    struct input in;
    int rc = input_init(&in, fd, &err);
    if (rc == 0)
        rc = elf_open(image, &in, &mem, &err);
    if (rc == 0)
        rc = elf_find_pvh(image, &in, pvh, entry, &err);
    return rc < 0 ? rc : elf_load(image, &in, &mem, &err);
}

static int load(const void *data, size_t len)
{
    struct elf_image image;
    bool pvh;
    uint64_t entry;
    CLEAN(clean_fd) int fd = image_file(data, len);
    assert_true(fd >= 0);
    err = (struct err){0};
    return load_fd(fd, &image, &pvh, &entry);
}

static void test_golden(void **state)
{
    struct elf_image image;
    bool pvh;
    uint64_t entry;
    uint8_t got[IMAGE_SEGMENT_BYTES + 8], zero[8] = {0};
    CLEAN(clean_fd) int fd = image_file(image_elf, sizeof(image_elf));
    assert_int_equal(load_fd(fd, &image, &pvh, &entry), 0);
    assert_int_equal(image.nsegments, 1);
    assert_int_equal(image.segments[0].gpa, 0x100000);
    assert_int_equal(image.segments[0].mem_bytes, 0x3000);
    assert_int_equal(image.segments[0].file_bytes, 32);
    assert_int_equal(image.entry, 0x100010);
    assert_int_equal(elf_end_below(&image, RAM), 0x103000);
    assert_int_equal(elf_end_below(&image, 0x100000), 0);
    assert_true(pvh);
    assert_int_equal(entry, 0x100008);
    assert_true(elf_holds(&image, 0x100000));
    assert_true(elf_holds(&image, 0x102fff));
    assert_false(elf_holds(&image, 0x103000));
    assert_false(elf_holds(&image, 0xfffff));
    assert_int_equal(mem_read(&mem, 0x100000, got, sizeof(got), &err), 0);
    assert_memory_equal(got, image_elf + 0xb0, IMAGE_SEGMENT_BYTES);
    assert_memory_equal(got + IMAGE_SEGMENT_BYTES, zero, 8);
    assert_true(bitmap_test(&mem.written, 0x100));
    assert_false(bitmap_test(&mem.written, 0x101));
}

/* The file position belongs to the descriptor's owner. */
static void test_leaves_the_position(void **state)
{
    struct elf_image image;
    bool pvh;
    uint64_t entry;
    CLEAN(clean_fd) int fd = image_file(image_elf, sizeof(image_elf));
    assert_int_equal(lseek(fd, 100, SEEK_SET), 100);
    assert_int_equal(load_fd(fd, &image, &pvh, &entry), 0);
    assert_int_equal(lseek(fd, 0, SEEK_CUR), 100);
}

static void test_pieces(void **state)
{
    for (size_t step = 1; step < 70; step += 7) {
        struct elf_image image;
        uint8_t got[IMAGE_SEGMENT_BYTES];
        CLEAN(clean_fd) int fd = image_file(image_elf, sizeof(image_elf));
        struct input in;
        assert_int_equal(input_init(&in, fd, &err), 0);
        assert_int_equal(elf_open(&image, &in, &mem, &err), 0);
        assert_int_equal(mem_clear(&mem, &err), 0);
        for (size_t at = 0; at < sizeof(image_elf); at += step) {
            size_t n = sizeof(image_elf) - at < step ? sizeof(image_elf) - at : step;
            assert_int_equal(elf_take(&image, &mem, at, image_elf + at, n, &err), 0);
        }
        assert_int_equal(mem_read(&mem, 0x100000, got, sizeof(got), &err), 0);
        assert_memory_equal(got, image_elf + 0xb0, sizeof(got));
    }
}

static void test_truncated(void **state)
{
    for (size_t len = 0; len < sizeof(image_elf); len++) {
        assert_true(load(image_elf, len) < 0);
        assert_true(err.text[0] != 0);
    }
    assert_non_null(strstr(err.text, "truncated"));
}

static void test_trailing(void **state)
{
    uint8_t image[IMAGE_ELF_BYTES + 100] = {0};
    memcpy(image, image_elf, sizeof(image_elf));
    assert_int_equal(load(image, sizeof(image)), 0);
}

/* Any flip either loads or is refused with a sentence; nothing else may happen. */
static void test_flips(void **state)
{
    unsigned refused = 0;
    for (size_t bit = 0; bit < sizeof(image_elf) * 8; bit++) {
        uint8_t image[IMAGE_ELF_BYTES];
        memcpy(image, image_elf, sizeof(image));
        image[bit / 8] ^= (uint8_t)(1u << (bit % 8));
        if (load(image, sizeof(image)) < 0) {
            assert_true(err.text[0] != 0 && err.code > 0);
            refused++;
        }
    }
    assert_true(refused > 300);
}

struct change {
    unsigned at, bytes;
    uint64_t value;
    const char *says; /* NULL: loads all the same */
};

static const struct change changes[] = {
    {0, 4, 0x464c457e, "not an ELF file"},
    {4, 1, 1, "EI_CLASS"},
    {5, 1, 2, "EI_DATA"},
    {6, 1, 0, "e_version"},
    {0x14, 4, 2, "e_version"},
    {0x10, 2, 1, "e_type"},
    {0x10, 2, 3, NULL},
    {0x12, 2, 3, "e_machine"},
    {0x36, 2, 32, "e_phentsize"},
    {IMAGE_E_PHNUM, 2, 0, "(e_phnum) is 0, not 1 to 64"},
    {IMAGE_E_PHNUM, 2, 65, "(e_phnum) is 65, not 1 to 64"},
    {IMAGE_E_PHNUM, 2, 0xffff, "(e_phnum) is 65535, not 1 to 64"},
    {IMAGE_E_PHNUM, 2, 4, "e_phoff"},
    {IMAGE_E_PHOFF, 8, 0x80000000, "e_phoff"},
    {IMAGE_E_PHOFF, 8, UINT64_MAX - 10, "e_phoff"},
    {IMAGE_E_PHOFF, 8, 1ull << 63, "e_phoff"},
    {IMAGE_P_TYPE, 4, 2, "PT_LOAD"},
    {IMAGE_P_OFFSET, 8, UINT64_MAX, "p_offset"},
    {IMAGE_P_OFFSET, 8, 1ull << 63, "p_offset"},
    {IMAGE_P_FILESZ, 8, 0x3001, "is more than p_memsz"},
    {IMAGE_P_MEMSZ, 8, 31, "p_filesz 0x20 is more than p_memsz 0x1f"},
    {IMAGE_P_FILESZ, 8, 0x80000000, "is more than p_memsz"},
    {IMAGE_P_FILESZ, 8, 0x100, "truncated"},
    {IMAGE_P_FILESZ, 8, 0, NULL},
    {IMAGE_P_MEMSZ, 8, 0, "p_memsz"},
    {IMAGE_P_MEMSZ, 8, RAM - 0x100000, NULL},
    {IMAGE_P_MEMSZ, 8, RAM - 0x100000 + 1, "outside of the guest's 16 MiB"},
    {IMAGE_P_MEMSZ, 8, 1ull << 31, "outside"},
    {IMAGE_P_MEMSZ, 8, UINT32_MAX, "outside"},
    {IMAGE_P_MEMSZ, 8, 1ull << 63, "outside"},
    {IMAGE_P_MEMSZ, 8, UINT64_MAX, "wrap"},
    {IMAGE_P_PADDR, 8, 0, "below 1 MiB"},
    {IMAGE_P_PADDR, 8, 0xfffff, "below 1 MiB"},
    {IMAGE_P_PADDR, 8, 0x100001, NULL},
    {IMAGE_P_PADDR, 8, 0xfee00000, "outside"},
    {IMAGE_P_PADDR, 8, MEM_HIGH_BASE, "outside"},
    {IMAGE_P_PADDR, 8, UINT64_MAX - 0x2ffe, "wrap"},
    {IMAGE_P_PADDR, 8, UINT64_MAX - 0x2fff, "outside"},
    {IMAGE_NOTE_HEADER + 8, 8, 0xd1, "truncated"},
    {IMAGE_NOTE_HEADER + 32, 8, 1ull << 40, "truncated"},
    {IMAGE_NOTE + 4, 4, 2, "n_descsz"},
};

static void test_changes(void **state)
{
    for (size_t i = 0; i < sizeof(changes) / sizeof(changes[0]); i++) {
        const struct change *c = &changes[i];
        uint8_t image[IMAGE_ELF_BYTES];
        memcpy(image, image_elf, sizeof(image));
        le_put(image + c->at, c->value, c->bytes);
        int rc = load(image, sizeof(image));
        if (!c->says && rc < 0)
            fail_msg("row %zu: %s", i, err.text);
        if (c->says && (rc == 0 || !strstr(err.text, c->says)))
            fail_msg("row %zu: rc %d, '%s' does not say '%s'", i, rc, err.text, c->says);
    }
}

/* The second header becomes a segment too. */
static int load_two(uint64_t gpa, uint64_t mem_bytes)
{
    uint8_t image[IMAGE_ELF_BYTES];
    memcpy(image, image_elf, sizeof(image));
    memcpy(image + IMAGE_NOTE_HEADER, image + IMAGE_P_TYPE, 56);
    le_put(image + IMAGE_NOTE_HEADER + 0x18, gpa, 8);
    le_put(image + IMAGE_NOTE_HEADER + 0x28, mem_bytes, 8);
    return load(image, sizeof(image));
}

static void test_overlap(void **state)
{
    assert_int_equal(load_two(0x103000, 0x1000), 0);
    assert_int_equal(load_two(0x102fff, 0x1000), -ENOEXEC);
    assert_non_null(strstr(err.text, "overlap"));
    assert_int_equal(load_two(0x100000, 0x3000), -ENOEXEC);
    assert_non_null(strstr(err.text, "overlap"));
    assert_int_equal(load_two(0x101000, 0x20), -ENOEXEC);
    assert_non_null(strstr(err.text, "overlap"));
}

/* Which notes count as a PVH entry. */
static void test_notes(void **state)
{
    static const struct {
        unsigned at, bytes;
        uint64_t value;
        bool found;
    } rows[] = {
        {IMAGE_NOTE + 8, 4, 17, false},          /* another type */
        {IMAGE_NOTE + 12, 4, 0x006e6558, true},  /* "Xen" */
        {IMAGE_NOTE + 12, 4, 0x00554e47, false}, /* "GNU" */
        {IMAGE_NOTE, 4, UINT32_MAX, false},      /* n_namesz */
        {IMAGE_NOTE + 4, 4, 5, false},           /* n_descsz beyond the note */
        {IMAGE_NOTE + 4, 4, UINT32_MAX, false},
        {IMAGE_NOTE_HEADER + 32, 8, 12, false}, /* p_filesz cuts the note */
        {IMAGE_NOTE_HEADER + 32, 8, 0, false},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct elf_image parsed;
        bool pvh;
        uint64_t entry;
        uint8_t image[IMAGE_ELF_BYTES];
        memcpy(image, image_elf, sizeof(image));
        le_put(image + rows[i].at, rows[i].value, rows[i].bytes);
        CLEAN(clean_fd) int fd = image_file(image, sizeof(image));
        if (load_fd(fd, &parsed, &pvh, &entry) < 0 || pvh != rows[i].found)
            fail_msg("row %zu", i);
    }
}

/* A foreign note before it, an eight-byte entry, an alignment of eight. */
static void test_second_note(void **state)
{
    uint8_t image[IMAGE_ELF_BYTES + 64] = {0}, *n = image + IMAGE_NOTE;
    struct elf_image parsed;
    bool pvh;
    uint64_t entry;
    memcpy(image, image_elf, IMAGE_NOTE);
    memset(n, 0, 60);
    le_put(image + IMAGE_NOTE_HEADER + 32, 64, 8);
    le_put(image + IMAGE_NOTE_HEADER + 48, 8, 8);
    le_put(n, 4, 4);
    le_put(n + 4, 1, 4);
    memcpy(n + 12, "GNU", 4);
    n += 24;
    le_put(n, 4, 4);
    le_put(n + 4, 8, 4);
    le_put(n + 8, 18, 4);
    memcpy(n + 12, "Xen", 4);
    le_put(n + 16, 0x101234, 8);
    CLEAN(clean_fd) int fd = image_file(image, sizeof(image));
    assert_int_equal(load_fd(fd, &parsed, &pvh, &entry), 0);
    assert_true(pvh);
    assert_int_equal(entry, 0x101234);
}

/* The file has room for all of them: only the count itself is too large, or not. */
static void test_header_count(void **state)
{
    uint8_t image[64 + 65 * 56 + IMAGE_ELF_BYTES] = {0};
    memcpy(image, image_elf, sizeof(image_elf));
    memset(image + IMAGE_NOTE_HEADER, 0, 56);
    le_put(image + IMAGE_E_PHNUM, 64, 2);
    assert_int_equal(load(image, sizeof(image)), 0);
    le_put(image + IMAGE_E_PHNUM, 65, 2);
    assert_int_equal(load(image, sizeof(image)), -ENOEXEC);
    assert_non_null(strstr(err.text, "(e_phnum) is 65"));
}

static void test_note_too_large(void **state)
{
    uint8_t image[IMAGE_ELF_BYTES + ELF_NOTE_MAX] = {0};
    memcpy(image, image_elf, sizeof(image_elf));
    le_put(image + IMAGE_NOTE_HEADER + 32, ELF_NOTE_MAX + 1, 8);
    assert_true(load(image, sizeof(image)) < 0);
    assert_non_null(strstr(err.text, "PT_NOTE"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_golden, setup, teardown),
        cmocka_unit_test_setup_teardown(test_leaves_the_position, setup, teardown),
        cmocka_unit_test_setup_teardown(test_pieces, setup, teardown),
        cmocka_unit_test_setup_teardown(test_truncated, setup, teardown),
        cmocka_unit_test_setup_teardown(test_trailing, setup, teardown),
        cmocka_unit_test_setup_teardown(test_flips, setup, teardown),
        cmocka_unit_test_setup_teardown(test_changes, setup, teardown),
        cmocka_unit_test_setup_teardown(test_overlap, setup, teardown),
        cmocka_unit_test_setup_teardown(test_notes, setup, teardown),
        cmocka_unit_test_setup_teardown(test_second_note, setup, teardown),
        cmocka_unit_test_setup_teardown(test_header_count, setup, teardown),
        cmocka_unit_test_setup_teardown(test_note_too_large, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
