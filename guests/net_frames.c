/* See net.h. Numbers on the wire have their high byte first. */
#include "net.h"

#define KIND_ARP 0x0806
#define KIND_IP 0x0800
#define IP_ICMP 1
#define IP_TCP 6
#define IP_UDP 17
#define ARP_BYTES 28u

static uint16_t get16(const uint8_t *at)
{
    return (uint16_t)(at[0] << 8 | at[1]);
}

static uint32_t get32(const uint8_t *at)
{
    return (uint32_t)get16(at) << 16 | get16(at + 2);
}

static void put16(uint8_t *at, uint32_t value)
{
    at[0] = (uint8_t)(value >> 8);
    at[1] = (uint8_t)value;
}

static void put32(uint8_t *at, uint32_t value)
{
    put16(at, value >> 16);
    put16(at + 2, value);
}

static uint64_t add_up(const uint8_t *at, uint32_t bytes)
{
    uint64_t sum = 0;

    for (; bytes > 1; bytes -= 2, at += 2)
        sum += get16(at);
    return sum + (bytes ? (uint64_t)*at << 8 : 0);
}

static uint16_t fold(uint64_t sum)
{
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    return (uint16_t)sum;
}

static uint64_t pseudo(const uint8_t *ip, uint32_t bytes)
{
    return add_up(ip + 12, 8) + ip[9] + bytes;
}

static void make_ether(struct net_packet *p, const struct net_end *from, const uint8_t *to,
                       uint32_t kind)
{
    if (to)
        memcpy(p->frame, to, 6);
    else
        memset(p->frame, 0xff, 6);
    memcpy(p->frame + 6, from->mac, 6);
    put16(p->frame + 12, kind);
    p->header = (struct net_header){0};
}

static uint8_t *make_ip(struct net_packet *p, const struct net_end *from, const struct net_end *to,
                        uint8_t kind, uint32_t bytes)
{
    uint8_t *ip = p->frame + ETHER_BYTES;

    make_ether(p, from, to->mac, KIND_IP);
    memset(ip, 0, IP_BYTES);
    ip[0] = 0x45;
    put16(ip + 2, IP_BYTES + bytes);
    ip[6] = 0x40; /* not to be cut */
    ip[8] = 64;
    ip[9] = kind;
    put32(ip + 12, from->ip);
    put32(ip + 16, to->ip);
    put16(ip + 10, (uint16_t)~fold(add_up(ip, IP_BYTES)));
    p->bytes = ETHER_BYTES + IP_BYTES + bytes;
    return ip + IP_BYTES;
}

/* The checksum at `at` of `bytes` behind the IP header; left to the device it holds only the sum of
 * what is no part of them. */
static void finish(struct net_packet *p, uint32_t at, uint32_t bytes, bool partial)
{
    uint8_t *ip = p->frame + ETHER_BYTES, *data = ip + IP_BYTES;
    uint16_t sum;

    put16(data + at, 0);
    if (partial) {
        put16(data + at, fold(pseudo(ip, bytes)));
        p->header.flags = NEEDS_CSUM;
        p->header.csum_start = ETHER_BYTES + IP_BYTES;
        p->header.csum_at = (uint16_t)at;
        return;
    }
    sum = (uint16_t)~fold(pseudo(ip, bytes) + add_up(data, bytes));
    put16(data + at, sum ? sum : 0xffff);
}

uint8_t *net_udp_data(struct net_packet *p)
{
    return p->frame + ETHER_BYTES + IP_BYTES + UDP_BYTES;
}

void net_make_udp(struct net_packet *p, const struct net_end *from, const struct net_end *to,
                  uint16_t from_port, uint16_t to_port, uint32_t bytes, bool partial)
{
    uint8_t *udp = make_ip(p, from, to, IP_UDP, UDP_BYTES + bytes);

    put16(udp, from_port);
    put16(udp + 2, to_port);
    put16(udp + 4, UDP_BYTES + bytes);
    finish(p, 6, UDP_BYTES + bytes, partial);
}

uint8_t net_tcp_byte(uint32_t n)
{
    return (uint8_t)(n * 31 + (n >> 8) * 7 + (n >> 16));
}

void net_make_tcp(struct net_packet *p, const struct net_end *from, const struct net_end *to,
                  uint32_t seq, uint32_t bytes, uint16_t segment)
{
    uint8_t *tcp = make_ip(p, from, to, IP_TCP, TCP_BYTES + bytes);

    memset(tcp, 0, TCP_BYTES);
    put16(tcp, PORT_DISCARD);
    put16(tcp + 2, PORT_DISCARD);
    put32(tcp + 4, seq);
    tcp[12] = 0x50;
    tcp[13] = 0x10; /* ACK */
    for (uint32_t i = 0; i < bytes; i++)
        tcp[TCP_BYTES + i] = net_tcp_byte(seq + i);
    finish(p, 16, TCP_BYTES + bytes, true);
    p->header.gso = GSO_TCP4;
    p->header.gso_bytes = segment;
    p->header.header_bytes = ETHER_BYTES + IP_BYTES + TCP_BYTES;
}

void net_make_arp(struct net_packet *p, const struct net_end *self, uint32_t ip,
                  const uint8_t *tell)
{
    static const uint8_t head[] = {0, 1, 8, 0, 6, 4, 0};
    uint8_t *arp = p->frame + ETHER_BYTES;

    make_ether(p, self, tell, KIND_ARP);
    memcpy(arp, head, sizeof(head));
    arp[7] = tell ? 2 : 1;
    memcpy(arp + 8, self->mac, 6);
    put32(arp + 14, self->ip);
    if (tell)
        memcpy(arp + 18, tell, 6);
    else
        memset(arp + 18, 0, 6);
    put32(arp + 24, ip);
    p->bytes = ETHER_BYTES + ARP_BYTES;
}

