/* See fake_guest.h. */
#include "tests/sim/fake_guest.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

uint64_t fake_guest_random(struct fake_guest *g, uint64_t below)
{
    g->random += 0x9e3779b97f4a7c15u; /* splitmix64 */
    uint64_t z = g->random;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return below ? (z ^ (z >> 31)) % below : 0;
}

unsigned fake_guest_consumers(const struct fake_guest *g)
{
    unsigned n = 0;
    for (unsigned i = 0; i < FAKE_CONSUMERS; i++)
        n += g->attached[i];
    return n;
}

static void mark_late(struct fake_guest *g)
{
    bitmap_set(&g->written, g->unmarked);
    g->unmarked = g->pages;
}

static void fill(struct fake_guest *g, size_t page)
{
    uint8_t *at = g->ram + page * GUEST_PAGE;
    uint64_t value = fake_guest_random(g, UINT64_MAX);
    switch (fake_guest_random(g, 4)) {
    case 0:
        memset(at, 0, GUEST_PAGE);
        break;
    case 1:
        memset(at, (int)value, GUEST_PAGE);
        break;
    default:
        memcpy(at + fake_guest_random(g, GUEST_PAGE / 8) * 8, &value, 8);
    }
}

void fake_guest_write(struct fake_guest *g)
{
    size_t page = g->set_first + fake_guest_random(g, g->set_pages);
    unsigned who = (unsigned)fake_guest_random(g, 16);
    if (who < 12) {
        fill(g, page);
        if (fake_guest_consumers(g))
            bitmap_set(&g->log, page);
        return;
    }
    mark_late(g);
    g->unmarked = page;
    if (who == 15)
        fallocate(g->guest.ram_fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                  (off_t)page * GUEST_PAGE, GUEST_PAGE);
    else
        fill(g, page);
}

static void harvest(struct fake_guest *g)
{
    for (size_t w = 0; w < g->log.nwords; w++) {
        uint64_t bits = g->log.words[w];
        bitmap_or_word(&g->unarmed, w, bits);
        bits |= bitmap_take_word(&g->written, w);
        for (unsigned i = 0; i < FAKE_CONSUMERS; i++)
            if (g->attached[i])
                bitmap_or_word(&g->consumers[i], w, bits);
    }
}

/* As the real one it works on whole words. */
static void arm(struct fake_guest *g, size_t first, size_t count)
{
    for (size_t w = first / 64; count && w <= (first + count - 1) / 64; w++)
        g->log.words[w] &= ~bitmap_take_word(&g->unarmed, w);
}

static void rival_takes(struct fake_guest *g, size_t word)
{
    uint64_t bits = bitmap_take_word(g->rival_pages, word);
    arm(g, word * 64, 64);
    for (; bits; bits &= bits - 1) {
        size_t at = (word * 64 + (size_t)__builtin_ctzll(bits)) * GUEST_PAGE;
        memcpy(g->rival_image + at, g->ram + at, GUEST_PAGE);
    }
}

static void rival_races(struct fake_guest *g)
{
    if (fake_guest_random(g, 3) == 0)
        harvest(g);
    for (unsigned i = 0; i < 4; i++)
        rival_takes(g, fake_guest_random(g, g->log.nwords));
}

void fake_guest_race(struct fake_guest *g)
{
    if (++g->race_count == g->flag_at)
        atomic_store(&g->flag, true);
    unsigned writes = g->running && g->races ? (unsigned)fake_guest_random(g, g->races + 1) : 0;
    for (unsigned i = 0; i < writes; i++) {
        if (g->rival && fake_guest_random(g, 2))
            rival_races(g);
        fake_guest_write(g);
    }
    if (g->unmarked < g->pages && fake_guest_random(g, 2))
        mark_late(g);
}

void fake_guest_spend(struct fake_guest *g, uint64_t ns)
{
    g->now_ns += ns;
    if (!g->running)
        return;
    g->owed += g->pages_per_s * ns;
    for (; g->owed >= 1000000000u; g->owed -= 1000000000u)
        fake_guest_write(g);
}

bool fake_guest_fails(struct fake_guest *g, enum fake_op op)
{
    fake_guest_spend(g, g->costs.call[op]);
    return ++g->calls[op] == g->fail_at && g->fail_op == op;
}

static int begin_op(struct fake_guest *g, enum fake_op op, struct err *err)
{
    fake_guest_race(g);
    return fake_guest_fails(g, op) ? err_set(err, EIO, "fault %u", (unsigned)op) : 0;
}

static int fake_pause(void *ctx, struct err *err)
{
    struct fake_guest *g = ctx;
    int rc = begin_op(g, FAKE_PAUSE, err);
    if (rc < 0)
        return rc;
    if (!g->running)
        return err_set(err, EINVAL, "paused twice");
    mark_late(g);
    g->running = false;
    return 0;
}

static int fake_resume(void *ctx, struct err *err)
{
    struct fake_guest *g = ctx;
    int rc = begin_op(g, FAKE_RESUME, err);
    if (rc < 0)
        return rc;
    if (g->running)
        return err_set(err, EINVAL, "resumed twice");
    memcpy(g->before, g->ram, g->pages * GUEST_PAGE);
    g->running = true;
    fake_guest_race(g);
    return 0;
}

