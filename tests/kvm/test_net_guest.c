/*
 * A guest that drives its network card and checks every byte of every frame, and its peer on the
 * host: with all features and without, saved and restored, flooded and flooding. All of it in a
 * network namespace of the test's own.
 */
#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "base/le.h"
#include "base/now.h"
#include "daemon/nets.h"
#include "machine/devices/virtio_net.h"
#include "tests/kvm/host.h"
#include "tests/kvm/network.h"
#include "tests/kvm/rig.h"
#include "tests/kvm/talk.h"

#define CYCLES 40
#define CYCLES_LONG 400
#define PEERS "ip=" TALK_GUEST "~peer=" TALK_HOST
#define RIG_PEERS "ip=" TALK_GUEST " peer=" TALK_HOST

static void make_bridge(unsigned mtu)
{
    network_run("ip link add br0 type bridge && ip addr add " TALK_HOST "/24 dev br0 && "
                "ip link set br0 mtu %u up",
                mtu);
}

static void make_tap(const char *name)
{
    network_run("ip tuntap add dev %s mode tap && ip addr add " TALK_HOST "/24 dev %s && "
                "ip link set %s up",
                name, name, name);
}

static void remove_link(const char *name)
{
    network_run("ip link del %s", name);
}

/* ---- the machine alone ---- */

struct net_rig {
    struct rig rig;
    struct nets nets;
    struct virtio_net_config config;
    struct device_wish wish;
    struct talk talk;
};

static void net_start(struct net_rig *n, const char *cmdline)
{
    static const uint8_t mac[] = {2, 0x10, 0x20, 0x30, 0x40, 0x50};
    struct err err = {0};
    Ferry__NetConfig net = FERRY__NET_CONFIG__INIT, *list[] = {&net};
    Ferry__MachineConfig config = FERRY__MACHINE_CONFIG__INIT;
    make_tap("tapx");
    net.tap = "tapx";
    config.nets = list;
    config.n_nets = 1;
    if (nets_open(&n->nets, &config, &err) < 0)
        fail_msg("%s", err.text);
    n->config = (struct virtio_net_config){.fd = n->nets.fds[0]};
    memcpy(n->config.mac, mac, sizeof(mac));
    n->wish = (struct device_wish){.type = &virtio_net_type, .config = &n->config};
    talk_start(&n->talk, NULL);
    rig_start(&n->rig, &(struct rig_options){.guest = "net",
                                             .cmdline = cmdline,
                                             .memory_bytes = 32ull << 20,
                                             .devices = &n->wish,
                                             .ndevices = 1});
}

static void net_stop(struct net_rig *n)
{
    rig_check_clean(&n->rig);
    rig_stop(&n->rig);
    talk_stop(&n->talk);
    nets_fini(&n->nets);
    remove_link("tapx");
}

static void serves(void **state)
{
    static const char *const ways[] = {
        RIG_PEERS,
        RIG_PEERS " nomerge",
        RIG_PEERS " nocsum",
        RIG_PEERS " nocsum nomerge noindirect noevent",
        RIG_PEERS " buffer=64 noevent",
        RIG_PEERS " acpi=off depth=32",
    };
    for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
        struct net_rig n;
        net_start(&n, ways[i]);
        talk_expect(&n.talk, 100);
        assert_true(rig_last_value(&n.rig, "back") > 0);
        assert_true(rig_last_value(&n.rig, "answers") > 0);
        assert_int_equal(rig_last_value(&n.rig, "partial") > 0, !strstr(ways[i], "nocsum"));
        assert_int_equal(rig_last_value(&n.rig, "merged") > 0, !strstr(ways[i], "nomerge"));
        net_stop(&n);
    }
}

static void survives_moves(void **state)
{
    struct net_rig n;
    net_start(&n, *state);
    talk_expect(&n.talk, 20);
    rig_shuffle(&n.rig, getenv("FERRY_LONG") ? CYCLES_LONG : CYCLES, CLOCK_FREEZE);
    talk_expect(&n.talk, 100);
    net_stop(&n);
}

static void survives_resets(void **state)
{
    struct net_rig n;
    net_start(&n, RIG_PEERS);
    for (int i = 0; i < 5; i++) {
        talk_expect(&n.talk, 20);
        rig_reset(&n.rig);
    }
    talk_expect(&n.talk, 20);
    net_stop(&n);
}

