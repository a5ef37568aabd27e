/*
 * Frames through virtio-net, right and wrong: each arrives whole or is counted, and nothing beyond
 * the driver's buffers is touched.
 */
#include "tests/unit/machine/net_rig.h"

static void test_registers(void **state)
{
    struct bench *b = *state;
    struct vrig *r = &b->rig;
    assert_int_equal(vrig_get(r, 0x08, 4), 1);
    for (unsigned i = 0; i < 6; i++)
        assert_int_equal(vrig_get(r, 0x100 + i, 1), mac[i]);
    assert_int_equal(vrig_get(r, 0x106, 2), 1);
    vrig_put(r, 0x14, 0);
    assert_int_equal(vrig_get(r, 0x10, 4), ALL & UINT32_MAX);
    vrig_put(r, 0x100, 0); /* they cannot be written */
    assert_int_equal(vrig_get(r, 0x100, 1), mac[0]);
}

static void test_frames_leave(void **state)
{
    static uint8_t packet[80000], frame[70000];
    static const size_t sizes[] = {14, 60, 1514, 9014, 65550};
    struct bench *b = *state;
    vrig_go(&b->rig, ALL, 2);
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        transmit(b, 0, 0, sizes[i]);
        assert_int_equal(arrived(b, packet, sizeof(packet)), HEADER + sizes[i]);
        fill_frame(frame, sizes[i]);
        assert_memory_equal(packet + HEADER, frame, sizes[i]);
        assert_int_equal(le_get(packet + 10, 2), 0);
    }
    transmit(b, 0xff, 1, 2000); /* flags that are not known are not passed on */
    assert_int_equal(arrived(b, packet, sizeof(packet)), HEADER + 2000);
    assert_int_equal(packet[0], 1);
    assert_int_equal(packet[1], 1);
    assert_int_equal(le_get(packet + 4, 2), 1000);
    assert_int_equal(counted(b, "tx_frames"), 6);
    assert_int_equal(counted(b, "tx_bytes"), 14 + 60 + 1514 + 9014 + 65550 + 2000);
}

/* The header may be cut anywhere. */
static void test_any_layout(void **state)
{
    static uint8_t packet[4096];
    struct bench *b = *state;
    struct vrig *r = &b->rig;
    uint8_t raw[HEADER + 100] = {0};
    vrig_go(r, ALL, 2);
    fill_frame(raw + HEADER, 100);
    assert_int_equal(mem_write(&r->mem, OUT, raw, sizeof(raw), NULL), 0);
    for (uint32_t cut = 1; cut < sizeof(raw); cut++) {
        put_desc(r, TX, 0, OUT, cut, D_NEXT, 1);
        put_desc(r, TX, 1, OUT + cut, (uint32_t)sizeof(raw) - cut, 0, 0);
        vrig_avail(r, TX, 0);
        vrig_notify(r, TX);
        assert_int_equal(arrived(b, packet, sizeof(packet)), sizeof(raw));
        assert_memory_equal(packet + HEADER, raw + HEADER, 100);
    }
}

static void test_wrong_frames(void **state)
{
    static const struct {
        uint64_t features;
        uint8_t flags, gso;
        size_t frame;
    } wrong[] = {
        {PLAIN, 1, 0, 60},          /* a checksum to be made, not negotiated */
        {PLAIN | F_CSUM, 1, 1, 60}, /* segments, the same */
        {PLAIN | F_CSUM | F_HOST_TSO4, 1, 4, 60},
        {ALL, 0, 1, 60}, /* segments without a checksum */
        {ALL, 1, 3, 60},
        {ALL, 1, 0x81, 60}, /* kinds that were not negotiated */
        {ALL, 0, 0, 13},
        {ALL, 0, 0, 0}, /* no Ethernet header */
        {ALL, 0, 0, 65551},
        {ALL, 0, 0, 69000}, /* larger than any */
    };
    uint8_t packet[4096];
    struct bench *b = *state;
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        vrig_go(&b->rig, wrong[i].features, 2);
        transmit(b, wrong[i].flags, wrong[i].gso, wrong[i].frame);
        assert_int_equal(arrived(b, packet, sizeof(packet)), 0);
        assert_int_equal(counted(b, "tx_refused"), i + 1);
    }
    assert_int_equal(counted(b, "tx_frames"), 0);
}