/* Saving completes what was pending, and that writes to memory. */
static int fake_save_state(void *ctx, struct buf *out, struct err *err)
{
    struct fake_guest *g = ctx;
    int rc = begin_op(g, FAKE_SAVE_STATE, err);
    if (rc < 0)
        return rc;
    if (g->running)
        return err_set(err, EINVAL, "state of a guest that runs");
    for (unsigned i = 0; i < g->races; i++)
        fake_guest_write(g);
    mark_late(g);
    g->saves++;
    return buf_append_le(out, g->saves, 4) < 0 ? err_set(err, ENOMEM, "no room for state") : 0;
}

static int fake_attach(void *ctx, struct bitmap **pages, struct err *err)
{
    struct fake_guest *g = ctx;
    int rc = begin_op(g, FAKE_ATTACH, err);
    unsigned i = 0;
    while (i < FAKE_CONSUMERS && g->attached[i])
        i++;
    if (rc == 0 && i == FAKE_CONSUMERS)
        rc = err_set(err, EBUSY, "too many consumers");
    if (rc == 0)
        rc = bitmap_init(&g->consumers[i], g->pages, err);
    if (rc < 0)
        return rc;
    if (fake_guest_consumers(g) == 0) {
        bitmap_set_range(&g->log, 0, g->pages);
        bitmap_set_range(&g->unarmed, 0, g->pages);
    }
    bitmap_set_range(&g->consumers[i], 0, g->pages);
    g->attached[i] = true;
    *pages = &g->consumers[i];
    fake_guest_race(g);
    return 0;
}

static void fake_detach(void *ctx, struct bitmap *pages)
{
    struct fake_guest *g = ctx;
    fake_guest_race(g);
    for (unsigned i = 0; i < FAKE_CONSUMERS; i++)
        if (&g->consumers[i] == pages)
            g->attached[i] = false;
    bitmap_fini(pages);
}

static int fake_collect(void *ctx, struct err *err)
{
    struct fake_guest *g = ctx;
    int rc = begin_op(g, FAKE_COLLECT, err);
    if (rc < 0)
        return rc;
    harvest(g);
    fake_guest_race(g);
    return 0;
}

static int fake_rearm(void *ctx, size_t first, size_t count, struct err *err)
{
    struct fake_guest *g = ctx;
    int rc = begin_op(g, FAKE_REARM, err);
    if (rc == 0 && (first >= g->pages || count > g->pages - first))
        rc = err_set(err, EINVAL, "re-armed pages behind the end");
    if (rc < 0)
        return rc;
    arm(g, first, count);
    fake_guest_race(g);
    return 0;
}

static uint64_t fake_now(void *ctx)
{
    return ((struct fake_guest *)ctx)->now_ns;
}

static const struct guest_ops fake_ops = {
    .pause = fake_pause,
    .resume = fake_resume,
    .save_state = fake_save_state,
    .dirty_attach = fake_attach,
    .dirty_collect = fake_collect,
    .dirty_rearm = fake_rearm,
    .dirty_detach = fake_detach,
    .now_ns = fake_now,
};

static void *must(void *p)
{
    if (!p || p == MAP_FAILED)
        _exit(99); /* no memory for a test is no result of it */
    return p;
}

static void make_bitmap(struct bitmap *b, size_t bits)
{
    struct err err;
    if (bitmap_init(b, bits, &err) < 0)
        must(NULL);
}

void fake_guest_init(struct fake_guest *g, size_t pages, uint64_t seed)
{
    size_t bytes = pages * GUEST_PAGE;
    *g = (struct fake_guest){
        .pages = pages, .random = seed, .running = true, .set_pages = pages, .unmarked = pages};
    int fd = memfd_create("fake-guest", MFD_CLOEXEC);
    if (fd < 0 || ftruncate(fd, (off_t)bytes) < 0)
        must(NULL);
    g->ram = must(mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
    g->before = must(calloc(pages, GUEST_PAGE));
    make_bitmap(&g->log, pages);
    make_bitmap(&g->unarmed, pages);
    make_bitmap(&g->written, pages);
    g->guest =
        (struct guest){.ops = &fake_ops, .ctx = g, .ram = g->ram, .ram_bytes = bytes, .ram_fd = fd};
}

void fake_guest_fini(struct fake_guest *g)
{
    for (unsigned i = 0; i < FAKE_CONSUMERS; i++)
        if (g->attached[i])
            bitmap_fini(&g->consumers[i]);
    bitmap_fini(&g->log);
    bitmap_fini(&g->unarmed);
    bitmap_fini(&g->written);
    munmap(g->ram, g->pages * GUEST_PAGE);
    close(g->guest.ram_fd);
    free(g->before);
    free(g->rival_image);
}

void fake_guest_rival_start(struct fake_guest *g)
{
    struct err err;
    if (fake_attach(g, &g->rival_pages, &err) < 0)
        must(NULL);
    g->rival_image = must(calloc(g->pages, GUEST_PAGE));
    g->rival = true;
}

bool fake_guest_rival_is_right(struct fake_guest *g)
{
    mark_late(g);
    harvest(g);
    for (size_t w = 0; w < g->log.nwords; w++)
        rival_takes(g, w);
    return memcmp(g->rival_image, g->ram, g->pages * GUEST_PAGE) == 0;
}