/* What the guest's bell tells never comes to the vCPU's thread. */
static void doorbells_cost_no_exit(void **state)
{
    struct net_rig n;
    net_start(&n, RIG_PEERS);
    talk_expect(&n.talk, 500);
    uint64_t writes = n.rig.counters.exits[COUNTER_MMIO_WRITE]; /* before what they follow from */
    uint64_t irqs = n.rig.counters.devices[0].values[COUNTER_DEVICE_INTERRUPTS];
    uint64_t bells = n.rig.counters.devices[0].values[COUNTER_DEVICE_WAKEUPS];
    assert_true(bells > 100);
    assert_true(writes < irqs + 60);
    net_stop(&n);
}

/* ---- segments: a frame that is larger than any packet ---- */

#define TCP_BYTES 20000u
#define HEADERS 54u /* Ethernet, IP, TCP */
#define NEEDS_CSUM 1
#define GSO_TCP4 1

/* Before each frame of such a socket. */
struct vnet {
    uint8_t flags, gso_type;
    uint16_t hdr_len, gso_size, csum_start, csum_offset;
};

static int open_packet_socket(const char *device)
{
    int on = 1, fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, htons(ETH_P_IP));
    struct sockaddr_ll at = {.sll_family = AF_PACKET,
                             .sll_protocol = htons(ETH_P_IP),
                             .sll_ifindex = (int)if_nametoindex(device)};
    assert_true(fd >= 0);
    assert_int_equal(setsockopt(fd, SOL_PACKET, PACKET_VNET_HDR, &on, sizeof(on)), 0);
    struct timeval limit = {.tv_sec = 20};
    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)), 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&at, sizeof(at)), 0);
    return fd;
}

/* The guest's own frame as the host's network has it: one, with what is to be cut. */
static void segments_leave_whole(void **state)
{
    static uint8_t packet[70000];
    struct vnet header;
    struct net_rig n;
    net_start(&n, RIG_PEERS " tso=20000");
    int fd = open_packet_socket("tapx");
    for (;;) {
        ssize_t got = recv(fd, packet, sizeof(packet), 0);
        assert_true(got > 0);
        memcpy(&header, packet, sizeof(header));
        if (got < (ssize_t)(sizeof(header) + HEADERS) || packet[sizeof(header) + 23] != IPPROTO_TCP)
            continue;
        assert_int_equal(got, sizeof(header) + HEADERS + TCP_BYTES);
        assert_int_equal(header.gso_type, GSO_TCP4);
        assert_int_equal(header.gso_size, 1000);
        assert_int_equal(header.flags, NEEDS_CSUM);
        break;
    }
    close(fd);
    net_stop(&n);
}

static void put_be(uint8_t *to, uint32_t value, unsigned bytes)
{
    for (unsigned i = 0; i < bytes; i++)
        to[i] = (uint8_t)(value >> 8 * (bytes - 1 - i));
}

static uint16_t sum(const uint8_t *at, size_t bytes, uint32_t from)
{
    for (size_t i = 0; i < bytes; i += 2)
        from += (uint32_t)(at[i] << 8 | at[i + 1]);
    while (from >> 16)
        from = (from & 0xffff) + (from >> 16);
    return (uint16_t)from;
}

/* TCP_BYTES of a stream as guests/net_frames.c knows it, to the card of net_start. */
static size_t make_segments(uint8_t *packet)
{
    struct vnet header = {.flags = NEEDS_CSUM,
                          .gso_type = GSO_TCP4,
                          .hdr_len = HEADERS,
                          .gso_size = 1000,
                          .csum_start = 34,
                          .csum_offset = 16};
    static const uint8_t ether[] = {2, 0x10, 0x20, 0x30, 0x40, 0x50, 2, 0, 0, 0, 0, 1, 8, 0};
    uint8_t *frame = packet + sizeof(header), *ip = frame + 14, *tcp = ip + 20;
    memcpy(packet, &header, sizeof(header));
    memset(frame, 0, HEADERS);
    memcpy(frame, ether, sizeof(ether));
    ip[0] = 0x45;
    put_be(ip + 2, 40 + TCP_BYTES, 2);
    ip[8] = 64;
    ip[9] = IPPROTO_TCP;
    inet_pton(AF_INET, TALK_HOST, ip + 12);
    inet_pton(AF_INET, TALK_GUEST, ip + 16);
    put_be(ip + 10, (uint16_t)~sum(ip, 20, 0), 2);
    put_be(tcp, 9, 2);
    put_be(tcp + 2, 9, 2);
    tcp[12] = 0x50;
    tcp[13] = 0x10;
    put_be(tcp + 16, sum(ip + 12, 8, IPPROTO_TCP + 20 + TCP_BYTES), 2);
    for (uint32_t i = 0; i < TCP_BYTES; i++)
        tcp[20 + i] = (uint8_t)(i * 31 + (i >> 8) * 7 + (i >> 16));
    return sizeof(header) + HEADERS + TCP_BYTES;
}

