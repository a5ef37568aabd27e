/*
 * virtio-net: a card of one pair of queues on a tap (machine/tap.h).
 *
 *     driver ─► queue 1 ─► header checked ─► one write ─► tap
 *     tap ─► one read ─► header checked ─► buffers of queue 0 ─► interrupt, once a turn
 *
 * Nothing is in flight between two calls but one frame that waits for the driver's buffers; the
 * others wait in the tap, which drops what is too much. What the host does not take is dropped, as
 * a wire would: no guest makes the I/O thread wait. A frame that makes no sense is dropped and
 * counted. When the tap is taken away, the guest sees its cable pulled.
 *
 * A guest that came from another host announces itself: with RARP, which bridges and switches learn
 * from, and with ARP for the addresses that it was seen to have.
 */
#include "machine/devices/virtio_net.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/le.h"
#include "machine/timer.h"
#include "machine/virtio/virtio.h"

#define RX 0u
#define TX 1u
#define QUEUES 2u
#define QUEUE_SIZE 256

#define F_CSUM (1ull << 0)
#define F_GUEST_CSUM (1ull << 1)
#define F_MAC (1ull << 5)
#define F_GUEST_TSO4 (1ull << 7)
#define F_GUEST_TSO6 (1ull << 8)
#define F_HOST_TSO4 (1ull << 11)
#define F_HOST_TSO6 (1ull << 12)
#define F_MERGE (1ull << 15)
#define F_STATUS (1ull << 16)

#define MAC VIRTIO_NET_MAC_BYTES
#define FRAME_MIN 14u    /* Ethernet's header */
#define FRAME_MAX 65550u /* with the largest IP packet behind it */
#define PACKET_MAX (TAP_HEADER_BYTES + FRAME_MAX)

/* The header before each frame. */
enum { HEADER_FLAGS = 0, HEADER_GSO = 1, HEADER_BUFFERS = 10 };
#define NEEDS_CSUM 1u
#define DATA_VALID 2u
#define GSO_NONE 0u
#define GSO_TCP4 1u
#define GSO_TCP6 4u

/* The device's own registers. */
enum { CONFIG_MAC = 0, CONFIG_STATUS = 6, CONFIG_BYTES = 8 };
#define LINK_UP 1u

#define ARP_BYTES 42u /* with Ethernet's header */
#define ANNOUNCE_BYTES 60u
#define ANNOUNCE_ROUNDS 5u
#define ANNOUNCE_NS 50000000ull       /* until the second, */
#define ANNOUNCE_STEP_NS 100000000ull /* and longer each time */
#define ADDRESSES_MAX 8u
#define STALE_MAX 4096u

/* Seen in an ARP packet of the guest's. */
struct address {
    uint8_t mac[MAC], ipv4[4];
};

struct virtio_net {
    struct virtio virtio; /* first: see virtio_device_fini */
    const struct tap_ops *ops;
    int fd; /* borrowed */
    unsigned offloads;
    struct watch readable;
    struct timer_set *timers; /* borrowed */
    struct timer announce;
    unsigned announcements; /* to come */
    bool up;                /* the tap is there */
    uint8_t config[CONFIG_BYTES];
    struct virtq_chain first, chain;
    struct iovec iov[VIRTQ_SEGS_MAX + 1];
    uint8_t packet[PACKET_MAX];
    size_t waiting; /* bytes of a packet that waits for buffers */
    bool counted;   /* it has been said that it waits */

    /* State. */
    uint8_t mac[MAC];
    bool told_up; /* what the driver heard last */
    uint32_t naddresses;
    struct address addresses[ADDRESSES_MAX];
};

enum {
    COUNT_TX_FRAMES,
    COUNT_TX_BYTES,
    COUNT_TX_DROPPED, /* by the host */
    COUNT_TX_REFUSED, /* made no sense */
    COUNT_RX_FRAMES,
    COUNT_RX_BYTES,
    COUNT_RX_DROPPED, /* did not fit the driver's buffers or features */
    COUNT_RX_WAITS,   /* for buffers */
    COUNT_ANNOUNCED,
};

static const char *const counters[] = {
    [COUNT_TX_FRAMES] = "tx_frames",   [COUNT_TX_BYTES] = "tx_bytes",
    [COUNT_TX_DROPPED] = "tx_dropped", [COUNT_TX_REFUSED] = "tx_refused",
    [COUNT_RX_FRAMES] = "rx_frames",   [COUNT_RX_BYTES] = "rx_bytes",
    [COUNT_RX_DROPPED] = "rx_dropped", [COUNT_RX_WAITS] = "rx_waits",
    [COUNT_ANNOUNCED] = "announced",
};

