/*
 * The rest of memory: filled once, then read slowly all the time.
 *   fill=random|zero   written at the start
 *   fill=half          the same, the second half of each page with one word: packs to a half
 *   fill=keep          never written: each page must stay as it was when it was first seen
 */
#include "dirty.h"

#define GOLDEN 0x9e3779b97f4a7c15ul

enum fill { FILL_KEEP, FILL_ZERO, FILL_RANDOM, FILL_HALF };

static struct {
    struct area area;
    struct pace pace;
    enum fill fill;
    uint64_t *sums; /* FILL_KEEP: of each page */
    uint64_t at;
    bool seen_all;
} sweep;

static uint64_t sweep_sum(const uint64_t *p)
{
    uint64_t sum = 0;

    for (unsigned i = 0; i < WORDS; i++)
        sum = (sum ^ p[i]) * GOLDEN + i;
    return sum;
}

static uint64_t sweep_word(uint64_t page, unsigned i)
{
    if (sweep.fill == FILL_HALF && i > WORDS / 2)
        i = WORDS / 2;
    return sweep.fill == FILL_ZERO ? 0 : random_mix(~dirty_seed + page * WORDS + i);
}

static void sweep_check_sum(uint64_t page)
{
    uint64_t sum = sweep_sum(area_page(&sweep.area, page));

    if (sweep.seen_all && sum != sweep.sums[page])
        life_error(&dirty_life, "kept page=%lu addr=0x%lx changed", page,
                   (uintptr_t)area_page(&sweep.area, page));
    sweep.sums[page] = sum;
}

static void sweep_check(uint64_t page)
{
    const uint64_t *p = area_page(&sweep.area, page);
    unsigned bad = 0, first = 0;

    if (sweep.fill == FILL_KEEP) {
        sweep_check_sum(page);
        return;
    }
    for (unsigned i = WORDS; i-- > 0;) {
        if (p[i] == sweep_word(page, i))
            continue;
        first = i;
        bad++;
    }
    if (bad)
        life_error(&dirty_life,
                   "filled page=%lu addr=0x%lx bad_words=%u first=%u have=0x%lx want=0x%lx", page,
                   (uintptr_t)p, bad, first, p[first], sweep_word(page, first));
}

void sweep_step(void)
{
    sweep_check(sweep.at);
    sweep.pace.done++;
    if (++sweep.at == sweep.area.pages) {
        sweep.at = 0;
        sweep.seen_all = true;
    }
}

static void sweep_write_all(void)
{
    for (uint64_t page = 0; page < sweep.area.pages; page++) {
        uint64_t *p = area_page(&sweep.area, page);

        for (unsigned i = 0; i < WORDS; i++)
            p[i] = sweep_word(page, i);
    }
}

/* fillmem=all: what there is, less the table of sums that FILL_KEEP needs. */
void sweep_begin(void)
{
    uint64_t bytes = cmdline_number("fillmem", 0);
    char word[16] = "";
    struct mem_run table;

    if (cmdline_word("fillmem", word, sizeof(word)) && text_same(word, "all"))
        bytes = UINT64_MAX;
    if (!bytes)
        return;
    word[0] = 0;
    cmdline_word("fill", word, sizeof(word));
    sweep.fill = text_same(word, "zero")   ? FILL_ZERO
                 : text_same(word, "half") ? FILL_HALF
                                           : FILL_RANDOM;
    if (text_same(word, "keep")) {
        uint64_t most = bytes < mem_total() ? bytes : mem_total();

        sweep.fill = FILL_KEEP;
        if (mem_take(most / PAGE * 8, &table, 1) != 1 || table.bytes < most / PAGE * 8) {
            say("FAIL no room for the sums of %lu pages", most / PAGE);
            return;
        }
        sweep.sums = (uint64_t *)(uintptr_t)table.addr;
    }
    sweep.pace.rate = cmdline_number("sweep", 2000);
    area_take(&sweep.area, "fill", bytes);
    if (sweep.fill != FILL_KEEP)
        sweep_write_all();
}

void sweep_check_all(void)
{
    for (uint64_t i = 0; i < sweep.area.pages; i++)
        sweep_step();
}

void sweep_break(void)
{
    if (sweep.area.pages)
        area_page(&sweep.area, sweep.area.pages / 2)[77] ^= 1ul << 33;
}

uint64_t sweep_pages(void)
{
    return sweep.area.pages;
}

struct pace *sweep_pace(void)
{
    return &sweep.pace;
}
