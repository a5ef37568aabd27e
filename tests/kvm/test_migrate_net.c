/*
 * A guest with a network that moves between two hosts (wired.h). It checks every frame, and its
 * peer, which is on the first host's bridge, talks on.
 */
#include <arpa/inet.h>
#include <linux/filter.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <poll.h>
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

#include "base/now.h"
#include "tests/kvm/host.h"
#include "tests/kvm/network.h"
#include "tests/kvm/rig.h"
#include "tests/kvm/talk.h"
#include "tests/kvm/wired.h"

#define PEERS "ip=" TALK_GUEST "~peer=" TALK_HOST
#define MAC "52:54:00:77:00:02"
#define MOVES 4
#define PATIENCE_MS 20000

static const uint8_t mac[] = {0x52, 0x54, 0, 0x77, 0, 2};

struct hosts {
    struct wired wired;
    int rarp, arp; /* hear what of that goes over the veth */
};

/* Not all that goes over it: a guest does. */
static int open_wire(uint16_t kind)
{
    struct sock_filter of_kind[] = {{BPF_LD | BPF_H | BPF_ABS, 0, 0, 12},
                                    {BPF_JMP | BPF_JEQ | BPF_K, 0, 1, kind},
                                    {BPF_RET | BPF_K, 0, 0, UINT32_MAX},
                                    {BPF_RET | BPF_K, 0, 0, 0}};
    const struct sock_fprog program = {.len = 4, .filter = of_kind};
    int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, htons(ETH_P_ALL));
    struct sockaddr_ll at = {.sll_family = AF_PACKET,
                             .sll_protocol = htons(ETH_P_ALL),
                             .sll_ifindex = (int)if_nametoindex("a0")};
    assert_true(fd >= 0);
    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof(program)), 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&at, sizeof(at)), 0);
    return fd;
}

static void start_two(struct hosts *t)
{
    wired_start(&t->wired);
    t->rarp = open_wire(ETHERTYPE_REVARP);
    t->arp = open_wire(ETHERTYPE_ARP);
}

static void stop_two(struct hosts *t)
{
    close(t->rarp);
    close(t->arp);
    wired_stop(&t->wired);
}

static void forget_wire(struct hosts *t)
{
    uint8_t frame[2048];
    while (recv(t->rarp, frame, sizeof(frame), MSG_DONTWAIT) >= 0 ||
           recv(t->arp, frame, sizeof(frame), MSG_DONTWAIT) >= 0)
        ;
}

/* So many frames that say where the guest is, from the guest to everybody. */
static void expect_announced(int wire, unsigned count)
{
    uint64_t until = now_ns() + PATIENCE_MS * 1000000ull;
    while (count) {
        uint8_t frame[2048];
        struct pollfd heard = {.fd = wire, .events = POLLIN};
        if (now_ns() > until)
            fail_msg("%u announcements are missing", count);
        if (poll(&heard, 1, 100) <= 0 || recv(wire, frame, sizeof(frame), 0) < (ssize_t)ETH_ZLEN)
            continue;
        if (frame[0] == 0xff && memcmp(frame + 6, mac, 6) == 0 && memcmp(frame + 22, mac, 6) == 0)
            count--;
    }
}

static void move(struct hosts *t, unsigned to)
{
    forget_wire(t);
    host_must(&t->wired.h[!to], "migrate web %s", t->wired.address[to]);
    host_expect(&t->wired.h[to], "running", 1000, "show web");
}

static void talks_on(void **state)
{
    struct hosts t;
    struct talk talk;
    start_two(&t);
    talk_start(&talk, NULL);
    host_must(&t.wired.h[0],
              "start web --kernel %%G/net.elf --memory 32M --net bridge=br0,mac=" MAC
              " --cmdline %s" PEERS,
              (const char *)*state);
    talk_expect(&talk, 50);
    for (unsigned i = 0; i < MOVES; i++) {
        unsigned to = !(i % 2);
        move(&t, to);
        expect_announced(t.rarp, 5);
        talk_expect(&talk, 50);
        host_expect_healthy(&t.wired.h[to], "web");
        network_expect("%s ip -o link show master br0 | grep -q ferry", to ? "!" : "");
        host_expect(&t.wired.h[to], "virtio-net0.announced", 1000, "stats web");
    }
    talk_stop(&talk);
    host_must(&t.wired.h[0], "kill web");
    stop_two(&t);
}

