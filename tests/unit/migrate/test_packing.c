/* Whether pages go packed: rates in a table, and whole migrations over connections that change. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "migrate/packing.h"

#define MB 1000000ull
#define FRAME (1ull << 20)
#define SECOND 1000000000ull

// clang-format off
static const struct {
    const char *what;
    struct packing_rates rates;
    unsigned demand;
    bool promises, pays;
} rows[] = {
    {"nothing is known",                         {0},                                1250, false, true},
    {"only the link is known",                   {125 * MB, 0, 0},                   1250, false, true},
    {"only the packing is known",                {0, 400 * MB, 300},                 1250, false, true},
    {"1 Gbit/s, packs to a third",               {125 * MB, 400 * MB, 330},          1250, true,  true},
    {"1 Gbit/s, packs to a half",                {125 * MB, 400 * MB, 500},          1250, true,  true},
    {"1 Gbit/s, packs to nine tenths",           {125 * MB, 400 * MB, 900},          1250, false, true},
    {"1 Gbit/s, cannot be packed",               {125 * MB, 400 * MB, 1000},         1250, false, true},
    {"10 Gbit/s is faster than packing",         {1250 * MB, 400 * MB, 100},         1250, false, true},
    {"10 Gbit/s, four threads that pack faster", {1250 * MB, 1800 * MB, 300},        1250, true,  true},
    {"... after a guess that was wrong",         {1250 * MB, 1800 * MB, 300},        2500, false, true},
    {"a tenth faster",                           {400 * MB, 440 * MB, 100},          1250, false, true},
    {"packs to nothing at all",                  {125 * MB, 400 * MB, 0},            1250, true,  true},
    {"absurd rates",                             {UINT64_MAX, UINT64_MAX, UINT32_MAX}, 1250, false, true},
    {"was faster plainly",                       {125 * MB, 400 * MB, 300, 120 * MB, 100 * MB}, 1250, true, false},
    {"is as fast plainly",                       {125 * MB, 400 * MB, 300, 120 * MB, 120 * MB}, 1250, true, false},
    {"is faster",                                {125 * MB, 400 * MB, 300, 120 * MB, 130 * MB}, 1250, true, true},
    {"was never plain",                          {125 * MB, 400 * MB, 300, 0, 130 * MB},        1250, true, true},
};
// clang-format on

static void decisions(void **state)
{
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        if (packing_promises(&rows[i].rates, rows[i].demand) != rows[i].promises)
            fail_msg("%s: promises, not %d", rows[i].what, rows[i].promises);
        if (packing_pays(&rows[i].rates) != rows[i].pays)
            fail_msg("%s: pays, not %d", rows[i].what, rows[i].pays);
    }
}

/* A connection that takes so much a second, and threads that pack so much of it to so little;
 * `real` is what they pack when everybody else works, too. */
struct world {
    uint64_t link, pack;
    unsigned permille;
    uint64_t real;
};

struct run {
    struct packing p;
    uint64_t now_ns, packed, plain;
};

/* One frame goes at the pace of the slower of the two. */
static void step(struct run *r, const struct world *w)
{
    bool packed = packing_next(&r->p);
    uint64_t bytes = packed ? FRAME * w->permille / 1000 : FRAME;
    uint64_t link_ns = bytes * SECOND / w->link;
    uint64_t pack_ns = packed ? FRAME * SECOND / (w->real ? w->real : w->pack) : 0;
    uint64_t limit_ns = r->p.limit ? bytes * SECOND / r->p.limit : 0;
    uint64_t wire_ns = limit_ns > link_ns ? limit_ns : link_ns;
    r->now_ns += wire_ns > pack_ns ? wire_ns : pack_ns;
    if (packed)
        packing_note_packed(&r->p, FRAME, bytes, FRAME * SECOND / w->pack);
    packing_note_sent(&r->p, FRAME, bytes, link_ns, r->now_ns);
    r->packed += packed;
    r->plain += !packed;
}

