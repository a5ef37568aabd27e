/*
 * A virtio-net that is saved, moved and loses its tap: queues are looked at again, hostile state is
 * refused, and a card that moved announces itself.
 */
#include "tests/unit/machine/net_rig.h"

static void test_saved_while_a_frame_waits(void **state)
{
    struct bench *b = *state;
    struct vrig *r = &b->rig;
    vrig_go(r, ALL, 2);
    network_sends(b, 0, 0, 60);
    vrig_run(r); /* it has no buffer */
    vrig_move(r, &b->config);
    assert_int_equal(leaves, TAP_CSUM | TAP_TSO4 | TAP_TSO6);
    offer(b, 0, 200);
    network_sends(b, 0, 0, 70);
    vrig_notify(r, RX);
    expect_frame(b, 0, 1, 200, 70);
    assert_int_equal(vrig_get(r, 0x70, 4), 0x0f);
}

/* What the driver offered before a save is looked at after it, without another notification. */
static void test_kicked_after_a_load(void **state)
{
    struct bench *b = *state;
    struct vrig *r = &b->rig;
    uint8_t packet[100];
    vrig_go(r, ALL, 2);
    offer(b, 0, 200);
    put_desc(r, TX, 0, OUT, HEADER + 60, 0, 0);
    mem_zero(&r->mem, OUT, HEADER, NULL);
    vrig_avail(r, TX, 0);
    network_sends(b, 0, 0, 60);
    vrig_move(r, &b->config);
    vrig_run(r);
    assert_int_equal(arrived(b, packet, sizeof(packet)), HEADER + 60);
    expect_frame(b, 0, 1, 200, 60);
}

static void test_round_trip(void **state)
{
    struct bench *b = *state;
    CLEAN(buf_fini) struct buf first, second;
    vrig_go(&b->rig, ALL, 2);
    transmit(b, 0, 0, 60);
    vrig_save(&b->rig, &first);
    vrig_move(&b->rig, &b->config);
    vrig_save(&b->rig, &second);
    assert_int_equal(first.len, second.len);
    assert_memory_equal(first.data, second.data, first.len);
}

/* Cut anywhere, or with any byte changed: refused, or a device that works within its bounds. */
static void test_hostile_state(void **state)
{
    struct bench *b = *state;
    struct vrig *r = &b->rig;
    CLEAN(buf_fini) struct buf good;
    struct err err;
    vrig_go(r, ALL, 2);
    vrig_save(r, &good);
    for (size_t i = 0; i < good.len * 2; i++) {
        struct buf bad = good;
        bad.data = malloc(good.len);
        memcpy(bad.data, good.data, good.len);
        if (i < good.len)
            bad.len = i;
        else
            bad.data[i - good.len] ^= (uint8_t)(1u << (i % 8));
        vrig_drop(r);
        vrig_build(r, &b->config);
        err = (struct err){0};
        int rc = vrig_load(r, &bad, &err);
        free(bad.data);
        assert_int_equal(rc < 0, err.text[0] != '\0');
        if (rc == 0) {
            r->type->resume(r->dev);
            vrig_run(r);
        } else {
            vrig_drop(r); /* half filled */
            vrig_build(r, &b->config);
        }
    }
}

static void test_other_address(void **state)
{
    struct bench *b = *state;
    struct vrig *r = &b->rig;
    CLEAN(buf_fini) struct buf saved;
    struct err err = {0};
    vrig_go(r, ALL, 2);
    vrig_save(r, &saved);
    vrig_drop(r);
    b->config.mac[5]++;
    vrig_build(r, &b->config);
    assert_true(vrig_load(r, &saved, &err) < 0);
    assert_string_equal(err.text, "virtio-net: the saved guest knows its card as "
                                  "02:11:22:33:44:55, and it is 02:11:22:33:44:56");
}

static void pass_time(struct bench *b, uint64_t ns)
{
    vrig_clock_ns += ns;
    timer_set_run(&b->rig.timers);
    vrig_run(&b->rig);
}

static void say_arp(struct bench *b, const uint8_t who[4])
{
    static const uint8_t head[] = {8, 6, 0, 1, 8, 0, 6, 4, 0, 1};
    uint8_t raw[HEADER + 60] = {0}, packet[100];
    struct vrig *r = &b->rig;
    fill_frame(raw + HEADER, 60);
    memcpy(raw + HEADER + 12, head, sizeof(head));
    memcpy(raw + HEADER + 22, mac, 6);
    memcpy(raw + HEADER + 28, who, 4);
    assert_int_equal(mem_write(&r->mem, OUT, raw, sizeof(raw), NULL), 0);
    put_desc(r, TX, 0, OUT, sizeof(raw), 0, 0);
    vrig_avail(r, TX, 0);
    vrig_notify(r, TX);
    assert_int_equal(arrived(b, packet, sizeof(packet)), sizeof(raw));
}