/* Taps of the operator's stay when a guest has gone, and with them what bridges know of it: nobody
 * finds it but for its announcement. */
static void a_silent_guest_is_found(void **state)
{
    struct hosts t;
    struct talk talk;
    start_two(&t);
    network_run("ip tuntap add dev web mode tap && ip link set web master br0 up");
    wired_run_other(&t.wired, "ip tuntap add dev web mode tap && ip link set web master br0 up");
    host_must(&t.wired.h[0], "start web --kernel %%G/net.elf --memory 32M --net tap=web,mac=" MAC
                             " --cmdline " PEERS "~rate=1");
    talk_start(&talk, NULL);
    talk_expect(&talk, 1);
    talk_stop(&talk);
    network_run("bridge fdb show br br0 | grep -i " MAC " | grep -q 'dev web '");
    host_must(&t.wired.h[0], "pause web"); /* and says nothing by itself */
    host_must(&t.wired.h[0], "migrate web %s", t.wired.address[1]);
    forget_wire(&t);
    host_must(&t.wired.h[1], "resume web");
    expect_announced(t.rarp, 5);
    network_expect("bridge fdb show br br0 | grep -i " MAC " | grep -q 'dev a0 '");
    talk_start(&talk, NULL);
    talk_expect(&talk, 3);
    host_expect_healthy(&t.wired.h[1], "web");
    talk_stop(&talk);
    host_must(&t.wired.h[1], "kill web");
    network_run("ip link del web");
    stop_two(&t);
}

/* By its addresses, too: ARP. */
static void its_addresses_are_announced(void **state)
{
    struct hosts t;
    struct talk talk;
    start_two(&t);
    host_must(&t.wired.h[0], "start web --kernel %%G/net.elf --memory 32M --net bridge=br0,mac=" MAC
                             " --cmdline " PEERS);
    talk_start(&talk, NULL);
    talk_expect(&talk, 10);
    move(&t, 1);
    expect_announced(t.arp, 5);
    talk_expect(&talk, 10);
    talk_stop(&talk);
    host_must(&t.wired.h[1], "kill web");
    stop_two(&t);
}

static void a_host_without_its_network_is_refused(void **state)
{
    struct hosts t;
    struct talk talk;
    char args[200];
    start_two(&t);
    network_run("ip link add br1 type bridge && ip link set br1 up");
    host_must(&t.wired.h[0], "start web --kernel %%G/net.elf --memory 32M --net bridge=br0 "
                             "--net bridge=br1 --cmdline " PEERS);
    talk_start(&talk, NULL);
    talk_expect(&talk, 10);
    for (unsigned i = 0; i < 2; i++) {
        snprintf(args, sizeof(args), "migrate web %s%s", t.wired.address[1], i ? "" : " --check");
        host_refuses(&t.wired.h[0], "bridge 'br1': there is no such interface", args);
    }
    talk_expect(&talk, 10);
    wired_run_other(&t.wired,
                    "ip link show br0 >/dev/null && ! ip -o link show master br0 | grep ferry");
    talk_stop(&talk);
    host_must(&t.wired.h[0], "kill web");
    stop_two(&t);
    network_run("ip link del br1");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        {"talks on", talks_on, NULL, NULL, ""},
        {"talks on without features", talks_on, NULL, NULL, "nomerge~nocsum~noindirect~noevent~"},
        cmocka_unit_test(a_silent_guest_is_found),
        cmocka_unit_test(its_addresses_are_announced),
        cmocka_unit_test(a_host_without_its_network_is_refused),
    };
    rig_need_kvm();
    network_need();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