/* Whole to a guest that can, cut for one that cannot. */
static void segments_come(void **state)
{
    static const char *const ways[] = {RIG_PEERS, RIG_PEERS " notso", RIG_PEERS " nocsum"};
    static uint8_t packet[70000];
    for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
        struct net_rig n;
        net_start(&n, ways[i]);
        talk_expect(&n.talk, 20);
        int fd = open_packet_socket("tapx");
        size_t bytes = make_segments(packet);
        assert_int_equal(send(fd, packet, bytes, 0), bytes);
        rig_expect(&n.rig, NULL, "tcp=20000", 20000);
        assert_int_equal(rig_last_value(&n.rig, "big"), i == 0);
        close(fd);
        net_stop(&n);
    }
}

/* ---- as a user has it ---- */

static void pauses_and_jumbo_frames(void **state)
{
    struct talk talk;
    struct host h;
    host_start(&h);
    make_bridge(9000);
    talk_start(&talk, NULL);
    host_must(&h, "start a --kernel %%G/net.elf --memory 32M --net bridge=br0 --cmdline "
                  "mtu=9000~" PEERS);
    talk_expect(&talk, 100);
    for (unsigned i = 0; i < 5; i++) {
        host_must(&h, "pause a");
        host_must(&h, "resume a");
        talk_expect(&talk, 50);
    }
    host_expect_healthy(&h, "a");
    talk_stop(&talk);
    host_stop(&h);
    remove_link("br0");
}

static void goes_on_from_a_snapshot(void **state)
{
    struct talk talk;
    struct host h;
    host_start(&h);
    make_tap("tapx");
    talk_start(&talk, NULL);
    host_must(&h, "start a --kernel %%G/net.elf --memory 32M --net tap=tapx --cmdline " PEERS);
    talk_expect(&talk, 50);
    host_must(&h, "snapshot create a live");
    talk_expect(&talk, 50);
    host_must(&h, "snapshot create a last --stop");
    host_expect(&h, "stopped", 5000, "list");
    host_must(&h, "rm a");
    for (unsigned i = 0; i < 2; i++) {
        host_must(&h, "restore %s --name a", i ? "live" : "last");
        talk_expect(&talk, 50);
        host_expect_healthy(&h, "a");
        host_must(&h, "kill a");
        host_must(&h, "rm a");
    }
    talk_stop(&talk);
    remove_link("tapx");
    host_refuses(&h, "tap 'tapx': there is no such interface", "restore live --name a");
    assert_int_equal(host_run(&h, NULL, 0, "show a"), 1);
    host_stop(&h);
}

