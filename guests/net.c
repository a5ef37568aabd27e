/*
 * virtio-net as its driver sees it. It talks to a peer by UDP: what it sends has to come back as it
 * was, and what others send to its port 7 it sends back; it answers ARP and pings. Every frame is
 * checked whole: headers, lengths, checksums, contents. What is lost on the way is counted, for a
 * network may lose it.
 *
 *   ip=A.B.C.D     who it is                peer=A.B.C.D  whom it talks to, without it to nobody
 *   rate=N         packets a second, 500    depth=N       of them on their way at once, 8
 *   mtu=N          1500                     buffer=N      bytes of a receive buffer
 *   tso=N          asks the device to cut N bytes of TCP for the peer, in each line once
 *   flood          sends to the peer's port 9 as fast as it goes, and listens only
 *   nomerge, nocsum, notso, noindirect, noevent   features left alone
 */
#include "net.h"
#include "virtio.h"

#define NS_PER_S 1000000000ul
#define LOST_NS (2 * NS_PER_S)
#define ASK_NS (NS_PER_S / 5)
#define WAIT_NS (20 * NS_PER_S)

#define F_CSUM (1ul << 0)
#define F_GUEST_CSUM (1ul << 1)
#define F_MAC (1ul << 5)
#define F_GUEST_TSO4 (1ul << 7)
#define F_HOST_TSO4 (1ul << 11)
#define F_MERGE (1ul << 15)
#define F_STATUS (1ul << 16)

#define RX 0
#define TX 1
#define BUFFERS 64u
#define BUFFER_MAX 9216u
#define GUARD 16u
#define PATTERN 0xa5
#define SENDS 32u
#define DEPTH_MAX 64u
#define PING_MAGIC 0x676e6970u
#define TCP_SEGMENT 1000
#define SILENT_WAKES 200u
#define TICKS_HZ 200
#define BEHIND_NS (NS_PER_S / 10)

/* The beginning of what goes to the peer and back; bytes that follow from `number` are behind it.
 */
struct ping {
    uint32_t magic, number;
};

struct flight {
    uint32_t number, bytes;
    uint64_t sent_ns;
    bool busy;
};

const char guest_name[] = "net";
static struct life life;
static struct virtio_dev dev;
static struct vq_rings rings[2];
static struct net_packet packet, sends[SENDS];
static uint8_t buffers[BUFFERS][BUFFER_MAX + GUARD];
static uint8_t buffer_of[VQ_MAX], send_of[VQ_MAX];
static bool sending[SENDS];
static struct flight flights[DEPTH_MAX];
static struct net_end self, peer;
static bool peer_known, flooding, link_up;
static uint32_t buffer_bytes, mtu, depth, next_number, tcp_at;
static uint64_t seed, random_state, next_ns, ask_ns, rate;
static unsigned silent;
static uint64_t nr_sent, nr_back, nr_lost, nr_late, nr_answers, nr_merged, nr_partial, nr_big,
    nr_tcp_bytes, nr_frames;

static void fail(const char *what)
{
    life_error(&life, "%s: status=%x isr=%x", what, virtio_get(&dev, VM_STATUS),
               virtio_get(&dev, VM_ISR));
    life_finish(&life);
}

/* ---- sending ---- */

static void take_sent(void)
{
    unsigned head;
    uint32_t len;
    int got;

    while ((got = vq_take(&dev.queues[TX], &head, &len)) > 0) {
        if (len)
            life_error(&life, "a frame that was sent came back with %u bytes", len);
        sending[send_of[head]] = false;
    }
    if (got < 0)
        fail("the device gives back a frame twice");
}

/* A place for a frame; waits until there is one. */
static struct net_packet *take_place(void)
{
    for (;;) {
        const char *wrong;

        take_sent();
        for (unsigned i = 0; i < SENDS; i++)
            if (!sending[i])
                return &sends[i];
        vq_kick(&dev.queues[TX]);
        wrong = vq_wait(&dev.queues[TX], WAIT_NS);
        if (wrong)
            fail(wrong);
    }
}

/* The header is cut off by turns: it need not stand alone. */
static void send(struct net_packet *p)
{
    unsigned index = (unsigned)(p - sends);
    uint32_t all = HEADER_BYTES + p->bytes, cut = 1 + (uint32_t)random_next(&random_state) % all;
    struct vq_seg segs[2] = {{.at = p, .len = cut}, {.at = (uint8_t *)p + cut, .len = all - cut}};
    bool indirect = random_next(&random_state) & 1;
    int head = vq_add(&dev.queues[TX], segs, cut < all ? 2 : 1, indirect);

    if (head < 0)
        fail("there is no room in a queue of what was sent");
    send_of[head] = (uint8_t)index;
    sending[index] = true;
    vq_kick(&dev.queues[TX]);
}

