/*
 * The working set.
 *
 * A page holds a sequence of words that follows from the seed, the page and the pass that wrote
 * it: a page that is lost, old, or in another's place cannot look right. It is checked whole
 * before it is written again.
 */
#include "dirty.h"

#define GOLDEN 0x9e3779b97f4a7c15ul

static struct {
    struct area area;
    struct pace pace;
    uint64_t stride;  /* from one page to the next: shares no factor with the number of pages */
    uint64_t at;      /* the page that comes next */
    uint64_t in_pass; /* how many of this pass are done */
    uint64_t pass;
} work;

static uint64_t work_key(uint64_t page, uint64_t pass)
{
    return random_mix(dirty_seed ^ random_mix(page << 32 ^ pass));
}

static void work_write(uint64_t page, uint64_t pass)
{
    volatile uint64_t *p = area_page(&work.area, page);
    uint64_t word = work_key(page, pass);

    for (unsigned i = 0; i < WORDS; i++, word += GOLDEN)
        p[i] = word;
}

static void work_tell(const uint64_t *p, uint64_t page, uint64_t pass)
{
    uint64_t word = work_key(page, pass);
    unsigned first = WORDS, bad = 0;

    for (unsigned i = 0; i < WORDS; i++) {
        if (p[i] == word + i * GOLDEN)
            continue;
        first = first < i ? first : i;
        bad++;
    }
    if (!bad) {
        life_error(&dirty_life, "page=%lu addr=0x%lx was wrong and is right when read again", page,
                   (uintptr_t)p);
        return;
    }
    life_error(&dirty_life,
               "page=%lu addr=0x%lx pass=%lu bad_words=%u first=%u have=0x%lx want=0x%lx%s", page,
               (uintptr_t)p, pass, bad, first, p[first], word + first * GOLDEN,
               pass && p[0] == work_key(page, pass - 1) ? " (the pass before)" : "");
}

static void work_check(uint64_t page, uint64_t pass)
{
    const uint64_t *p = area_page(&work.area, page);
    uint64_t word = work_key(page, pass), wrong = 0;

    for (unsigned i = 0; i < WORDS; i++, word += GOLDEN)
        wrong |= p[i] ^ word;
    if (wrong)
        work_tell(p, page, pass);
}

static void work_advance(void)
{
    work.at = (work.at + work.stride) % work.area.pages;
    if (++work.in_pass == work.area.pages) {
        work.in_pass = 0;
        work.pass++;
    }
}

void work_step(void)
{
    work_check(work.at, work.pass);
    work_write(work.at, work.pass + 1);
    work.pace.done++;
    work_advance();
}

/* Every page once, without writing: what this pass has done holds the next pass already. */
void work_check_all(void)
{
    uint64_t done = work.in_pass;

    for (uint64_t i = 0; i < work.area.pages; i++) {
        work_check(work.at, work.pass + (i >= work.area.pages - done));
        work.at = (work.at + work.stride) % work.area.pages;
    }
}

static uint64_t common_factor(uint64_t a, uint64_t b)
{
    while (b) {
        uint64_t r = a % b;

        a = b;
        b = r;
    }
    return a;
}

void work_begin(void)
{
    uint64_t bytes = cmdline_number("mem", cmdline_number("pages", 4096) * PAGE);
    char rate[16] = "10000";

    cmdline_word("rate", rate, sizeof(rate));
    work.pace.rate = text_same(rate, "max") ? UINT64_MAX : cmdline_number("rate", 10000);
    area_take(&work.area, "working set", bytes);
    work.stride = cmdline_number("stride", 1);
    while (work.area.pages && common_factor(work.stride, work.area.pages) != 1)
        work.stride++;
    for (uint64_t page = 0; page < work.area.pages; page++)
        work_write(page, 0);
}

void work_break(void)
{
    if (work.area.pages)
        area_page(&work.area, work.area.pages / 2)[77] ^= 1ul << 33;
}

uint64_t work_pages(void)
{
    return work.area.pages;
}

uint64_t work_pass(void)
{
    return work.pass;
}

struct pace *work_pace(void)
{
    return &work.pace;
}
