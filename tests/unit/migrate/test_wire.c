/* Frames: golden bytes, and what no peer may say. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/crc32c.h"
#include "base/le.h"
#include "migrate/wire.h"

#define RAM (1ull << 20)

/* HANDOFF of epoch 7, written by hand but for the checksum. */
static void golden_head(void **state)
{
    static const uint8_t golden[28] = {0x46, 0x4d, 11, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7};
    const struct wire_head h = {.kind = WIRE_HANDOFF, .value = 7};
    uint8_t bytes[WIRE_HEAD_BYTES];
    struct wire_head back;
    struct err err;
    wire_head_put(&h, bytes);
    assert_memory_equal(bytes, golden, sizeof(golden));
    assert_int_equal(le_get(bytes + 28, 4), crc32c(0, golden, sizeof(golden)));
    assert_int_equal(wire_head_get(bytes, &back, &err), 0);
    assert_int_equal(back.kind, WIRE_HANDOFF);
    assert_int_equal(back.value, 7);
}

static void every_flipped_bit_is_refused(void **state)
{
    const struct wire_head h = {.kind = WIRE_STATE, .meta_bytes = 100, .value = 1234};
    uint8_t bytes[WIRE_HEAD_BYTES];
    struct wire_head back;
    for (unsigned bit = 0; bit < WIRE_HEAD_BYTES * 8; bit++) {
        struct err err = {0};
        wire_head_put(&h, bytes);
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
        assert_true(wire_head_get(bytes, &back, &err) < 0);
        assert_true(err.text[0]);
    }
}

static void bounds_of_each_kind(void **state)
{
    static const struct wire_head bad[] = {
        {.kind = 0},
        {.kind = WIRE_KINDS},
        {.kind = 255},
        {.kind = WIRE_ALIVE, .meta_bytes = 1},
        {.kind = WIRE_ALIVE, .flags = 1},
        {.kind = WIRE_ROUND_END, .flags = 2},
        {.kind = WIRE_START},
        {.kind = WIRE_START, .meta_bytes = UINT32_MAX},
        {.kind = WIRE_STATE, .meta_bytes = WIRE_CHUNK_MAX + 1},
        {.kind = WIRE_CARGO, .meta_bytes = WIRE_CARGO_MAX + 1},
        {.kind = WIRE_EXPECT, .meta_bytes = WIRE_RANGES_MAX * 16 + 1},
        {.kind = WIRE_ZERO, .meta_bytes = 16, .data_bytes = 1},
        {.kind = WIRE_PAGES, .meta_bytes = 12, .data_bytes = UINT64_MAX},
        {.kind = WIRE_PAGES, .meta_bytes = 12, .data_bytes = WIRE_PAGES_MAX * 4096ull + 1},
        {.kind = WIRE_PACKED, .meta_bytes = 12, .data_bytes = WIRE_PAGES_MAX * 4096ull + 1},
        {.kind = WIRE_PACKED, .meta_bytes = 11, .data_bytes = 10},
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        uint8_t bytes[WIRE_HEAD_BYTES];
        struct wire_head back;
        struct err err;
        wire_head_put(&bad[i], bytes);
        if (wire_head_get(bytes, &back, &err) >= 0)
            fail_msg("head %zu is taken", i);
    }
}

static void ranges_lie_in_ram(void **state)
{
    static const struct wire_range bad[] = {
        {0, 0},          {1, 4096},          {0, 4097},        {RAM, 4096},
        {0, RAM + 4096}, {RAM - 4096, 8192}, {~4095ull, 8192}, {4096, ~4095ull},
    };
    static struct wire_range out[WIRE_RANGES_MAX];
    uint8_t meta[32];
    struct err err;
    const struct wire_range good[] = {{0, RAM}, {RAM - 4096, 4096}};
    assert_int_equal(wire_ranges_put(good, 2, meta), 32);
    assert_int_equal(wire_ranges_get(meta, 32, RAM, out, &err), 2);
    assert_int_equal(out[1].offset, RAM - 4096);
    for (size_t cut = 0; cut < 32; cut++)
        if (cut != 16)
            assert_true(wire_ranges_get(meta, cut, RAM, out, &err) < 0);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        wire_ranges_put(&bad[i], 1, meta);
        if (wire_ranges_get(meta, 16, RAM, out, &err) >= 0)
            fail_msg("range %zu is taken", i);
    }
}

struct runs_case {
    uint64_t word[2], count, data;
    uint32_t meta;
    bool good, packed;
};

static void runs_agree_with_their_frame(void **state)
{
    static const struct runs_case cases[] = {
        {{0}, 1, 4096, 12, true},
        {{0x1001}, 1, 8192, 16, true},
        {{0, 0x2000}, 2, 8192, 24, true},
        {{0}, 0, 0, 12, false},                           /* none */
        {{0}, 2, 8192, 12, false},                        /* more than there are */
        {{0}, UINT64_MAX, 4096, 12, false},               /* wraps */
        {{0}, 1, 8192, 12, false},                        /* more data than pages */
        {{0}, 1, 4096, 16, false},                        /* a checksum too many */
        {{256}, 1, 4096, 12, false},                      /* 257 pages */
        {{RAM}, 1, 4096, 12, false},                      /* behind RAM */
        {{(RAM - 4096) | 1}, 1, 8192, 16, false},         /* over its end */
        {{~4095ull}, 1, 4096, 12, false},                 /* far behind it */
        {{0xff, 0x200000ff}, 2, 1ull << 21, 2064, false}, /* more than a frame holds */
        {{0x1001}, 1, 8191, 16, true, true},
        {{0x1001}, 1, 1, 16, true, true},
        {{0x1001}, 1, 0, 16, false, true},    /* packed to nothing */
        {{0x1001}, 1, 8192, 16, false, true}, /* no less than the pages */
        {{0x1001}, 1, 100, 12, false, true},  /* a checksum is missing */
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const struct runs_case *c = &cases[i];
        const struct wire_head h = {.kind = c->packed ? WIRE_PACKED : WIRE_PAGES,
                                    .value = c->count,
                                    .data_bytes = c->data,
                                    .meta_bytes = c->meta};
        struct wire_run runs[WIRE_RUNS_MAX];
        uint32_t crcs[WIRE_PAGES_MAX];
        static uint8_t meta[4096];
        struct err err;
        le_put(meta, c->word[0], 8);
        le_put(meta + 8, c->word[1], 8);
        bool taken = wire_runs_get(&h, meta, RAM, runs, crcs, &err) >= 0;
        if (taken != c->good)
            fail_msg("runs %zu: %s", i, taken ? "taken" : "refused");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(golden_head),
        cmocka_unit_test(every_flipped_bit_is_refused),
        cmocka_unit_test(bounds_of_each_kind),
        cmocka_unit_test(ranges_lie_in_ram),
        cmocka_unit_test(runs_agree_with_their_frame),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
