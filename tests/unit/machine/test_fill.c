/* Memory that is filled while it is used: by the process and by the kernel for it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "machine/fill.h"
#include "machine/uffd.h"

#define RAM (32ull << 20)
#define CHUNKS (RAM / FILL_CHUNK)

/* Page n of RAM is filled with its number and 1; every eighth is zero. */
struct content {
    struct mem mem;
    struct bitmap chunks;
    struct fill_plan plan;
    struct fill fill;
    uint64_t bad; /* RAM offset that cannot be had; RAM for none */
    int gate;     /* readable when pieces may be given; -1 for always */
    atomic_int done;
};

static uint8_t byte_of(uint64_t offset)
{
    uint64_t page = offset / MEM_PAGE;
    return page % 8 == 7 ? 0 : (uint8_t)(page % 251 + 1);
}

static int piece(void *ctx, uint64_t offset, uint64_t most, uint8_t *to, uint64_t *bytes,
                 bool *zero, struct err *err)
{
    struct content *c = ctx;
    struct pollfd gate = {.fd = c->gate, .events = POLLIN};
    if (c->gate >= 0)
        poll(&gate, 1, -1);
    if (c->bad >= offset && c->bad < offset + most)
        return err_set(err, EIO, "page %llu is bad", (unsigned long long)(c->bad / MEM_PAGE));
    *zero = byte_of(offset) == 0;
    *bytes = 0;
    while (*bytes < most && (byte_of(offset + *bytes) == 0) == *zero) {
        if (!*zero)
            memset(to + *bytes, byte_of(offset + *bytes), MEM_PAGE);
        *bytes += MEM_PAGE;
    }
    return 0;
}

static void failed(void *ctx, const struct err *err)
{
    _exit(strcmp(err->text, "page 5000 is bad") == 0 ? 42 : 43);
}

static void done(void *ctx, const struct fill *f)
{
    struct content *c = ctx;
    atomic_store(&c->done, 1);
}

static void begin(struct content *c, bool lazily)
{
    struct err err = {0};
    *c = (struct content){.bad = RAM, .gate = -1};
    assert_int_equal(mem_init_from(&c->mem, RAM, NULL, 0, &err), 0);
    assert_int_equal(bitmap_init(&c->chunks, CHUNKS, &err), 0);
    bitmap_set_range(&c->chunks, 1, CHUNKS - 2); /* all but the ends */
    bitmap_clear(&c->chunks, 9);
    int uffd = -1;
    if (lazily) {
        CLEAN(clean_fd) int device = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);
        uffd = uffd_open(device, &err);
        if (uffd < 0) {
            print_message("%s\n", err.text);
            bitmap_fini(&c->chunks);
            mem_fini(&c->mem);
            skip();
        }
    }
    c->plan = (struct fill_plan){
        .chunks = &c->chunks,
        .uffd = uffd,
        .source = {.piece = piece, .failed = failed, .done = done, .ctx = c},
    };
}

static void end(struct content *c)
{
    fill_stop(&c->fill);
    bitmap_fini(&c->chunks);
    mem_fini(&c->mem);
}

static void check_all(const struct content *c)
{
    for (uint64_t at = 0; at < RAM; at += MEM_PAGE) {
        uint64_t chunk = at / FILL_CHUNK;
        bool filled = chunk > 0 && chunk < CHUNKS - 1 && chunk != 9;
        assert_int_equal(c->mem.base[at + 17], filled ? byte_of(at) : 0);
    }
}

static void all_of_it_comes(void **state)
{
    struct content c;
    struct err err = {0};
    begin(&c, true);
    assert_int_equal(fill_start(&c.fill, &c.mem, &c.plan, &err), 0);
    assert_int_equal(c.mem.base[20 * FILL_CHUNK + 3], byte_of(20 * FILL_CHUNK));
    check_all(&c);
    while (!atomic_load(&c.done))
        poll(NULL, 0, 1);
    fill_stop(&c.fill);
    check_all(&c);
    end(&c);
}

