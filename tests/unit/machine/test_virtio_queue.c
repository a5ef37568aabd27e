/*
 * Everything that a driver may do wrong with a queue, through virtio-rng: from the guest, and found
 * in guest memory after a restore. The device stops with one sentence, nothing is given back,
 * nothing outside is touched, and a reset makes it work again.
 */
#include "machine/devices/virtio_rng.h"
#include "tests/unit/machine/virtio_rig.h"

#define ALL (VIRTIO_F_INDIRECT | VIRTIO_F_EVENT_INDEX)
#define B VRIG_BUFFER

/* ---- what arrange() leaves behind is one available chain with head 0, if not said otherwise ----
 */

static void loop_of_one(struct vrig *r)
{
    vrig_desc(r, 0, B(0), 64, D_WRITE | D_NEXT, 0);
}

static void loop_of_two(struct vrig *r)
{
    vrig_desc(r, 0, B(0), 64, D_WRITE | D_NEXT, 5);
    vrig_desc(r, 5, B(1), 64, D_WRITE | D_NEXT, 0);
}

static void next_is_size(struct vrig *r)
{
    vrig_desc(r, 0, B(0), 64, D_WRITE | D_NEXT, VRIG_SIZE);
}

static void next_is_huge(struct vrig *r)
{
    vrig_desc(r, 0, B(0), 64, D_WRITE | D_NEXT, 0xffff);
}

static void head_is_size(struct vrig *r)
{
    vrig_set16(r, VRIG_AVAIL(0) + 4, VRIG_SIZE);
}

static void index_jumps(struct vrig *r)
{
    vrig_desc(r, 0, B(0), 64, D_WRITE, 0);
    vrig_set16(r, VRIG_AVAIL(0) + 2, VRIG_SIZE + 1);
}

static void index_goes_back(struct vrig *r)
{
    vrig_desc(r, 0, B(0), 64, D_WRITE, 0);
    vrig_set16(r, VRIG_AVAIL(0) + 2, 0xffff);
}

static void length_0(struct vrig *r)
{
    vrig_desc(r, 0, B(0), 0, D_WRITE, 0);
}

static void length_most(struct vrig *r)
{
    vrig_desc(r, 0, B(0), 0xffffffff, D_WRITE, 0);
}

static void address_wraps(struct vrig *r)
{
    vrig_desc(r, 0, UINT64_MAX - 10, 64, D_WRITE, 0);
}

static void beyond_ram(struct vrig *r)
{
    vrig_desc(r, 0, VRIG_RAM - 63, 64, D_WRITE, 0);
}

static void in_the_hole(struct vrig *r)
{
    vrig_desc(r, 0, LAYOUT_VIRTIO_GPA, 64, D_WRITE, 0);
}

static void read_behind_write(struct vrig *r)
{
    vrig_desc(r, 0, B(0), 64, D_WRITE | D_NEXT, 1);
    vrig_desc(r, 1, B(1), 64, 0, 0);
}

static void indirect_empty(struct vrig *r)
{
    vrig_desc(r, 0, VRIG_TABLE(0), 0, D_INDIRECT, 0);
}

static void indirect_odd(struct vrig *r)
{
    vrig_desc(r, 0, VRIG_TABLE(0), 24, D_INDIRECT, 0);
}

static void indirect_long(struct vrig *r)
{
    vrig_desc(r, 0, VRIG_TABLE(0), 16 * (VIRTQ_SEGS_MAX + 1), D_INDIRECT, 0);
}

static void indirect_huge(struct vrig *r)
{
    vrig_desc(r, 0, VRIG_TABLE(0), 0xfffffff0, D_INDIRECT, 0);
}

static void indirect_outside(struct vrig *r)
{
    vrig_desc(r, 0, VRIG_RAM - 8, 16, D_INDIRECT, 0);
}

static void indirect_with_next(struct vrig *r)
{
    vrig_desc(r, 0, VRIG_TABLE(0), 16, D_INDIRECT | D_NEXT, 1);
    vrig_desc_at(r, VRIG_TABLE(0), 0, B(0), 64, D_WRITE, 0);
}

static void indirect_in_indirect(struct vrig *r)
{
    vrig_desc(r, 0, VRIG_TABLE(0), 32, D_INDIRECT, 0);
    vrig_desc_at(r, VRIG_TABLE(0), 0, B(0), 64, D_WRITE | D_NEXT, 1);
    vrig_desc_at(r, VRIG_TABLE(0), 1, VRIG_TABLE(0), 32, D_INDIRECT, 0);
}

static void indirect_loop(struct vrig *r)
{
    vrig_desc(r, 0, VRIG_TABLE(0), 32, D_INDIRECT, 0);
    vrig_desc_at(r, VRIG_TABLE(0), 0, B(0), 64, D_WRITE | D_NEXT, 1);
    vrig_desc_at(r, VRIG_TABLE(0), 1, B(1), 64, D_WRITE | D_NEXT, 0);
}

