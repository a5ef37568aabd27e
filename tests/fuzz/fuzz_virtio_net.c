/*
 * virtio-net between a driver that means harm (virtio_ops.h) and a network that does:
 *
 *     6 length2 bytes...   a packet from the network, with the header before it
 *     7                    the guest came from another host: it is announced
 */
#include <sys/socket.h>
#include <unistd.h>

#include "machine/devices/virtio_net.h"
#include "tests/fuzz/virtio_ops.h"

#define PACKET_MAX 4096u
#define PACKETS_MAX 64u /* on their way to the network */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int network = -1;

static int any_init(int fd, unsigned *offloads, struct err *err)
{
    *offloads = TAP_CSUM | TAP_TSO4 | TAP_TSO6;
    return 0;
}

static int any_offloads(int fd, unsigned offloads)
{
    return 0;
}

static const struct tap_ops any_tap = {.init = any_init, .set_offloads = any_offloads};

static void send_packet(struct span *in)
{
    uint8_t length[2], packet[PACKET_MAX] = {0};
    if (!ops_take(in, length, 2))
        return;
    size_t bytes = le_get(length, 2) % PACKET_MAX, have = bytes < in->left ? bytes : in->left;
    ops_take(in, packet, have);
    if (send(network, packet, bytes, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
        return; /* full, as a tap may be */
}

static void take_packets(void)
{
    uint8_t packet[PACKET_MAX];
    for (unsigned i = 0; i < PACKETS_MAX && recv(network, packet, sizeof(packet), MSG_DONTWAIT) > 0;
         i++)
        ;
}

static void more(struct ops *o, uint8_t op, struct span *in)
{
    if (op == 6) {
        send_packet(in);
    } else if (o->heavy++ < OPS_HEAVY_MAX) {
        o->type->quiesce(o->dev);
        o->type->arrived(o->dev);
        o->type->resume(o->dev);
        timer_set_run(&o->timers);
    }
    take_packets();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct virtio_net_config config = {.mac = {2, 0, 0, 0, 0, 1}, .ops = &any_tap};
    static struct ops ops = {.type = &virtio_net_type, .config = &config, .more = more};
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) < 0)
        abort();
    config.fd = pair[0];
    network = pair[1];
    ops_run(&ops, data, size);
    close(pair[0]);
    close(pair[1]);
    return 0;
}