static void fill(uint8_t *to, uint32_t number, uint32_t bytes)
{
    for (uint32_t i = 0; i < bytes; i++)
        to[i] = (uint8_t)(random_mix(seed ^ (uint64_t)number << 20 ^ i >> 3) >> (i & 7) * 8);
}

static bool by_device(void)
{
    return (dev.features & F_CSUM) && (random_next(&random_state) & 1);
}

static void send_ping(uint64_t now)
{
    struct flight *f = &flights[next_number % depth];
    struct net_packet *p = take_place();
    uint32_t most = mtu - IP_BYTES - UDP_BYTES;
    struct ping ping = {.magic = PING_MAGIC, .number = next_number};

    *f = (struct flight){.number = next_number, .sent_ns = now, .busy = true};
    f->bytes = (uint32_t)(sizeof(ping) + random_next(&random_state) % (most - sizeof(ping) + 1));
    memcpy(net_udp_data(p), &ping, sizeof(ping));
    fill(net_udp_data(p) + sizeof(ping), ping.number, f->bytes - (uint32_t)sizeof(ping));
    net_make_udp(p, &self, &peer, PORT_DISCARD, PORT_ECHO, f->bytes, by_device());
    send(p);
    next_number++;
    nr_sent++;
}

static void expire(uint64_t now)
{
    for (uint32_t i = 0; i < depth; i++)
        if (flights[i].busy && now - flights[i].sent_ns > LOST_NS) {
            flights[i].busy = false;
            nr_lost++;
        }
}

static void send_due(uint64_t now)
{
    expire(now);
    if (!peer_known && now >= ask_ns) {
        struct net_packet *p = take_place();

        net_make_arp(p, &self, peer.ip, NULL);
        send(p);
        ask_ns = now + ASK_NS;
    }
    if (peer_known && now >= next_ns && !flights[next_number % depth].busy) {
        send_ping(now);
        next_ns += NS_PER_S / rate;
        if (next_ns + BEHIND_NS < now)
            next_ns = now;
    }
}

static void send_flood(void)
{
    for (unsigned i = 0; peer_known && i < SENDS; i++) {
        struct net_packet *p = take_place();

        net_make_udp(p, &self, &peer, PORT_DISCARD, PORT_DISCARD, mtu - IP_BYTES - UDP_BYTES,
                     dev.features & F_CSUM);
        send(p);
        nr_sent++;
    }
}

static void send_tcp(uint32_t bytes)
{
    struct net_packet *p;

    if (!bytes || !peer_known || !(dev.features & F_HOST_TSO4))
        return;
    p = take_place();
    net_make_tcp(p, &self, &peer, tcp_at, bytes, TCP_SEGMENT);
    tcp_at += bytes;
    send(p);
}

/* ---- receiving ---- */

static void give_buffer(unsigned index)
{
    struct vq_seg seg = {.at = buffers[index], .len = buffer_bytes, .in = true};
    int head = vq_add(&dev.queues[RX], &seg, 1, random_next(&random_state) & 1);

    if (head < 0)
        fail("there is no room for a receive buffer");
    buffer_of[head] = (uint8_t)index;
}

/* Adds a buffer to the packet; false when there is none. */
static bool take_buffer(uint32_t *at)
{
    unsigned head;
    uint32_t len;
    int got = vq_take(&dev.queues[RX], &head, &len);
    uint8_t *from;

    if (got < 0)
        fail("the device gives back a buffer twice");
    if (got == 0)
        return false;
    from = buffers[buffer_of[head]];
    if (len > buffer_bytes || *at + len > HEADER_BYTES + FRAME_MAX)
        fail("a buffer came back with more than fits into it");
    for (unsigned i = 0; i < GUARD; i++)
        if (from[buffer_bytes + i] != PATTERN)
            fail("bytes behind a buffer were written");
    memcpy((uint8_t *)&packet + *at, from, len);
    *at += len;
    give_buffer(buffer_of[head]);
    return true;
}

