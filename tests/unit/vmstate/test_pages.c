/* Zero pages, runs of pages, and which pages may hold something. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/temp.h"
#include "vmstate/pages.h"

#define P GUEST_PAGE

static void test_every_bit_counts(void **state)
{
    uint8_t *page = aligned_alloc(P, P);
    assert_non_null(page);
    memset(page, 0, P);
    assert_true(pages_all_zero(page));
    for (size_t bit = 0; bit < P * 8u; bit++) {
        page[bit / 8] = (uint8_t)(1u << (bit % 8));
        if (pages_all_zero(page))
            fail_msg("bit %zu was not seen", bit);
        page[bit / 8] = 0;
    }
    memset(page, 0xff, P);
    assert_false(pages_all_zero(page));
    free(page);
}

/* Not aligned, and nothing behind the page is looked at. */
static void test_only_the_page_counts(void **state)
{
    uint8_t *bytes = malloc(P + 1);
    assert_non_null(bytes);
    memset(bytes, 0, P + 1);
    bytes[0] = 1;
    assert_true(pages_all_zero(bytes + 1));
    bytes[0] = 0;
    bytes[P] = 1;
    assert_true(pages_all_zero(bytes));
    free(bytes);
}

struct tell {
    char text[256]; /* "D first+count" and "Z first+count" */
    const uint8_t *base;
    size_t base_page;
    int fail_at, calls;
};

static int note(struct tell *t, char kind, uint64_t offset, uint64_t bytes, struct err *err)
{
    size_t n = strlen(t->text);
    snprintf(t->text + n, sizeof(t->text) - n, "%c%llu+%llu ", kind,
             (unsigned long long)(offset / P), (unsigned long long)(bytes / P));
    return ++t->calls == t->fail_at ? err_set(err, ENOSPC, "full") : 0;
}

static int on_pages(void *ctx, uint64_t offset, const uint8_t *data, size_t bytes, struct err *err)
{
    struct tell *t = ctx;
    assert_ptr_equal(data, t->base + offset - t->base_page * P);
    return note(t, 'D', offset, bytes, err);
}

static int on_zero(void *ctx, uint64_t offset, uint64_t bytes, struct err *err)
{
    return note(ctx, 'Z', offset, bytes, err);
}

static const struct page_sink_ops sink_ops = {.pages = on_pages, .zero = on_zero};

/* Pages 10.. as a picture: 'x' holds something, '.' is zero. */
static int tell(const char *picture, bool scan, bool spare, struct tell *t, struct pages_told *told,
                struct err *err)
{
    size_t count = strlen(picture);
    uint8_t *data = calloc(count, P);
    assert_non_null(data);
    for (size_t i = 0; i < count; i++)
        data[i * P + i] = picture[i] == 'x';
    t->base = data;
    t->base_page = 10;
    *told = (struct pages_told){0};
    struct page_sink sink = {.ops = &sink_ops, .ctx = t, .wants_zero_scan = scan};
    int rc = pages_tell(&sink, 10, count, data, spare, told, err);
    free(data);
    return rc;
}

static void test_runs(void **state)
{
    // clang-format off
    static const struct {
        const char *picture;
        bool scan, spare;
        const char *told;
        uint64_t pages, zero_pages;
    } rows[] = {
        {"",         true,  false, "",                               0, 0},
        {"x",        true,  false, "D10+1 ",                         1, 0},
        {".",        true,  false, "Z10+1 ",                         0, 1},
        {"xx..x",    true,  false, "D10+2 Z12+2 D14+1 ",             3, 2},
        {".x.x",     true,  false, "Z10+1 D11+1 Z12+1 D13+1 ",       2, 2},
        {"...x...",  true,  true,  "D13+1 ",                         1, 6},
        {"xx..x",    false, false, "D10+5 ",                         5, 0},
        {"....",     false, true,  "D10+4 ",                         4, 0},
    };
    // clang-format on
    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        struct tell t = {{0}};
        struct pages_told told;
        struct err err;
        assert_int_equal(tell(rows[i].picture, rows[i].scan, rows[i].spare, &t, &told, &err), 0);
        assert_string_equal(t.text, rows[i].told);
        assert_int_equal(told.pages, rows[i].pages);
        assert_int_equal(told.zero_pages, rows[i].zero_pages);
    }
}