// clang-format off
static const struct field address_fields[] = {
    FIELD_ARRAY(1, struct address, mac),
    FIELD_ARRAY(2, struct address, ipv4),
    FIELD_END,
};

static const struct field virtio_net_fields[] = {
    FIELD_STRUCT(1, struct virtio_net, virtio, virtio_fields),
    FIELD_ARRAY(2, struct virtio_net, mac),
    FIELD(3, struct virtio_net, told_up),
    FIELD_STRUCTS_USED(4, struct virtio_net, addresses, naddresses, address_fields),
    FIELD_END,
};
// clang-format on

static void count(struct virtio_net *n, unsigned counter)
{
    virtio_count(&n->virtio, counter, 1);
}

/* ---- the link ---- */

static void set_link(struct virtio_net *n, bool up)
{
    n->up = up;
    le_put(n->config + CONFIG_STATUS, up ? LINK_UP : 0, 2);
}

static void tell_link(struct virtio_net *n)
{
    if (n->told_up == n->up)
        return;
    n->told_up = n->up;
    virtio_config_changed(&n->virtio);
}

/* Errors of a moment (no memory, a tap that is down) are not among these. */
static void look_at_error(struct virtio_net *n, int code)
{
    if (!n->up || (code != EBADFD && code != ENODEV && code != EBADF))
        return;
    set_link(n, false);
    tell_link(n);
    if (n->virtio.warn.say)
        n->virtio.warn.say(n->virtio.warn.ctx,
                           "virtio-net: its tap was removed: the guest's link is down");
}

/* ---- to the host ---- */

static void remember(struct virtio_net *n, const uint8_t mac[MAC], const uint8_t ipv4[4])
{
    for (uint32_t i = 0; i < n->naddresses; i++)
        if (memcmp(n->addresses[i].ipv4, ipv4, 4) == 0) {
            memcpy(n->addresses[i].mac, mac, MAC);
            return;
        }
    if (n->naddresses == ADDRESSES_MAX) {
        n->naddresses--;
        memmove(n->addresses, n->addresses + 1, n->naddresses * sizeof(n->addresses[0]));
    }
    struct address *a = &n->addresses[n->naddresses++];
    memcpy(a->mac, mac, MAC);
    memcpy(a->ipv4, ipv4, 4);
}

/* Whoever asks or answers by ARP says who he is. */
static void learn(struct virtio_net *n, const struct virtq_chain *c)
{
    static const uint8_t kind[] = {0x08, 0x06, 0, 1, 0x08, 0, 6, 4}, none[4] = {0};
    uint8_t raw[ARP_BYTES];
    if (virtq_read(c, TAP_HEADER_BYTES, raw, sizeof(raw)) < sizeof(raw) ||
        memcmp(raw + 12, kind, sizeof(kind)) != 0)
        return;
    const uint8_t *mac = raw + 22, *ipv4 = raw + 28;
    if (memcmp(mac, raw + 6, MAC) == 0 && !(mac[0] & 1) && memcmp(ipv4, none, 4) != 0)
        remember(n, mac, ipv4);
}

static bool may_segment(const struct virtio_net *n, uint8_t gso, uint64_t four, uint64_t six)
{
    return gso == GSO_NONE || (gso == GSO_TCP4 && virtio_has(&n->virtio, four)) ||
           (gso == GSO_TCP6 && virtio_has(&n->virtio, six));
}

/* Read once, checked and given on as our own: the guest may change its copy at any time. */
static bool take_header(const struct virtio_net *n, const struct virtq_chain *c, uint8_t *header)
{
    if (virtq_read(c, 0, header, TAP_HEADER_BYTES) < TAP_HEADER_BYTES)
        return false;
    header[HEADER_FLAGS] &= NEEDS_CSUM;
    le_put(header + HEADER_BUFFERS, 0, 2);
    bool partial = header[HEADER_FLAGS] & NEEDS_CSUM;
    if (partial && !virtio_has(&n->virtio, F_CSUM))
        return false;
    return may_segment(n, header[HEADER_GSO], F_HOST_TSO4, F_HOST_TSO6) &&
           (partial || header[HEADER_GSO] == GSO_NONE);
}