static bool take_packet(void)
{
    uint32_t at = 0, count;

    if (!take_buffer(&at))
        return false;
    if (at < HEADER_BYTES + ETHER_BYTES)
        fail("a frame is shorter than its headers");
    count = packet.header.buffers;
    if (count == 0 || (count > 1 && !(dev.features & F_MERGE)))
        fail("a frame says that it fills a wrong number of buffers");
    for (uint32_t i = 1; i < count; i++)
        if (!take_buffer(&at))
            fail("not all buffers of a frame came at once");
    packet.bytes = at - HEADER_BYTES;
    nr_merged += count > 1;
    nr_frames++;
    return true;
}

static void check_header(void)
{
    const struct net_header *h = &packet.header;

    if ((h->flags & ~(NEEDS_CSUM | DATA_VALID)) || (h->flags && !(dev.features & F_GUEST_CSUM)) ||
        (h->gso && (h->gso != GSO_TCP4 || !(dev.features & F_GUEST_TSO4))))
        life_error(&life, "flags %x and segments %x were not negotiated", h->flags, h->gso);
    nr_partial += h->flags & NEEDS_CSUM;
    nr_big += h->gso != 0;
}

static void take_back(const struct net_seen *seen)
{
    struct ping ping;
    struct flight *f;
    static uint8_t expected[FRAME_MAX];

    if (seen->bytes < sizeof(ping))
        return;
    memcpy(&ping, seen->data, sizeof(ping));
    f = &flights[ping.number % depth];
    if (ping.magic != PING_MAGIC) {
        life_error(&life, "something came that was never sent");
    } else if (!f->busy || f->number != ping.number) {
        nr_late++;
    } else {
        fill(expected, ping.number, f->bytes);
        if (seen->bytes != f->bytes ||
            memcmp(seen->data + sizeof(ping), expected, f->bytes - sizeof(ping)))
            life_error(&life, "packet %u came back as another", ping.number);
        f->busy = false;
        nr_back++;
    }
}

static void echo(const struct net_seen *seen)
{
    struct net_end to = {.ip = seen->ip};
    struct net_packet *p = take_place();

    memcpy(to.mac, seen->mac, 6);
    memcpy(net_udp_data(p), seen->data, seen->bytes);
    net_make_udp(p, &self, &to, PORT_ECHO, seen->from_port, seen->bytes, by_device());
    send(p);
    nr_answers++;
}

static void take_udp(const struct net_seen *seen)
{
    if (seen->to_port == PORT_ECHO)
        echo(seen);
    else if (seen->to_port == PORT_DISCARD && seen->ip == peer.ip)
        take_back(seen);
}

static void answer_arp(const struct net_seen *seen)
{
    struct net_packet *p = take_place();

    net_make_arp(p, &self, seen->ip, seen->mac);
    send(p);
}

static void answer_ping(void)
{
    struct net_packet *p = take_place();

    memcpy(p, &packet, HEADER_BYTES + packet.bytes);
    p->bytes = packet.bytes;
    net_answer_ping(p, &self);
    send(p);
    nr_answers++;
}

static void take_frame(void)
{
    struct net_seen seen;
    const char *wrong = net_look(&packet, &self, &seen);

    check_header();
    if (wrong) {
        life_error(&life, "%s, in a frame of %u bytes with flags %x", wrong, packet.bytes,
                   packet.header.flags);
        return;
    }
    if ((seen.kind == NET_ARP_ASKS || seen.kind == NET_ARP_SAYS) && peer.ip && seen.ip == peer.ip) {
        memcpy(peer.mac, seen.mac, 6);
        peer_known = true;
    }
    if (seen.kind == NET_ARP_ASKS)
        answer_arp(&seen);
    else if (seen.kind == NET_PING)
        answer_ping();
    else if (seen.kind == NET_UDP)
        take_udp(&seen);
    else if (seen.kind == NET_TCP)
        nr_tcp_bytes += seen.bytes;
}

/* ---- life ---- */

/* Until a frame or the timer comes. Frames that only ever the timer tells of have lost their
 * interrupt. */
static void rest(void)
{
    volatile uint32_t *irqs = &cpu_self()->irqs[VECTOR_PIN + dev.pin];
    uint32_t seen = *irqs;
    bool slept = vq_ask(&dev.queues[RX]);

    if (slept)
        cpu_wait(irqs, seen);
    vq_hush(&dev.queues[RX]);
    if (*irqs != seen) {
        virtio_put(&dev, VM_ISR_ACK, virtio_get(&dev, VM_ISR));
        silent = 0;
    } else if (slept && !vq_ask(&dev.queues[RX]) && ++silent > SILENT_WAKES) {
        fail("frames came, but no interrupt did");
    }
    vq_hush(&dev.queues[RX]);
}