/* A header that is cut off, and a chain with nothing for the device. */
static void test_no_header(void **state)
{
    struct bench *b = *state;
    struct vrig *r = &b->rig;
    vrig_go(r, ALL, 2);
    for (uint32_t len = 1; len < HEADER; len++) {
        put_desc(r, TX, 0, OUT, len, 0, 0);
        vrig_avail(r, TX, 0);
        vrig_notify(r, TX);
    }
    put_desc(r, TX, 0, OUT, 100, D_WRITE, 0);
    vrig_avail(r, TX, 0);
    vrig_notify(r, TX);
    assert_int_equal(vrig_used(r, TX), HEADER);
    assert_int_equal(counted(b, "tx_refused"), HEADER);
    assert_false(vrig_is_broken(r));
}

static void test_frames_come(void **state)
{
    struct bench *b = *state;
    struct vrig *r = &b->rig;
    vrig_go(r, PLAIN, 2);
    offer(b, 0, 2000);
    offer(b, 1, 2000);
    vrig_notify(r, RX);
    network_sends(b, 0, 0, 1514);
    vrig_run(r);
    assert_int_equal(vrig_used(r, RX), 1);
    expect_frame(b, 0, 1, 2000, 1514);
    network_sends(b, 0, 0, 60);
    vrig_run(r);
    expect_frame(b, 1, 1, 2000, 60);
    assert_int_equal(counted(b, "rx_frames"), 2);
    assert_int_equal(counted(b, "rx_bytes"), 1574);
    assert_true(r->edges > 0);
}

static void test_merged(void **state)
{
    struct bench *b = *state;
    struct vrig *r = &b->rig;
    vrig_go(r, ALL, 2);
    for (unsigned i = 0; i < 3; i++)
        offer(b, i, 600);
    network_sends(b, 1, 1, 4000);
    vrig_run(r); /* three are not enough, and none of them is given back */
    assert_int_equal(vrig_used(r, RX), 0);
    assert_int_equal(counted(b, "rx_waits"), 1);
    for (unsigned i = 3; i < 8; i++)
        offer(b, i, 600);
    vrig_notify(r, RX);
    assert_int_equal(vrig_used(r, RX), 7);
    expect_frame(b, 0, 7, 600, 4000);
    network_sends(b, 0, 0, 100); /* into the one that is left */
    vrig_run(r);
    expect_frame(b, 7, 1, 600, 100);
}

static void test_too_large(void **state)
{
    struct bench *b = *state;
    struct vrig *r = &b->rig;
    vrig_go(r, PLAIN, 2);
    offer(b, 0, 500);
    network_sends(b, 0, 0, 600);
    network_sends(b, 0, 0, 400);
    vrig_notify(r, RX);
    assert_int_equal(vrig_used(r, RX), 1); /* the second, in the buffer that the first left */
    expect_frame(b, 0, 1, 500, 400);
    assert_int_equal(counted(b, "rx_dropped"), 1);
    vrig_go(r, PLAIN | F_MERGE, 2);
    for (unsigned i = 0; i < 8; i++)
        offer(b, i, 100);
    network_sends(b, 0, 0, 900); /* more than a queue that is full of buffers */
    network_sends(b, 0, 0, 80);
    vrig_notify(r, RX);
    assert_int_equal(vrig_used(r, RX), 1);
    assert_int_equal(vrig_used_len(r, RX, 0), HEADER + 80);
    assert_int_equal(counted(b, "rx_dropped"), 2);
    vrig_go(r, PLAIN | F_MERGE, 2);
    offer(b, 0, HEADER - 1); /* not even the header */
    offer(b, 1, 2000);
    network_sends(b, 0, 0, 60);
    vrig_notify(r, RX);
    assert_int_equal(vrig_used(r, RX), 0);
    assert_int_equal(counted(b, "rx_dropped"), 3);
}