static void test_a_sink_that_fails_is_asked_no_more(void **state)
{
    for (int at = 1; at <= 3; at++) {
        struct tell t = {.fail_at = at};
        struct pages_told told;
        struct err err = {0};
        assert_int_equal(tell("xx..x", true, false, &t, &told, &err), -ENOSPC);
        assert_int_equal(t.calls, at);
        assert_string_equal(err.text, "full");
    }
}

/* What pages_next says about [from, limit), as "begin-end ...". */
static const char *ask(const struct guest *g, size_t from, size_t limit)
{
    static char text[256];
    size_t n = 0, begin, end;
    text[0] = 0;
    while (from < limit) {
        struct err err = {0};
        assert_int_equal(pages_next(g, from, limit, &begin, &end, &err), 0);
        if (begin == limit)
            break;
        assert_in_range(begin, from, limit);
        assert_in_range(end, begin + 1, limit);
        n += (size_t)snprintf(text + n, sizeof(text) - n, "%zu-%zu ", begin, end);
        from = end;
    }
    return text;
}

static void test_holes_of_a_memfd(void **state)
{
    static const struct guest_ops ops = {0};
    int fd = memfd_create("pages", MFD_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, 1000 * (off_t)P), 0);
    struct guest g = {.ops = &ops, .ram_bytes = 1000 * (uint64_t)P, .ram_fd = fd};
    assert_string_equal(ask(&g, 0, 1000), "");
    assert_int_equal(pwrite(fd, "x", 1, 5 * (off_t)P), 1);
    assert_int_equal(pwrite(fd, "xx", 2, 8 * (off_t)P - 1), 2);
    assert_int_equal(pwrite(fd, "x", 1, 999 * (off_t)P), 1);
    assert_string_equal(ask(&g, 0, 1000), "5-6 7-9 999-1000 ");
    assert_string_equal(ask(&g, 6, 8), "7-8 ");
    assert_string_equal(ask(&g, 8, 999), "8-9 ");
    assert_string_equal(ask(&g, 9, 999), "");
    close(fd);
}

/* A file that cannot be asked, or none: everything may hold something. */
static void test_no_holes_known(void **state)
{
    static const struct guest_ops ops = {0};
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    struct guest g = {.ops = &ops, .ram_bytes = 100 * (uint64_t)P, .ram_fd = ends[0]};
    assert_string_equal(ask(&g, 0, 100), "0-100 ");
    g.ram_fd = -1;
    assert_string_equal(ask(&g, 3, 70), "3-70 ");
    close(ends[0]);
    close(ends[1]);
}

/* A clone: its RAM maps an image privately. (Not a memfd: that fills its holes when they are read,
 * and so would know by itself what the pagemap is asked for.) */
struct clone {
    struct guest guest;
    int image, pagemap;
};