/* read(2) into and write(2) out of memory that is not there: the kernel waits for it, too. */
static void the_kernel_waits_for_it(void **state)
{
    struct content c;
    struct err err = {0};
    uint8_t byte = 0;
    int ends[2], gate[2];
    assert_int_equal(pipe(ends), 0);
    assert_int_equal(pipe(gate), 0);
    begin(&c, true);
    c.gate = gate[0];
    assert_int_equal(fill_start(&c.fill, &c.mem, &c.plan, &err), 0);
    pid_t opener = fork(); /* the one who opens the gate must not be the one who waits */
    if (opener == 0) {
        poll(NULL, 0, 20);
        _exit(write(gate[1], "x", 1) != 1);
    }
    assert_int_equal(write(ends[1], c.mem.base + 12 * FILL_CHUNK, 1), 1);
    assert_int_equal(read(ends[0], &byte, 1), 1);
    assert_int_equal(byte, byte_of(12 * FILL_CHUNK));
    assert_int_equal(write(ends[1], "y", 1), 1);
    assert_int_equal(read(ends[0], c.mem.base + 30 * FILL_CHUNK + 5, 1), 1);
    assert_int_equal(c.mem.base[30 * FILL_CHUNK + 5], 'y');
    assert_int_equal(c.mem.base[30 * FILL_CHUNK + 6], byte_of(30 * FILL_CHUNK));
    waitpid(opener, NULL, 0);
    end(&c);
    for (int i = 0; i < 2; i++) {
        close(ends[i]);
        close(gate[i]);
    }
}

static void it_may_be_stopped_in_the_middle(void **state)
{
    for (unsigned i = 0; i < 20; i++) {
        struct content c;
        struct err err = {0};
        begin(&c, true);
        assert_int_equal(fill_start(&c.fill, &c.mem, &c.plan, &err), 0);
        assert_int_equal(c.mem.base[i * FILL_CHUNK + 3],
                         i > 0 && i != 9 ? byte_of(i * FILL_CHUNK) : 0);
        end(&c);
    }
}

/* What was given back reads as zero while the rest is still to come. */
static void what_is_given_back_is_zero(void **state)
{
    struct content c;
    struct err err = {0};
    begin(&c, true);
    uint8_t *page = c.mem.base + 2 * FILL_CHUNK;
    assert_int_equal(fill_start(&c.fill, &c.mem, &c.plan, &err), 0);
    assert_int_equal(*page, byte_of(2 * FILL_CHUNK));
    assert_int_equal(madvise(page, MEM_PAGE, MADV_DONTNEED), 0);
    assert_int_equal(*page, 0);
    assert_int_equal(page[MEM_PAGE], byte_of(2 * FILL_CHUNK + MEM_PAGE));
    end(&c);
}

/* Nobody sees zeros instead, and nobody waits for ever. */
static void what_cannot_be_had_ends_the_process(void **state)
{
    struct content c;
    struct err err = {0};
    int status;
    begin(&c, true); /* skips here where it cannot be done */
    clean_fd(&c.plan.uffd);
    end(&c);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        begin(&c, true);
        c.bad = 5000 * (uint64_t)MEM_PAGE;
        if (fill_start(&c.fill, &c.mem, &c.plan, &err) < 0)
            _exit(44);
        volatile uint8_t seen = c.mem.base[c.bad];
        _exit(seen ? 45 : 46);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 42);
}

static void without_userfaultfd_it_is_filled_first(void **state)
{
    struct content c;
    struct err err = {0};
    begin(&c, false);
    assert_int_equal(fill_start(&c.fill, &c.mem, &c.plan, &err), 0);
    assert_int_equal(atomic_load(&c.done), 1);
    check_all(&c);
    end(&c);
    begin(&c, false);
    c.bad = 5000 * (uint64_t)MEM_PAGE;
    assert_int_equal(fill_start(&c.fill, &c.mem, &c.plan, &err), -EIO);
    end(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_of_it_comes),
        cmocka_unit_test(the_kernel_waits_for_it),
        cmocka_unit_test(it_may_be_stopped_in_the_middle),
        cmocka_unit_test(what_is_given_back_is_zero),
        cmocka_unit_test(what_cannot_be_had_ends_the_process),
        cmocka_unit_test(without_userfaultfd_it_is_filled_first),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
