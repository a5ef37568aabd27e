/*
 * A bench for virtio-net: a driver of one card, and the network behind it. The tap is a pair of
 * sockets.
 */
#pragma once

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "machine/devices/virtio_net.h"
#include "machine/timer.h"
#include "tests/unit/machine/virtio_rig.h"

#define RX 0
#define TX 1
#define HEADER 12u
#define OUT VRIG_BUFFER(0)
#define IN(i) VRIG_BUFFER(4 + (i))
#define UNTOUCHED 0xee

#define F_CSUM (1ull << 0)
#define F_GUEST_CSUM (1ull << 1)
#define F_MAC (1ull << 5)
#define F_GUEST_TSO4 (1ull << 7)
#define F_GUEST_TSO6 (1ull << 8)
#define F_HOST_TSO4 (1ull << 11)
#define F_HOST_TSO6 (1ull << 12)
#define F_MERGE (1ull << 15)
#define F_STATUS (1ull << 16)
#define OFFLOADS (F_CSUM | F_GUEST_CSUM | F_GUEST_TSO4 | F_GUEST_TSO6 | F_HOST_TSO4 | F_HOST_TSO6)
#define PLAIN (VIRTIO_F_INDIRECT | VIRTIO_F_EVENT_INDEX | F_MAC | F_STATUS)
#define ALL (PLAIN | OFFLOADS | F_MERGE)

static const uint8_t mac[] = {2, 0x11, 0x22, 0x33, 0x44, 0x55};
static unsigned leaves; /* what the tap leaves to its reader */

static inline int fake_init(int fd, unsigned *offloads, struct err *err)
{
    *offloads = TAP_CSUM | TAP_TSO4 | TAP_TSO6;
    return 0;
}

static inline int fake_offloads(int fd, unsigned offloads)
{
    leaves = offloads;
    return 0;
}

static const struct tap_ops fake_ops = {.init = fake_init, .set_offloads = fake_offloads};

struct bench {
    struct virtio_net_config config;
    struct vrig rig;
    int host; /* the network */
};

static inline int setup(void **state)
{
    int pair[2];
    struct bench *b = *state = calloc(1, sizeof(*b));
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair),
                     0);
    b->host = pair[1];
    b->config = (struct virtio_net_config){.fd = pair[0], .ops = &fake_ops};
    memcpy(b->config.mac, mac, sizeof(mac));
    vrig_init(&b->rig, &virtio_net_type, &b->config);
    return 0;
}

static inline int teardown(void **state)
{
    struct bench *b = *state;
    vrig_fini(&b->rig);
    close(b->config.fd);
    close(b->host);
    free(b);
    return 0;
}

static inline uint64_t counted(struct bench *b, const char *name)
{
    struct device_counters *d = &b->rig.counters.devices[0];
    for (unsigned i = 0; i < d->nown; i++)
        if (strcmp(d->own[i], name) == 0)
            return d->values[COUNTER_DEVICE_COMMON + i];
    fail_msg("no counter %s", name);
    return 0;
}

static inline void put_desc(struct vrig *r, unsigned q, unsigned i, uint64_t gpa, uint32_t len,
                            unsigned flags, unsigned next)
{
    vrig_desc_at(r, VRIG_DESC(q), i, gpa, len, flags, next);
}

static inline void fill_frame(uint8_t *frame, size_t bytes)
{
    memset(frame, 0xff, 6);
    memcpy(frame + 6, mac, 6);
    for (size_t i = 12; i < bytes; i++)
        frame[i] = (uint8_t)(i * 7 + 1);
}

/* A header and a frame from the driver, in one buffer. */
static inline void transmit(struct bench *b, uint8_t flags, uint8_t gso, size_t frame)
{
    static uint8_t raw[HEADER + 70000];
    struct vrig *r = &b->rig;
    memset(raw, 0, HEADER);
    raw[0] = flags;
    raw[1] = gso;
    le_put(raw + 4, gso ? 1000 : 0, 2);
    le_put(raw + 10, 0x7777, 2);
    fill_frame(raw + HEADER, frame);
    assert_int_equal(mem_write(&r->mem, OUT, raw, HEADER + frame, NULL), 0);
    put_desc(r, TX, 0, OUT, (uint32_t)(HEADER + frame), 0, 0);
    vrig_avail(r, TX, 0);
    vrig_notify(r, TX);
    assert_int_equal(vrig_used(r, TX), r->avail[TX]);
    assert_int_equal(vrig_used_len(r, TX, r->avail[TX] - 1u), 0);
    assert_false(vrig_is_broken(r));
}

/* What the network got: its length, 0 for nothing. */
static inline size_t arrived(struct bench *b, uint8_t *packet, size_t size)
{
    ssize_t n = recv(b->host, packet, size, 0);
    return n < 0 ? 0 : (size_t)n;
}

/* A packet from the network. */
static inline void network_sends(struct bench *b, uint8_t flags, uint8_t gso, size_t frame)
{
    static uint8_t raw[HEADER + 70000];
    memset(raw, 0, HEADER);
    raw[0] = flags;
    raw[1] = gso;
    fill_frame(raw + HEADER, frame);
    assert_int_equal(send(b->host, raw, HEADER + frame, 0), HEADER + frame);
}

static inline void offer(struct bench *b, unsigned i, uint32_t len)
{
    struct vrig *r = &b->rig;
    uint8_t *at = mem_borrow(&r->mem, IN(i), len + 1, true, NULL);
    memset(at, UNTOUCHED, len + 1);
    put_desc(r, RX, i, IN(i), len, D_WRITE, 0);
    vrig_avail(r, RX, (uint16_t)i);
}

/* The frame lies in `buffers` of `len` bytes, used from `first` on, and nothing beside it. */
static inline void expect_frame(struct bench *b, unsigned first, unsigned buffers, uint32_t len,
                                size_t frame)
{
    static uint8_t want[70000];
    size_t at = 0, all = HEADER + frame;
    struct vrig *r = &b->rig;
    fill_frame(want + HEADER, frame);
    for (unsigned i = 0; i < buffers; i++, at += len) {
        size_t part = all - at < len ? all - at : len, skip = i ? 0 : HEADER;
        uint32_t head = (uint32_t)vrig_peek(r, VRIG_USED(RX) + 4 + 8 * ((first + i) % 8), 4);
        const uint8_t *got = mem_borrow(&r->mem, IN(head), len + 1, false, NULL);
        assert_int_equal(vrig_used_len(r, RX, first + i), part);
        assert_memory_equal(got + skip, want + at + skip, part - skip);
        for (size_t k = part; k <= len; k++)
            assert_int_equal(got[k], UNTOUCHED);
        if (i == 0)
            assert_int_equal(le_get(got + 10, 2), buffers);
    }
}