/* The header, then what lies behind the driver's. */
static unsigned gather(struct virtio_net *n, const struct virtq_chain *c, uint8_t *header)
{
    uint64_t skip = TAP_HEADER_BYTES;
    unsigned count = 1;
    n->iov[0] = (struct iovec){.iov_base = header, .iov_len = TAP_HEADER_BYTES};
    for (unsigned i = 0; i < c->nout; i++) {
        uint64_t len = c->iov[i].iov_len, part = skip < len ? skip : len;
        skip -= part;
        if (part < len)
            n->iov[count++] = (struct iovec){.iov_base = (uint8_t *)c->iov[i].iov_base + part,
                                             .iov_len = len - part};
    }
    return count;
}

static void send_frame(struct virtio_net *n, const struct virtq_chain *c)
{
    uint8_t header[TAP_HEADER_BYTES];
    uint64_t bytes = c->out_bytes - TAP_HEADER_BYTES;
    if (!take_header(n, c, header) || bytes < FRAME_MIN || bytes > FRAME_MAX) {
        count(n, COUNT_TX_REFUSED);
        return;
    }
    learn(n, c);
    unsigned pieces = gather(n, c, header);
    ssize_t rc = n->up ? writev(n->fd, n->iov, (int)pieces) : -1;
    if (rc >= 0) {
        count(n, COUNT_TX_FRAMES);
        virtio_count(&n->virtio, COUNT_TX_BYTES, bytes);
        return;
    }
    count(n, n->up && errno == EINVAL ? COUNT_TX_REFUSED : COUNT_TX_DROPPED);
    look_at_error(n, errno);
}

static bool transmit(struct virtio_net *n)
{
    unsigned done = 0;
    while (done < VIRTIO_TURN && virtio_pop(&n->virtio, TX, &n->chain)) {
        send_frame(n, &n->chain);
        virtio_push(&n->virtio, TX, &n->chain, 0);
        done++;
    }
    if (done)
        virtio_tell(&n->virtio, TX);
    return done == VIRTIO_TURN;
}

/* ---- to the guest ---- */

/* What was left to this driver's predecessor, this one may not know to do. */
static bool fits_features(struct virtio_net *n)
{
    uint8_t *flags = n->packet + HEADER_FLAGS;
    bool csum = virtio_has(&n->virtio, F_GUEST_CSUM);
    if (!csum && (*flags & NEEDS_CSUM))
        return false;
    *flags &= csum ? NEEDS_CSUM | DATA_VALID : 0;
    return may_segment(n, n->packet[HEADER_GSO], F_GUEST_TSO4, F_GUEST_TSO6);
}

/* One packet from the tap; false when there is none. */
static bool read_packet(struct virtio_net *n)
{
    while (n->up) {
        ssize_t got = read(n->fd, n->packet, sizeof(n->packet));
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            look_at_error(n, errno);
        if (got <= 0)
            return false;
        n->waiting = (size_t)got;
        if (n->waiting >= TAP_HEADER_BYTES + FRAME_MIN && fits_features(n))
            return true;
        n->waiting = 0;
        count(n, COUNT_RX_DROPPED);
    }
    return false;
}

enum delivery { DELIVERED, DROPPED, WAITS };

/* Into as many chains as it takes: the first is given its length of all, and is filled in last. */
static enum delivery deliver(struct virtio_net *n)
{
    struct virtio *v = &n->virtio;
    unsigned most = virtio_has(v, F_MERGE) ? v->queues[RX].ring.size : 1;
    uint64_t least = most > 1 ? TAP_HEADER_BYTES : n->waiting;
    uint64_t done = 0, in_first = 0;
    uint16_t chains = 0;
    while (done < n->waiting && chains < most) {
        struct virtq_chain *c = chains ? &n->chain : &n->first;
        if (!virtio_pop(v, RX, c)) {
            virtio_unpop(v, RX, chains);
            return WAITS;
        }
        if (chains == 0 && c->in_bytes < least) {
            virtio_unpop(v, RX, 1);
            return DROPPED;
        }
        uint64_t part = virtq_write(c, 0, n->packet + done, n->waiting - done);
        if (chains)
            virtio_fill(v, RX, chains, c, part);
        else
            in_first = part;
        done += part;
        chains++;
    }
    if (done < n->waiting) {
        virtio_unpop(v, RX, chains);
        return DROPPED;
    }
    uint8_t number[2];
    le_put(number, chains, 2);
    virtq_write(&n->first, HEADER_BUFFERS, number, sizeof(number));
    virtio_fill(v, RX, 0, &n->first, in_first);
    virtio_publish(v, RX, chains);
    return DELIVERED;
}