static void expect_rarp(struct bench *b)
{
    static const uint8_t head[] = {0x80, 0x35, 0, 1, 8, 0, 6, 4, 0, 3};
    uint8_t packet[100];
    assert_int_equal(arrived(b, packet, sizeof(packet)), HEADER + 60);
    for (unsigned i = 0; i < HEADER; i++)
        assert_int_equal(packet[i], 0);
    for (unsigned i = 0; i < 6; i++)
        assert_int_equal(packet[HEADER + i], 0xff);
    assert_memory_equal(packet + HEADER + 6, mac, 6);
    assert_memory_equal(packet + HEADER + 12, head, sizeof(head));
    assert_memory_equal(packet + HEADER + 22, mac, 6);
    assert_memory_equal(packet + HEADER + 32, mac, 6);
}

static void expect_arp(struct bench *b, const uint8_t who[4])
{
    static const uint8_t head[] = {8, 6, 0, 1, 8, 0, 6, 4, 0, 1};
    uint8_t packet[100];
    assert_int_equal(arrived(b, packet, sizeof(packet)), HEADER + 60);
    assert_memory_equal(packet + HEADER + 12, head, sizeof(head));
    assert_memory_equal(packet + HEADER + 22, mac, 6);
    assert_memory_equal(packet + HEADER + 28, who, 4);
    assert_memory_equal(packet + HEADER + 38, who, 4);
}

static void test_announces(void **state)
{
    static const uint8_t none[4] = {0}, one[4] = {10, 0, 0, 1}, two[4] = {10, 0, 0, 2};
    struct bench *b = *state;
    struct vrig *r = &b->rig;
    uint8_t packet[100];
    vrig_go(r, ALL, 2);
    say_arp(b, none); /* a probe: nobody yet */
    say_arp(b, one);
    say_arp(b, two);
    say_arp(b, one);
    vrig_move(r, &b->config); /* a restore is no arrival */
    pass_time(b, 1000000000);
    assert_int_equal(arrived(b, packet, sizeof(packet)), 0);
    network_sends(b, 0, 0, 99); /* heard where the guest was before */
    r->type->quiesce(r->dev);
    r->type->arrived(r->dev);
    pass_time(b, 1000000000); /* not while it stands */
    assert_int_equal(arrived(b, packet, sizeof(packet)), 0);
    r->type->resume(r->dev);
    for (unsigned round = 0; round < 5; round++) {
        pass_time(b, round ? 50000000 + (round - 1) * 100000000 : 0);
        expect_rarp(b);
        expect_arp(b, one);
        expect_arp(b, two);
        assert_int_equal(arrived(b, packet, sizeof(packet)), 0);
    }
    pass_time(b, 10000000000);
    assert_int_equal(arrived(b, packet, sizeof(packet)), 0);
    assert_int_equal(counted(b, "announced"), 15);
    offer(b, 0, 200);
    vrig_notify(r, RX);
    assert_int_equal(vrig_used(r, RX), 0);
}

/* The newest are kept. */
static void test_addresses_are_bounded(void **state)
{
    struct bench *b = *state;
    struct vrig *r = &b->rig;
    uint8_t who[4] = {10, 0, 0, 0};
    vrig_go(r, ALL, 2);
    for (unsigned i = 0; i < 20; i++) {
        who[3] = (uint8_t)(100 + i);
        say_arp(b, who);
    }
    r->type->quiesce(r->dev);
    r->type->arrived(r->dev);
    r->type->resume(r->dev);
    pass_time(b, 0);
    expect_rarp(b);
    for (unsigned i = 12; i < 20; i++) {
        who[3] = (uint8_t)(100 + i);
        expect_arp(b, who);
    }
}

/* The tap is gone: the cable is pulled, which the driver hears once; with another one, after a
 * restore, it hears that it is back. */
static void test_link(void **state)
{
    struct bench *b = *state;
    struct vrig *r = &b->rig;
    int bad = open("/dev/null", O_WRONLY | O_CLOEXEC), pair[2];
    vrig_go(r, ALL, 2);
    assert_int_equal(vrig_get(r, 0x60, 4), 0);
    unsigned before = (unsigned)vrig_get(r, 0xfc, 4);
    assert_true(dup2(bad, b->config.fd) >= 0); /* cannot be read */
    offer(b, 0, 200);
    vrig_notify(r, RX);
    assert_int_equal(vrig_get(r, 0x106, 2), 0);
    assert_int_equal(vrig_get(r, 0x60, 4), 2);
    assert_int_equal(vrig_get(r, 0xfc, 4), before + 1);
    assert_non_null(strstr(r->said, "its tap was removed"));
    put_desc(r, TX, 0, OUT, HEADER + 60, 0, 0);
    vrig_avail(r, TX, 0);
    vrig_notify(r, TX);
    assert_int_equal(counted(b, "tx_dropped"), 1);
    assert_int_equal(vrig_get(r, 0xfc, 4), before + 1);
    vrig_put(r, 0x64, 3);
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair),
                     0);
    struct virtio_net_config other = b->config;
    other.fd = pair[0];
    vrig_move(r, &other);
    assert_int_equal(vrig_get(r, 0x106, 2), 1);
    assert_int_equal(vrig_get(r, 0x60, 4) & 2, 2);
    close(pair[1]);
    b->host = dup2(pair[0], b->host); /* teardown closes both */
    close(bad);
}

int main(void)
{
#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_saved_while_a_frame_waits),
        T(test_kicked_after_a_load),
        T(test_round_trip),
        T(test_hostile_state),
        T(test_other_address),
        T(test_announces),
        T(test_addresses_are_bounded),
        T(test_link),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