static void print_line(uint64_t now)
{
    say("ms=%lu sent=%lu back=%lu lost=%lu late=%lu answers=%lu frames=%lu merged=%lu partial=%lu "
        "big=%lu tcp=%lu link=%u errors=%lu",
        (now - life.started_ns) / 1000000, nr_sent, nr_back, nr_lost, nr_late, nr_answers,
        nr_frames, nr_merged, nr_partial, nr_big, nr_tcp_bytes, link_up, life.errors);
}

static uint32_t address(const char *key)
{
    char text[32] = "";
    uint32_t ip = 0, part = 0;

    cmdline_word(key, text, sizeof(text));
    for (const char *c = text; *c; c++) {
        if (*c == '.') {
            ip = ip << 8 | part;
            part = 0;
        } else {
            part = part * 10 + (uint32_t)(*c - '0');
        }
    }
    return text[0] ? ip << 8 | part : 0;
}

static uint64_t wanted(void)
{
    uint64_t want = F_MAC | F_STATUS;

    want |= cmdline_has("nomerge") ? 0 : F_MERGE;
    want |= cmdline_has("nocsum") ? 0 : F_CSUM | F_GUEST_CSUM;
    if (!cmdline_has("notso") && (want & F_CSUM))
        want |= F_HOST_TSO4 | (want & F_MERGE ? F_GUEST_TSO4 : 0);
    want |= cmdline_has("noindirect") ? 0 : VIRTIO_INDIRECT;
    return want | (cmdline_has("noevent") ? 0 : VIRTIO_EVENT_INDEX);
}

static const char *begin(void)
{
    const char *wrong;

    if (!virtio_find(&dev, VIRTIO_NET, (unsigned)cmdline_number("card", 0)))
        return "there is no virtio-net";
    wrong = virtio_begin(&dev, wanted());
    if (!wrong)
        wrong = virtio_add_queue(&dev, RX, &rings[RX], BUFFERS);
    if (!wrong)
        wrong = virtio_add_queue(&dev, TX, &rings[TX], 2 * SENDS);
    for (unsigned i = 0; i < 6; i++)
        self.mac[i] = *(volatile uint8_t *)(dev.base + VM_CONFIG + i);
    return wrong;
}

static void read_options(void)
{
    self.ip = address("ip");
    peer.ip = address("peer");
    mtu = (uint32_t)cmdline_number("mtu", 1500);
    rate = cmdline_number("rate", 500);
    depth = (uint32_t)cmdline_number("depth", 8);
    depth = depth && depth <= DEPTH_MAX ? depth : 1;
    flooding = cmdline_has("flood");
    buffer_bytes = (uint32_t)cmdline_number("buffer", dev.features & F_MERGE ? 512 : mtu + 64);
    buffer_bytes = buffer_bytes < BUFFER_MAX ? buffer_bytes : BUFFER_MAX;
    seed = random_seed();
    random_state = seed;
}

static void live(void)
{
    uint64_t now = clock_ns();

    while (take_packet())
        take_frame();
    vq_kick(&dev.queues[RX]);
    take_sent();
    if (flooding)
        send_flood();
    if (peer.ip)
        send_due(now);
    if (!life_due(&life, now))
        return;
    if (life_inject(&life))
        life_error(&life, "injected");
    link_up = *(volatile uint16_t *)(dev.base + VM_CONFIG + 6) & 1;
    send_tcp((uint32_t)cmdline_number("tso", 0));
    print_line(now);
    if (life_line(&life))
        life_finish(&life);
}

void guest_main(void)
{
    const char *wrong;

    say("ready");
    irq_init();
    clock_init_cpu();
    wrong = begin();
    if (wrong) {
        say("FAIL %s", wrong);
        power_off();
    }
    read_options();
    memset(buffers, PATTERN, sizeof(buffers));
    for (unsigned i = 0; i < BUFFERS; i++)
        give_buffer(i);
    virtio_go(&dev);
    lapic_timer((uint32_t)(lapic_timer_hz() / TICKS_HZ), true);
    vq_kick(&dev.queues[RX]);
    say("mac=%02x:%02x:%02x:%02x:%02x:%02x features=%lx", self.mac[0], self.mac[1], self.mac[2],
        self.mac[3], self.mac[4], self.mac[5], dev.features);
    life_begin(&life, 100);
    next_ns = clock_ns();
    for (;;) {
        live();
        if (!flooding && (!peer_known || clock_ns() < next_ns || flights[next_number % depth].busy))
            rest();
    }
}