static void go(struct run *r, const struct world *w, unsigned frames)
{
    r->packed = r->plain = 0;
    for (unsigned i = 0; i < frames; i++)
        step(r, w);
}

static void begin(struct run *r, enum packing_mode mode, uint64_t limit)
{
    *r = (struct run){.now_ns = 5};
    packing_init(&r->p, mode, 1, limit, r->now_ns);
}

/* It follows the connection, whichever way that changes. */
static void it_is_decided_anew(void **state)
{
    const struct world slow = {125 * MB, 400 * MB, 300}, fast = {3000 * MB, 400 * MB, 300};
    const struct world full = {125 * MB, 400 * MB, 1000};
    struct run r;
    begin(&r, PACKING_AUTO, 0);
    go(&r, &fast, 2000);
    assert_in_range(r.packed, 2, 60);
    assert_false(r.p.on);
    go(&r, &slow, 2000);
    assert_true(r.p.on);
    assert_true(r.packed > 1000);
    go(&r, &fast, 2000);
    assert_false(r.p.on);
    assert_true(r.plain > 600);
    go(&r, &slow, 4000);
    assert_true(r.p.on);
    go(&r, &full, 2000);
    assert_false(r.p.on);
}

/* Packing that is the slower part hides what the connection takes: it is looked at, not flapped. */
static void it_does_not_flap(void **state)
{
    const struct world even = {300 * MB, 420 * MB, 300};
    struct run r;
    unsigned changes = 0;
    begin(&r, PACKING_AUTO, 0);
    go(&r, &even, 100);
    for (unsigned i = 0; i < 5000; i++) {
        bool was = r.p.on;
        step(&r, &even);
        changes += r.p.on != was;
    }
    assert_true(r.p.on);
    assert_int_equal(changes, 0);
    assert_true(r.plain < r.packed / 4); /* the looks */
}

/* The threads pack well when they are tried, and badly when it matters: the guest runs, too. */
static void a_wrong_guess_is_not_repeated(void **state)
{
    const struct world busy = {600 * MB, 1200 * MB, 500, .real = 500 * MB};
    const struct world slow = {125 * MB, 1200 * MB, 500, .real = 500 * MB};
    struct run r;
    begin(&r, PACKING_AUTO, 0);
    go(&r, &busy, 4000);
    assert_in_range(r.packed, 2, 400);
    assert_false(r.p.on);
    go(&r, &slow, 4000);
    assert_true(r.p.on);
    assert_true(r.packed > 3000);
}

static void a_limit_is_a_slow_connection(void **state)
{
    const struct world fast = {3000 * MB, 400 * MB, 300};
    struct run r;
    begin(&r, PACKING_AUTO, 50 * MB);
    go(&r, &fast, 500);
    assert_true(r.p.on);
}

static void what_was_asked_for_is_done(void **state)
{
    const struct world slow = {125 * MB, 400 * MB, 300}, full = {3000 * MB, 400 * MB, 1000};
    struct run r;
    begin(&r, PACKING_NEVER, 0);
    go(&r, &slow, 500);
    assert_int_equal(r.packed, 0);
    begin(&r, PACKING_ALWAYS, 0);
    go(&r, &full, 500);
    assert_int_equal(r.plain, 0);
}

/* In the pause nothing is tried. */
static void settled_is_settled(void **state)
{
    const struct world fast = {3000 * MB, 400 * MB, 300};
    struct run r;
    begin(&r, PACKING_AUTO, 0);
    r.p.settled = true;
    go(&r, &fast, 3000);
    assert_int_equal(r.packed, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(decisions),
        cmocka_unit_test(it_is_decided_anew),
        cmocka_unit_test(it_does_not_flap),
        cmocka_unit_test(a_wrong_guess_is_not_repeated),
        cmocka_unit_test(a_limit_is_a_slow_connection),
        cmocka_unit_test(what_was_asked_for_is_done),
        cmocka_unit_test(settled_is_settled),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