static bool receive(struct virtio_net *n)
{
    unsigned turns = 0, delivered = 0;
    for (; turns < VIRTIO_TURN && (n->waiting || read_packet(n)); turns++) {
        enum delivery d = deliver(n);
        if (d == WAITS) {
            virtio_count(&n->virtio, COUNT_RX_WAITS, !n->counted);
            n->counted = true;
            break;
        }
        count(n, d == DELIVERED ? COUNT_RX_FRAMES : COUNT_RX_DROPPED);
        if (d == DELIVERED)
            virtio_count(&n->virtio, COUNT_RX_BYTES, n->waiting - TAP_HEADER_BYTES);
        delivered += d == DELIVERED;
        n->waiting = 0;
        n->counted = false;
    }
    if (delivered)
        virtio_tell(&n->virtio, RX);
    return turns == VIRTIO_TURN;
}

/* [io] */
static void on_readable(void *owner)
{
    struct virtio_net *n = owner;
    pthread_mutex_lock(&n->virtio.lock);
    if (virtio_runs(&n->virtio) && receive(n))
        virtio_ring(&n->virtio, RX);
    pthread_mutex_unlock(&n->virtio.lock);
}

static bool virtio_net_work(void *dev, unsigned queue)
{
    return queue == TX ? transmit(dev) : receive(dev);
}

/* ---- announcing ---- */

static void announce_one(struct virtio_net *n, uint16_t kind, uint16_t what, const uint8_t mac[MAC],
                         const uint8_t ipv4[4])
{
    uint8_t packet[TAP_HEADER_BYTES + ANNOUNCE_BYTES] = {0}, *frame = packet + TAP_HEADER_BYTES;
    const uint8_t head[] = {(uint8_t)(kind >> 8), (uint8_t)kind, 0, 1, 8, 0, 6, 4, 0,
                            (uint8_t)what};
    memset(frame, 0xff, MAC);
    memcpy(frame + 6, mac, MAC);
    memcpy(frame + 12, head, sizeof(head));
    memcpy(frame + 22, mac, MAC);
    memcpy(frame + 28, ipv4, 4);
    if (kind == 0x8035)
        memcpy(frame + 32, mac, MAC);
    memcpy(frame + 38, ipv4, 4);
    if (n->up && write(n->fd, packet, sizeof(packet)) > 0)
        count(n, COUNT_ANNOUNCED);
}

static void announce_all(struct virtio_net *n)
{
    static const uint8_t nothing[4] = {0};
    announce_one(n, 0x8035, 3, n->mac, nothing); /* RARP: who am I? */
    for (uint32_t i = 0; i < n->naddresses; i++)
        announce_one(n, 0x0806, 1, n->addresses[i].mac, n->addresses[i].ipv4);
}

/* [io] The first may come before the bridge forwards, or be lost. */
static void on_announce(void *owner)
{
    struct virtio_net *n = owner;
    pthread_mutex_lock(&n->virtio.lock);
    if (!n->virtio.quiesced && n->announcements) {
        announce_all(n);
        unsigned done = ANNOUNCE_ROUNDS - --n->announcements;
        if (n->announcements)
            timer_arm(&n->announce,
                      timer_now(n->timers) + ANNOUNCE_NS + (done - 1) * ANNOUNCE_STEP_NS);
    }
    pthread_mutex_unlock(&n->virtio.lock);
}

/* What the tap holds was flooded to it while the guest ran elsewhere, and heard it there. */
static void virtio_net_arrived(void *dev)
{
    struct virtio_net *n = dev;
    for (unsigned i = 0; i < STALE_MAX && read(n->fd, n->packet, sizeof(n->packet)) > 0; i++)
        ;
    n->announcements = ANNOUNCE_ROUNDS;
}

/* ---- the device ---- */

static void virtio_net_start(void *dev)
{
    struct virtio_net *n = dev;
    const struct virtio *v = &n->virtio;
    unsigned leave = 0;
    if (virtio_has(v, F_GUEST_CSUM))
        leave = TAP_CSUM | (virtio_has(v, F_GUEST_TSO4) ? TAP_TSO4 : 0) |
                (virtio_has(v, F_GUEST_TSO6) ? TAP_TSO6 : 0);
    look_at_error(n, -n->ops->set_offloads(n->fd, leave));
}