static void indirect_next_outside(struct vrig *r)
{
    vrig_desc(r, 0, VRIG_TABLE(0), 32, D_INDIRECT, 0);
    vrig_desc_at(r, VRIG_TABLE(0), 0, B(0), 64, D_WRITE | D_NEXT, 2);
}

/* As many buffers as a chain may have, and one before them. */
static void too_many_buffers(struct vrig *r)
{
    vrig_desc(r, 0, B(0), 64, D_WRITE | D_NEXT, 1);
    vrig_desc(r, 1, B(8), 16 * VIRTQ_SEGS_MAX, D_INDIRECT, 0);
    for (unsigned i = 0; i < VIRTQ_SEGS_MAX; i++)
        vrig_desc_at(r, B(8), i, B(1), 1, D_WRITE | (i + 1 < VIRTQ_SEGS_MAX ? D_NEXT : 0), i + 1);
}

static const struct bad {
    const char *says;
    void (*arrange)(struct vrig *r);
} bads[] = {
    {"a chain that is a loop", loop_of_one},
    {"a chain that is a loop", loop_of_two},
    {"descriptor 8 of 8", next_is_size},
    {"descriptor 65535 of 8", next_is_huge},
    {"descriptor 8 of 8", head_is_size},
    {"the available index is 9 ahead, more than the 8 of the queue", index_jumps},
    {"the available index is 65535 ahead, more than the 8 of the queue", index_goes_back},
    {"a buffer of 0 bytes", length_0},
    {"0x200000 with 4294967295 bytes is outside of guest memory", length_most},
    {"is outside of guest memory", address_wraps},
    {"is outside of guest memory", beyond_ram},
    {"is outside of guest memory", in_the_hole},
    {"a readable buffer behind a writable one", read_behind_write},
    {"an indirect table of 0 bytes", indirect_empty},
    {"an indirect table of 24 bytes", indirect_odd},
    {"an indirect table of 4112 bytes", indirect_long},
    {"an indirect table of 4294967280 bytes", indirect_huge},
    {"indirect table: guest address", indirect_outside},
    {"an indirect descriptor that has a next one", indirect_with_next},
    {"an indirect descriptor within an indirect table", indirect_in_indirect},
    {"a chain that is a loop", indirect_loop},
    {"descriptor 2 of 2", indirect_next_outside},
    {"a chain of more than 256 buffers", too_many_buffers},
};
#define BADS (sizeof(bads) / sizeof(bads[0]))

static void works(struct vrig *r)
{
    unsigned before = vrig_used(r, 0);
    vrig_desc(r, 0, B(0), 64, D_WRITE, 0);
    vrig_avail(r, 0, 0);
    vrig_notify(r, 0);
    assert_int_equal(vrig_used(r, 0), before + 1);
    assert_int_equal(vrig_used_len(r, 0, before), 64);
}

static void expect_broken(struct vrig *r, const struct bad *bad)
{
    if (!vrig_is_broken(r))
        fail_msg("'%s' passes", bad->says);
    if (!strstr(r->said, bad->says) || !strstr(r->said, "virtio-rng0: the driver broke a rule: "))
        fail_msg("'%s' says '%s'", bad->says, r->said);
    assert_int_equal(vrig_used(r, 0), 0);
    assert_int_equal(vrig_get(r, 0x60, 4) & 2, 2); /* told as a change of the configuration */
}

static void test_from_the_guest(void **state)
{
    for (size_t i = 0; i < BADS; i++) {
        struct vrig r;
        vrig_init(&r, &virtio_rng_type, NULL);
        vrig_go(&r, ALL, 1);
        bads[i].arrange(&r);
        if (vrig_peek(&r, VRIG_AVAIL(0) + 2, 2) == 0)
            vrig_set16(&r, VRIG_AVAIL(0) + 2, 1);
        vrig_notify(&r, 0);
        expect_broken(&r, &bads[i]);
        unsigned edges = r.edges;
        vrig_notify(&r, 0); /* nothing more until the reset */
        assert_int_equal(r.edges, edges);
        vrig_go(&r, ALL, 1);
        works(&r);
        vrig_fini(&r);
    }
}

/* Saved before the device looked, and restored: the rings are what the state says, and bad. */
static void test_from_restored_state(void **state)
{
    for (size_t i = 0; i < BADS; i++) {
        struct vrig r;
        vrig_init(&r, &virtio_rng_type, NULL);
        vrig_go(&r, ALL, 1);
        bads[i].arrange(&r);
        if (vrig_peek(&r, VRIG_AVAIL(0) + 2, 2) == 0)
            vrig_set16(&r, VRIG_AVAIL(0) + 2, 1);
        vrig_move(&r, NULL);
        vrig_run(&r); /* a restored queue is looked at without a notification */
        expect_broken(&r, &bads[i]);
        vrig_move(&r, NULL); /* what is broken stays so */
        assert_true(vrig_is_broken(&r));
        vrig_go(&r, ALL, 1);
        works(&r);
        vrig_fini(&r);
    }
}