/* Only what the driver said that it knows comes to it. */
static void test_features_of_the_driver(void **state)
{
    struct bench *b = *state;
    struct vrig *r = &b->rig;
    vrig_go(r, PLAIN, 2);
    assert_int_equal(leaves, 0);
    offer(b, 0, 2000);
    network_sends(b, 1, 0, 100); /* a checksum to be made */
    network_sends(b, 0, 1, 100); /* segments */
    network_sends(b, 2, 0, 100); /* a checksum that was looked at: only a hint */
    vrig_notify(r, RX);
    assert_int_equal(counted(b, "rx_dropped"), 2);
    expect_frame(b, 0, 1, 2000, 100);
    assert_int_equal(vrig_peek(r, IN(0), 1), 0);
    vrig_go(r, PLAIN | F_GUEST_CSUM | F_GUEST_TSO4, 2);
    assert_int_equal(leaves, TAP_CSUM | TAP_TSO4);
    offer(b, 0, 2000);
    network_sends(b, 1, 4, 100);
    network_sends(b, 1, 1, 100);
    vrig_notify(r, RX);
    assert_int_equal(vrig_used(r, RX), 1);
    assert_int_equal(vrig_peek(r, IN(0), 2), 0x0101);
    vrig_put(r, 0x70, 0);
    assert_int_equal(leaves, 0);
    vrig_go(r, PLAIN | F_GUEST_TSO4, 2); /* without a checksum it means nothing */
    assert_int_equal(leaves, 0);
}

/* Rings and chains as they cannot be, on either queue: the device stops, nothing is touched, and
 * after a reset it works. */
static void test_broken_rings(void **state)
{
    static const struct {
        uint64_t gpa;
        uint32_t len;
        unsigned flags, next;
    } wrong[] = {
        {OUT, 100, D_NEXT, 0},              /* a loop */
        {OUT, 100, D_NEXT, 8},              /* beyond the table */
        {OUT, 0, 0, 0},                     /* nothing */
        {OUT, UINT32_MAX, 0, 0},            /* beyond RAM */
        {VRIG_RAM, 100, 0, 0},              /* outside of it */
        {UINT64_MAX - 10, 100, 0, 0},       /* around */
        {LAYOUT_VIRTIO_GPA, 100, 0, 0},     /* in our own window */
        {VRIG_TABLE(0), 24, D_INDIRECT, 0}, /* a table with half an entry */
        {VRIG_TABLE(0), 0, D_INDIRECT, 0},  /* with none */
        {VRIG_TABLE(0), 16, D_INDIRECT | D_NEXT, 1},
    };
    struct bench *b = *state;
    struct vrig *r = &b->rig;
    for (unsigned q = 0; q < 2; q++)
        for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
            vrig_go(r, ALL, 2);
            put_desc(r, q, 0, wrong[i].gpa, wrong[i].len, wrong[i].flags | (q == RX ? D_WRITE : 0),
                     wrong[i].next);
            vrig_avail(r, q, 0);
            network_sends(b, 0, 0, 60);
            vrig_notify(r, q);
            assert_true(vrig_is_broken(r));
            assert_int_equal(vrig_used(r, q), 0);
        }
    uint8_t packet[100];
    vrig_go(r, ALL, 2);
    transmit(b, 0, 0, 60);
    assert_int_equal(arrived(b, packet, sizeof(packet)), HEADER + 60);
}

/* An available index that is further than the queue is long; a table in a table. */
static void test_jumps_and_nesting(void **state)
{
    struct bench *b = *state;
    struct vrig *r = &b->rig;
    for (unsigned q = 0; q < 2; q++) {
        vrig_go(r, ALL, 2);
        vrig_set16(r, VRIG_AVAIL(q) + 2, VRIG_SIZE + 1);
        network_sends(b, 0, 0, 60);
        vrig_notify(r, q);
        assert_true(vrig_is_broken(r));
        vrig_go(r, ALL, 2);
        put_desc(r, q, 0, VRIG_TABLE(q), 16, D_INDIRECT, 0);
        vrig_desc_at(r, VRIG_TABLE(q), 0, VRIG_TABLE(q), 16, D_INDIRECT, 0);
        vrig_avail(r, q, 0);
        network_sends(b, 0, 0, 60);
        vrig_notify(r, q);
        assert_true(vrig_is_broken(r));
        assert_int_equal(vrig_used(r, q), 0);
    }
}