/* Two of one guest, each with a tap of its own and the same peer behind it. */
static void clones_have_their_own(void **state)
{
    struct talk talk[2];
    struct host h;
    host_start(&h);
    make_tap("tapx");
    make_tap("tap1");
    make_tap("tap2");
    talk_start(&talk[0], "tapx");
    host_must(&h, "start a --kernel %%G/net.elf --memory 32M --net tap=tapx --cmdline " PEERS);
    talk_expect(&talk[0], 50);
    host_must(&h, "snapshot create a s");
    host_refuses(&h, "tap 'tapx': it is in use", "restore s --name b");
    host_refuses(&h, "clones cannot share tap 'tapx'", "restore s --name b --count 2");
    host_refuses(&h, "clones cannot share tap 'tap1'",
                 "restore s --name b --count 2 --net tap=tap1");
    host_refuses(&h, "tap 'none': there is no such interface", "restore s --name b --net tap=none");
    host_refuses(&h, "tap 'tap3': there is no such interface",
                 "restore s --name b --count 3 --net tap=tap{}");
    host_refuses(&h, "more networks are given than the saved machine has, which is 1",
                 "restore s --name b --net tap=tap1 --net tap=tap2");
    host_refuses(&h, "network 0 cannot have another mac: the saved guest knows it as ",
                 "restore s --name b --net tap=tap1,mac=52:54:00:12:34:56");
    assert_int_equal(host_run(&h, NULL, 0, "show b"), 1);
    talk_expect(&talk[0], 20); /* which disturbed nobody */
    talk_stop(&talk[0]);
    host_must(&h, "restore s --name b --count 2 --net tap=tap{}");
    host_expect(&h, "tap tap2, ", 1000, "show b-2");
    talk_start(&talk[0], "tap1");
    talk_start(&talk[1], "tap2");
    talk_expect(&talk[0], 50);
    talk_expect(&talk[1], 50);
    for (const char *const *name = (const char *const[]){"a", "b-1", "b-2", NULL}; *name; name++)
        host_expect_healthy(&h, *name);
    talk_stop(&talk[0]);
    talk_stop(&talk[1]);
    host_stop(&h);
    remove_link("tapx");
    remove_link("tap1");
    remove_link("tap2");
}

/* The cable is pulled under a guest that talks: it hears of it, and lives. */
static void a_tap_goes_away(void **state)
{
    struct talk talk;
    struct host h;
    host_start(&h);
    make_tap("tapx");
    talk_start(&talk, NULL);
    host_must(&h, "start a --kernel %%G/net.elf --memory 32M --net tap=tapx --cmdline " PEERS);
    talk_expect(&talk, 20);
    host_expect(&h, "link=1", 1000, "console a --log");
    remove_link("tapx");
    host_expect(&h, "link=0", 20000, "console a --log");
    host_expect_healthy(&h, "a");
    host_expect(&h, "its tap was removed", 5000, "show a");
    talk_stop(&talk);
    host_stop(&h);
}

/* One guest sends as fast as it can; another on the same bridge talks on, and ferryd rules both. */
static void a_flood_is_bounded(void **state)
{
    struct talk talk;
    struct host h;
    host_start(&h);
    make_bridge(1500);
    talk_start(&talk, NULL);
    host_must(&h, "start a --kernel %%G/net.elf --memory 32M --net bridge=br0 --cmdline " PEERS);
    talk_expect(&talk, 50);
    host_must(&h, "start f --kernel %%G/net.elf --memory 32M --net bridge=br0 --cmdline "
                  "flood~ip=10.77.0.3~peer=" TALK_HOST);
    host_expect(&h, "sent=10", 20000, "console f --log");
    struct host_usage before = host_usage(host_pid(&h, "f"));
    talk_expect(&talk, 100);
    struct host_usage after = host_usage(host_pid(&h, "f"));
    assert_true(after.rss_kib < before.rss_kib + 65536); /* with the guest's own 32 MiB */
    assert_int_equal(after.fds, before.fds);
    host_must(&h, "pause f");
    talk_expect(&talk, 50);
    host_must(&h, "resume f");
    host_must(&h, "snapshot create f s");
    host_expect_healthy(&h, "a");
    host_expect_healthy(&h, "f");
    talk_stop(&talk);
    host_stop(&h);
    remove_link("br0");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(serves),
        {"survives moves", survives_moves, NULL, NULL, RIG_PEERS},
        {"survives moves without its features", survives_moves, NULL, NULL,
         RIG_PEERS " nomerge nocsum noindirect noevent"},
        cmocka_unit_test(survives_resets),
        cmocka_unit_test(doorbells_cost_no_exit),
        cmocka_unit_test(segments_leave_whole),
        cmocka_unit_test(segments_come),
        cmocka_unit_test(pauses_and_jumbo_frames),
        cmocka_unit_test(goes_on_from_a_snapshot),
        cmocka_unit_test(clones_have_their_own),
        cmocka_unit_test(a_tap_goes_away),
        cmocka_unit_test(a_flood_is_bounded),
    };
    rig_need_kvm();
    network_need();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