static void virtio_net_stop(void *dev)
{
    struct virtio_net *n = dev;
    n->waiting = 0;
    n->ops->set_offloads(n->fd, 0);
}

static const struct virtio_class virtio_net_class = {
    .name = "virtio-net",
    .id = VIRTIO_ID_NET,
    .queue_size = QUEUE_SIZE,
    .counters = counters,
    .ncounters = sizeof(counters) / sizeof(counters[0]),
    .work = virtio_net_work,
    .start = virtio_net_start,
    .stop = virtio_net_stop,
};

static uint64_t features(const struct virtio_net *n)
{
    uint64_t all = F_CSUM | F_HOST_TSO4 | F_HOST_TSO6 | F_MERGE | F_MAC | F_STATUS;
    all |= n->offloads & TAP_CSUM ? F_GUEST_CSUM : 0;
    all |= n->offloads & TAP_TSO4 ? F_GUEST_TSO4 : 0;
    return all | (n->offloads & TAP_TSO6 ? F_GUEST_TSO6 : 0);
}

static int virtio_net_init(void *dev, const struct device_env *env, struct err *err)
{
    struct virtio_net *n = dev;
    const struct virtio_net_config *c = env->config;
    n->ops = c->ops ? c->ops : &tap_ops;
    n->fd = c->fd;
    n->timers = env->timers;
    int rc = n->ops->init(n->fd, &n->offloads, err);
    if (rc < 0)
        return rc;
    memcpy(n->mac, c->mac, MAC);
    memcpy(n->config + CONFIG_MAC, c->mac, MAC);
    set_link(n, true);
    n->told_up = true;
    timer_init(&n->announce, n->timers, on_announce, n);
    struct virtio_setup setup = {.class = &virtio_net_class,
                                 .dev = n,
                                 .features = features(n),
                                 .queues = QUEUES,
                                 .config = n->config,
                                 .config_bytes = sizeof(n->config)};
    rc = virtio_init(&n->virtio, &setup, env, err);
    if (rc == 0) {
        rc = watch_add(&n->readable, env->watches, n->fd, on_readable, n, err);
        if (rc < 0)
            virtio_fini(&n->virtio);
    }
    return rc;
}

static void virtio_net_fini(void *dev)
{
    struct virtio_net *n = dev;
    timer_fini(&n->announce);
    watch_remove(&n->readable);
    virtio_fini(&n->virtio);
}

static void virtio_net_quiesce(void *dev)
{
    struct virtio_net *n = dev;
    timer_cancel(&n->announce);
    virtio_device_quiesce(dev);
}

static void virtio_net_resume(void *dev)
{
    struct virtio_net *n = dev;
    virtio_device_resume(dev);
    pthread_mutex_lock(&n->virtio.lock);
    tell_link(n);
    if (n->announcements)
        timer_arm(&n->announce, timer_now(n->timers));
    pthread_mutex_unlock(&n->virtio.lock);
}

static void format_mac(const uint8_t mac[MAC], char *to, size_t size)
{
    snprintf(to, size, "%02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1], mac[2], mac[3], mac[4],
             mac[5]);
}

/* Its driver read the address once and goes on with it, whatever the card says now. */
static int virtio_net_post_load(void *object, struct err *err)
{
    struct virtio_net *n = object;
    char knows[24], has[24];
    format_mac(n->mac, knows, sizeof(knows));
    format_mac(n->config + CONFIG_MAC, has, sizeof(has));
    if (memcmp(n->mac, n->config + CONFIG_MAC, MAC) != 0)
        return err_set(err, EBADMSG,
                       "virtio-net: the saved guest knows its card as %s, and it is %s", knows,
                       has);
    return virtio_post_load(&n->virtio, err);
}

static const struct state_desc virtio_net_state = {
    .name = "virtio-net",
    .version = 1,
    .min_version = 1,
    .fields = virtio_net_fields,
    .post_load = virtio_net_post_load,
};

const struct device_type virtio_net_type = {
    .name = "virtio-net",
    .size = sizeof(struct virtio_net),
    .state = &virtio_net_state,
    .init = virtio_net_init,
    .fini = virtio_net_fini,
    .quiesce = virtio_net_quiesce,
    .resume = virtio_net_resume,
    .reset = virtio_device_reset,
    .arrived = virtio_net_arrived,
};