/* Where the device is to write, the driver gives what it may only read: nothing is written. */
static void test_read_only_buffers(void **state)
{
    struct bench *b = *state;
    struct vrig *r = &b->rig;
    static const uint64_t features[] = {PLAIN, ALL};
    for (unsigned i = 0; i < 2; i++) {
        vrig_go(r, features[i], 2);
        mem_zero(&r->mem, IN(0), 2000, NULL);
        put_desc(r, RX, 0, IN(0), 2000, 0, 0);
        vrig_avail(r, RX, 0);
        network_sends(b, 0, 0, 60);
        vrig_notify(r, RX);
        assert_int_equal(vrig_used(r, RX), 0);
        assert_int_equal(vrig_peek(r, IN(0), 8), 0);
        assert_int_equal(counted(b, "rx_dropped"), i + 1);
    }
}

/* Size and addresses that are written while it runs take no effect. */
static void test_moved_rings(void **state)
{
    struct bench *b = *state;
    struct vrig *r = &b->rig;
    vrig_go(r, ALL, 2);
    for (unsigned q = 0; q < 2; q++) {
        vrig_put(r, 0x30, q);
        vrig_put(r, 0x38, 4);
        vrig_put64(r, 0x80, VRIG_RAM);
        vrig_put64(r, 0x90, VRIG_RAM);
        vrig_put64(r, 0xa0, VRIG_RAM);
    }
    offer(b, 0, 200);
    network_sends(b, 0, 0, 60);
    vrig_notify(r, RX);
    expect_frame(b, 0, 1, 200, 60);
    transmit(b, 0, 0, 60);
}

/* In the middle of a merge: what was taken before is not given back either. */
static void test_broken_in_a_merge(void **state)
{
    struct bench *b = *state;
    struct vrig *r = &b->rig;
    vrig_go(r, ALL, 2);
    offer(b, 0, 100);
    offer(b, 1, 100);
    put_desc(r, RX, 2, VRIG_RAM, 100, D_WRITE, 0);
    vrig_avail(r, RX, 2);
    network_sends(b, 0, 0, 1000);
    vrig_notify(r, RX);
    assert_true(vrig_is_broken(r));
    assert_int_equal(vrig_used(r, RX), 0);
    network_sends(b, 0, 0, 60);
    vrig_run(r);
    assert_int_equal(vrig_used(r, RX), 0);
}

/* A queue that is off gets and gives nothing, and its notification does nothing. */
static void test_queue_off(void **state)
{
    struct bench *b = *state;
    struct vrig *r = &b->rig;
    uint8_t packet[100];
    vrig_go(r, ALL, 1);
    vrig_put(r, 0x50, TX);
    vrig_put(r, 0x50, 77);
    network_sends(b, 0, 0, 60);
    vrig_run(r);
    assert_int_equal(arrived(b, packet, sizeof(packet)), 0);
    offer(b, 0, 200);
    vrig_notify(r, RX);
    expect_frame(b, 0, 1, 200, 60);
}

/* A flood has its bounds: a turn takes so many, and the rest has to ask again. */
static void test_turns(void **state)
{
    struct bench *b = *state;
    struct vrig *r = &b->rig;
    vrig_go(r, ALL, 2);
    for (unsigned i = 0; i < 100; i++)
        network_sends(b, 1, 3, 60); /* dropped, each after it was read */
    for (unsigned i = 0; i < 4; i++)
        offer(b, i, 100);
    for (unsigned i = 0; i < 4; i++)
        network_sends(b, 0, 0, 60);
    vrig_notify(r, RX);
    assert_int_equal(vrig_used(r, RX), 4);
    assert_int_equal(counted(b, "rx_dropped"), 100);
}

int main(void)
{
#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_registers),    T(test_frames_leave),      T(test_any_layout),
        T(test_wrong_frames), T(test_no_header),         T(test_frames_come),
        T(test_merged),       T(test_too_large),         T(test_features_of_the_driver),
        T(test_broken_rings), T(test_jumps_and_nesting), T(test_read_only_buffers),
        T(test_moved_rings),  T(test_broken_in_a_merge), T(test_queue_off),
        T(test_turns),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