static void test_indirect_not_negotiated(void **state)
{
    struct vrig r;
    vrig_init(&r, &virtio_rng_type, NULL);
    vrig_go(&r, 0, 1);
    vrig_desc(&r, 0, VRIG_TABLE(0), 16, D_INDIRECT, 0);
    vrig_desc_at(&r, VRIG_TABLE(0), 0, B(0), 64, D_WRITE, 0);
    vrig_avail(&r, 0, 0);
    vrig_notify(&r, 0);
    assert_true(vrig_is_broken(&r));
    assert_non_null(strstr(r.said, "which was not negotiated"));
    vrig_fini(&r);
}

/* Nothing to write into: the request is given back with 0 bytes and its buffer as it was. */
static void test_read_only_where_a_write_is_expected(void **state)
{
    struct vrig r;
    vrig_init(&r, &virtio_rng_type, NULL);
    vrig_go(&r, ALL, 1);
    vrig_desc(&r, 0, B(0), 64, 0, 0);
    vrig_avail(&r, 0, 0);
    vrig_notify(&r, 0);
    assert_int_equal(vrig_used(&r, 0), 1);
    assert_int_equal(vrig_used_len(&r, 0, 0), 0);
    for (unsigned i = 0; i < 64; i += 8)
        assert_int_equal(vrig_peek(&r, B(0) + i, 8), 0);
    vrig_fini(&r);
}

/* All places at once, in chains of each length, around the wrap of both indices. */
static void test_wraps(void **state)
{
    struct vrig r;
    vrig_init(&r, &virtio_rng_type, NULL);
    vrig_go(&r, ALL, 1);
    for (unsigned i = 0; i < VRIG_SIZE; i++)
        vrig_desc(&r, i, B(i), 32, D_WRITE | (i % 2 ? 0 : D_NEXT), i + 1);
    for (unsigned round = 0; round < 70000; round++) {
        for (unsigned i = 0; i < VRIG_SIZE; i += 2)
            vrig_avail(&r, 0, (uint16_t)i);
        vrig_notify(&r, 0);
        assert_int_equal(vrig_used(&r, 0), r.avail[0]);
        assert_int_equal(vrig_used_len(&r, 0, (uint16_t)(r.avail[0] - 1)), 64);
        if (round % 10000 == 9999)
            vrig_move(&r, NULL);
    }
    assert_false(vrig_is_broken(&r));
    vrig_fini(&r);
}

/* Every page that the device wrote is one that a live save takes again. */
static void test_writes_are_marked(void **state)
{
    struct vrig r;
    vrig_init(&r, &virtio_rng_type, NULL);
    vrig_go(&r, ALL, 1);
    vrig_desc(&r, 0, B(0) + 4090, 64, D_WRITE | D_NEXT, 1);
    vrig_desc(&r, 1, B(1), 4097, D_WRITE, 0);
    vrig_avail(&r, 0, 0);
    for (size_t w = 0; w < r.mem.written.nwords; w++)
        bitmap_take_word(&r.mem.written, w);
    vrig_notify(&r, 0);
    static const uint64_t pages[] = {B(0), B(0) + 4096, B(1), B(1) + 4096, VRIG_USED(0)};
    for (size_t i = 0; i < sizeof(pages) / sizeof(pages[0]); i++)
        assert_true(bitmap_test(&r.mem.written, pages[i] / MEM_PAGE));
    assert_int_equal(bitmap_count(&r.mem.written), sizeof(pages) / sizeof(pages[0]));
    vrig_fini(&r);
}

/* With the event index the driver says after which request it wants to hear; without, by a flag. */
static void test_interrupts_as_asked(void **state)
{
    struct vrig r;
    vrig_init(&r, &virtio_rng_type, NULL);
    vrig_go(&r, VIRTIO_F_EVENT_INDEX, 1);
    works(&r); /* the first is always told */
    unsigned edges = r.edges;
    vrig_set16(&r, VRIG_AVAIL(0) + 4 + 2 * VRIG_SIZE, 3);
    works(&r);
    works(&r);
    assert_int_equal(r.edges, edges);
    works(&r);
    assert_int_equal(r.edges, edges + 1);
    works(&r);
    assert_int_equal(r.edges, edges + 1);
    /* The device in its turn says up to where the driver need not ring. */
    assert_int_equal(vrig_peek(&r, VRIG_USED(0) + 4 + 8 * VRIG_SIZE, 2), r.avail[0]);
    vrig_go(&r, 0, 1);
    edges = r.edges;
    works(&r);
    assert_int_equal(r.edges, edges + 1);
    vrig_set16(&r, VRIG_AVAIL(0), 1);
    works(&r);
    assert_int_equal(r.edges, edges + 1);
    vrig_fini(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_from_the_guest),
        cmocka_unit_test(test_from_restored_state),
        cmocka_unit_test(test_indirect_not_negotiated),
        cmocka_unit_test(test_read_only_where_a_write_is_expected),
        cmocka_unit_test(test_wraps),
        cmocka_unit_test(test_writes_are_marked),
        cmocka_unit_test(test_interrupts_as_asked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
