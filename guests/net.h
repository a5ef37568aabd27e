/*
 * Frames as the net guest makes and takes them: Ethernet, ARP, IPv4, UDP, ICMP and a bit of TCP,
 * behind virtio-net's header.
 */
#ifndef GUESTS_NET_H
#define GUESTS_NET_H

#include "guest.h"

#define HEADER_BYTES 12u
#define ETHER_BYTES 14u
#define IP_BYTES 20u
#define UDP_BYTES 8u
#define TCP_BYTES 20u
#define FRAME_MAX 65550u

#define NEEDS_CSUM 1u
#define DATA_VALID 2u
#define GSO_TCP4 1u

#define PORT_ECHO 7 /* what comes here goes back; the peer does the same */
#define PORT_DISCARD 9

struct net_header {
    uint8_t flags, gso;
    uint16_t header_bytes, gso_bytes, csum_start, csum_at, buffers;
};

/* One end of a talk. */
struct net_end {
    uint8_t mac[6];
    uint32_t ip; /* as a number */
};

struct net_packet {
    struct net_header header;
    uint8_t frame[FRAME_MAX];
    uint32_t bytes; /* of the frame */
};

enum net_kind { NET_OTHER, NET_ARP_ASKS, NET_ARP_SAYS, NET_PING, NET_UDP, NET_TCP };

/* What a frame is, when it is for `self` and whole. */
struct net_seen {
    enum net_kind kind;
    uint8_t mac[6]; /* of the sender */
    uint32_t ip;
    uint16_t from_port, to_port;
    uint32_t seq; /* of TCP */
    uint8_t *data;
    uint32_t bytes;
};

/* NULL, or what is wrong with it. */
const char *net_look(struct net_packet *p, const struct net_end *self, struct net_seen *seen);

/* `data` of the packet, behind all headers of UDP. */
uint8_t *net_udp_data(struct net_packet *p);
/* Headers around `bytes` of data that are there; `partial` leaves the checksum to the device. */
void net_make_udp(struct net_packet *p, const struct net_end *from, const struct net_end *to,
                  uint16_t from_port, uint16_t to_port, uint32_t bytes, bool partial);
/* Segments of TCP as one frame, which the device takes apart into ones of `segment` bytes; byte n
 * of the stream is net_tcp_byte(n). */
void net_make_tcp(struct net_packet *p, const struct net_end *from, const struct net_end *to,
                  uint32_t seq, uint32_t bytes, uint16_t segment);
uint8_t net_tcp_byte(uint32_t n);
/* Who has `ip`? Or, with an address to tell it to: that is me. */
void net_make_arp(struct net_packet *p, const struct net_end *self, uint32_t ip,
                  const uint8_t *tell);
/* Turns a ping into its answer. */
void net_answer_ping(struct net_packet *p, const struct net_end *self);

#endif