static int sparse_file(off_t bytes)
{
    char path[256];
    assert_true(temp_dir(path, sizeof(path)));
    char file[300];
    snprintf(file, sizeof(file), "%s/image", path);
    int fd = open(file, O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(unlink(file), 0);
    assert_int_equal(rmdir(path), 0);
    assert_int_equal(ftruncate(fd, bytes), 0);
    return fd;
}

/* Its image knows by its holes. */
static void image_next(void *ctx, size_t from, size_t limit, size_t *begin, size_t *end)
{
    const struct clone *c = ctx;
    pages_next_in_file(c->image, from, limit, begin, end);
}

static int on_next_private(void *ctx, size_t from, size_t limit, size_t *begin, size_t *end,
                           struct err *err)
{
    const struct clone *c = ctx;
    const struct pages_image image = {.next = image_next, .ctx = ctx};
    return pages_next_private(&c->guest, &image, c->pagemap, from, limit, begin, end, err);
}

static void test_pages_that_left_the_image(void **state)
{
    static const struct guest_ops ops = {.ram_next = on_next_private};
    struct clone c = {.image = sparse_file(2000 * (off_t)P),
                      .pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC)};
    if (c.pagemap < 0 || lseek(c.image, 0, SEEK_DATA) >= 0) {
        print_message("no /proc, or a file system without holes\n");
        skip();
    }
    assert_int_equal(pwrite(c.image, "x", 1, 1000 * (off_t)P), 1);
    assert_int_equal(pwrite(c.image, "x", 1, 1500 * (off_t)P), 1);
    uint8_t *ram = mmap(NULL, 2000 * (size_t)P, PROT_READ | PROT_WRITE, MAP_PRIVATE, c.image, 0);
    assert_true(ram != MAP_FAILED);
    c.guest = (struct guest){
        .ops = &ops, .ctx = &c, .ram = ram, .ram_bytes = 2000 * (uint64_t)P, .ram_fd = -1};
    assert_string_equal(ask(&c.guest, 0, 2000), "1000-1001 1500-1501 ");
    static const size_t written[] = {3, 4, 5, 511, 512, 1000, 1700, 1999};
    for (size_t i = 0; i < sizeof(written) / sizeof(*written); i++)
        ram[written[i] * P] = 1;
    assert_int_equal(ram[1500 * (size_t)P], 'x'); /* read: it is still the image's */
    assert_string_equal(ask(&c.guest, 0, 2000), "3-6 511-513 1000-1001 1500-1501 "
                                                "1700-1701 1999-2000 ");
    assert_string_equal(ask(&c.guest, 4, 1000), "4-6 511-513 ");
    close(c.pagemap);
    c.pagemap = -1;
    size_t begin, end;
    struct err err = {0};
    assert_int_equal(pages_next(&c.guest, 0, 2000, &begin, &end, &err), -EBADF);
    munmap(ram, 2000 * (size_t)P);
    close(c.image);
}

struct answer {
    size_t begin, end;
    int rc;
};

static int on_next(void *ctx, size_t from, size_t limit, size_t *begin, size_t *end,
                   struct err *err)
{
    const struct answer *a = ctx;
    *begin = a->begin;
    *end = a->end;
    return a->rc ? err_set(err, -a->rc, "no") : 0;
}

/* An adapter's answers are not trusted: a wrong one would be read behind the end, or for ever. */
static void test_answers_of_an_adapter(void **state)
{
    static const struct guest_ops ops = {.ram_next = on_next};
    // clang-format off
    static const struct {
        struct answer answer;
        int rc;
    } rows[] = {
        {{10, 20, 0},      0},
        {{12, 13, 0},      0},
        {{20, 0, 0},       0}, /* nothing: the end means nothing */
        {{9, 12, 0},       -EINVAL},
        {{12, 12, 0},      -EINVAL},
        {{12, 11, 0},      -EINVAL},
        {{12, 21, 0},      -EINVAL},
        {{21, 22, 0},      -EINVAL},
        {{10, 20, -EIO},   -EIO},
    };
    // clang-format on
    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        struct answer a = rows[i].answer;
        struct guest g = {.ops = &ops, .ctx = &a, .ram_bytes = 100 * (uint64_t)P, .ram_fd = -1};
        size_t begin, end;
        struct err err = {0};
        assert_int_equal(pages_next(&g, 10, 20, &begin, &end, &err), rows[i].rc);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_bit_counts),
        cmocka_unit_test(test_only_the_page_counts),
        cmocka_unit_test(test_runs),
        cmocka_unit_test(test_a_sink_that_fails_is_asked_no_more),
        cmocka_unit_test(test_holes_of_a_memfd),
        cmocka_unit_test(test_no_holes_known),
        cmocka_unit_test(test_pages_that_left_the_image),
        cmocka_unit_test(test_answers_of_an_adapter),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