void net_answer_ping(struct net_packet *p, const struct net_end *self)
{
    uint8_t *ip = p->frame + ETHER_BYTES, *icmp = ip + IP_BYTES, from[4];
    uint32_t bytes = get16(ip + 2) - IP_BYTES;

    memcpy(p->frame, p->frame + 6, 6);
    memcpy(p->frame + 6, self->mac, 6);
    memcpy(from, ip + 12, 4);
    memcpy(ip + 12, ip + 16, 4);
    memcpy(ip + 16, from, 4);
    icmp[0] = 0;
    put16(icmp + 2, 0);
    put16(icmp + 2, (uint16_t)~fold(add_up(icmp, bytes)));
    p->bytes = ETHER_BYTES + IP_BYTES + bytes;
    p->header = (struct net_header){0};
}

static const char *look_at_arp(const struct net_packet *p, const struct net_end *self,
                               struct net_seen *seen)
{
    const uint8_t *arp = p->frame + ETHER_BYTES;

    if (p->bytes < ETHER_BYTES + ARP_BYTES)
        return "an ARP packet is cut off";
    seen->ip = get32(arp + 14);
    memcpy(seen->mac, arp + 8, 6);
    if (get32(arp + 24) == self->ip)
        seen->kind = arp[7] == 1 ? NET_ARP_ASKS : NET_ARP_SAYS;
    return NULL;
}

/* Whole, or as its header says left to us: then it holds the sum of what is no part of them. */
static const char *check_sum(const struct net_packet *p, uint32_t at, uint32_t bytes)
{
    const uint8_t *ip = p->frame + ETHER_BYTES, *data = ip + IP_BYTES;

    if (!(p->header.flags & NEEDS_CSUM))
        return fold(pseudo(ip, bytes) + add_up(data, bytes)) == 0xffff ? NULL : "a wrong checksum";
    if (p->header.csum_start != ETHER_BYTES + IP_BYTES || p->header.csum_at != at)
        return "a checksum is left to us in another place";
    return get16(data + at) == fold(pseudo(ip, bytes)) ? NULL : "a wrong sum of the pseudo header";
}

static const char *look_at_udp(struct net_packet *p, uint32_t bytes, struct net_seen *seen)
{
    uint8_t *udp = p->frame + ETHER_BYTES + IP_BYTES;

    if (bytes < UDP_BYTES || get16(udp + 4) != bytes)
        return "a UDP packet of another length than its IP packet";
    seen->from_port = get16(udp);
    seen->to_port = get16(udp + 2);
    seen->data = udp + UDP_BYTES;
    seen->bytes = bytes - UDP_BYTES;
    seen->kind = NET_UDP;
    return get16(udp + 6) ? check_sum(p, 6, bytes) : NULL;
}

static const char *look_at_tcp(struct net_packet *p, uint32_t bytes, struct net_seen *seen)
{
    uint8_t *tcp = p->frame + ETHER_BYTES + IP_BYTES;
    const char *wrong;

    if (bytes < TCP_BYTES || tcp[12] != 0x50)
        return "a TCP packet of another kind";
    wrong = check_sum(p, 16, bytes);
    seen->seq = get32(tcp + 4);
    seen->data = tcp + TCP_BYTES;
    seen->bytes = bytes - TCP_BYTES;
    seen->kind = NET_TCP;
    for (uint32_t i = 0; !wrong && i < seen->bytes; i++)
        if (seen->data[i] != net_tcp_byte(seen->seq + i))
            wrong = "a wrong byte in a TCP stream";
    return wrong;
}

static const char *look_at_ip(struct net_packet *p, const struct net_end *self,
                              struct net_seen *seen)
{
    uint8_t *ip = p->frame + ETHER_BYTES;
    uint32_t bytes = get16(ip + 2) - IP_BYTES;

    if (p->bytes < ETHER_BYTES + IP_BYTES || get32(ip + 16) != self->ip ||
        memcmp(p->frame, self->mac, 6))
        return NULL;
    if (ip[0] != 0x45 || get16(ip + 2) < IP_BYTES || ETHER_BYTES + IP_BYTES + bytes > p->bytes)
        return "an IP packet of a wrong length";
    if (fold(add_up(ip, IP_BYTES)) != 0xffff)
        return "a wrong checksum in an IP header";
    seen->ip = get32(ip + 12);
    memcpy(seen->mac, p->frame + 6, 6);
    if (ip[9] == IP_UDP)
        return look_at_udp(p, bytes, seen);
    if (ip[9] == IP_TCP)
        return look_at_tcp(p, bytes, seen);
    if (ip[9] == IP_ICMP && bytes >= 8 && ip[IP_BYTES] == 8)
        seen->kind = NET_PING;
    return NULL;
}

const char *net_look(struct net_packet *p, const struct net_end *self, struct net_seen *seen)
{
    *seen = (struct net_seen){.kind = NET_OTHER};
    if (p->bytes < ETHER_BYTES)
        return "a frame without an Ethernet header";
    if (get16(p->frame + 12) == KIND_ARP)
        return look_at_arp(p, self, seen);
    return get16(p->frame + 12) == KIND_IP ? look_at_ip(p, self, seen) : NULL;
}
