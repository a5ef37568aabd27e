/* See nets.h. */
#include "daemon/nets.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/ethtool.h>
#include <linux/if_tun.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/sha256.h"
#include "machine/devices/virtio_net.h"

#define TUN "/dev/net/tun"
#define TAP_NAMES "ferry%d" /* of those that are made here */
#define MAC VIRTIO_NET_MAC_BYTES

void nets_fini(struct nets *n)
{
    while (n->count > 0)
        close(n->fds[--n->count]);
}

/* completing ---------------------------------------------------------------------------------- */

static int check_name(const char *name, const char *what, struct err *err)
{
    bool good = name[0] && strlen(name) < IFNAMSIZ && strcmp(name, ".") && strcmp(name, "..");
    for (const char *c = name; good && *c; c++)
        good = *c > ' ' && *c <= '~' && !strchr("/:,%", *c);
    if (good)
        return 0;
    return err_set(err, EINVAL, "%s '%.64s' is no name of a network interface", what, name);
}

static int check_place(const Ferry__NetConfig *net, struct err *err)
{
    if (net->tap[0] && net->bridge[0])
        return err_set(err, EINVAL, "a network is on tap '%.32s' or on bridge '%.32s', not on both",
                       net->tap, net->bridge);
    if (!net->tap[0] && !net->bridge[0])
        return err_set(err, EINVAL, "a network needs a tap or a bridge");
    return net->tap[0] ? check_name(net->tap, "tap", err) : check_name(net->bridge, "bridge", err);
}

/* Of the locally administered ones: the same for the VM each time, another for each of its cards.
 */
static void derive_mac(const ProtobufCBinaryData *uuid, size_t index, uint8_t mac[MAC])
{
    struct sha256 sum;
    uint8_t digest[SHA256_BYTES], number = (uint8_t)index;
    sha256_init(&sum);
    sha256_add(&sum, uuid->data, uuid->len);
    sha256_add(&sum, &number, 1);
    sha256_end(&sum, digest);
    memcpy(mac, digest, MAC);
    mac[0] = (uint8_t)((mac[0] & ~1u) | 2u);
}

static int complete_mac(Ferry__NetConfig *net, const Ferry__MachineConfig *c, size_t index,
                        struct err *err)
{
    static const uint8_t none[MAC];
    if (net->mac.len == MAC) {
        if ((net->mac.data[0] & 1) || memcmp(net->mac.data, none, MAC) == 0)
            return err_set(err, EINVAL, "the mac of network %zu is not that of one card", index);
        return 0;
    }
    if (net->mac.len)
        return err_set(err, EINVAL, "the mac of network %zu has %zu bytes, not %d", index,
                       net->mac.len, MAC);
    net->mac.data = malloc(MAC);
    if (!net->mac.data)
        return err_set(err, ENOMEM, "no memory for a network's mac");
    net->mac.len = MAC;
    derive_mac(&c->uuid, index, net->mac.data);
    return 0;
}

static int compare(const Ferry__NetConfig *a, const Ferry__NetConfig *b, struct err *err)
{
    if (a->tap[0] && strcmp(a->tap, b->tap) == 0)
        return err_set(err, EINVAL, "two networks are on tap '%s'", a->tap);
    if (memcmp(a->mac.data, b->mac.data, MAC) == 0)
        return err_set(err, EINVAL, "two networks have one mac");
    return 0;
}

int nets_complete(Ferry__MachineConfig *config, struct err *err)
{
    int rc = 0;
    if (config->n_nets > NETS_MAX)
        return err_set(err, E2BIG, "%zu networks: a machine takes %u", config->n_nets, NETS_MAX);
    for (size_t i = 0; rc == 0 && i < config->n_nets; i++) {
        rc = check_place(config->nets[i], err);
        if (rc == 0)
            rc = complete_mac(config->nets[i], config, i, err);
        for (size_t j = 0; rc == 0 && j < i; j++)
            rc = compare(config->nets[i], config->nets[j], err);
    }
    return rc;
}

/* opening ------------------------------------------------------------------------------------- */

static void name_to(struct ifreq *ifr, const char *name)
{
    *ifr = (struct ifreq){0};
    snprintf(ifr->ifr_name, sizeof(ifr->ifr_name), "%.*s", IFNAMSIZ - 1, name);
}

static int open_tun(struct err *err)
{
    int fd = open(TUN, O_RDWR | O_CLOEXEC | O_NONBLOCK);
    if (fd >= 0)
        return fd;
    if (errno == ENOENT || errno == ENODEV || errno == ENXIO)
        return err_set(err, errno, "this host has no taps (%s): load them with `modprobe tun`",
                       TUN);
    return err_sys(err, errno, "ferryd cannot open %s", TUN);
}

static int only_root(struct err *err)
{
    return err_set(err, EPERM,
                   "only root may put a tap into it: run ferryd as root, or make a tap and give it "
                   "as tap=NAME");
}

/* Becomes the other side of interface `name`, which the kernel makes when there is none. */
static int attach(int fd, const char *name, struct ifreq *ifr, struct err *err)
{
    name_to(ifr, name);
    ifr->ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR;
    if (ioctl(fd, TUNSETIFF, ifr) == 0)
        return 0;
    if (errno == EBUSY)
        return err_set(err, EBUSY, "it is in use");
    if (errno == EINVAL)
        return err_set(err, EINVAL, "it is no tap of one queue");
    if (errno == EPERM && strcmp(name, TAP_NAMES) == 0)
        return only_root(err);
    if (errno == EPERM)
        return err_set(err, EPERM,
                       "it is another user's: run ferryd as root, or make the tap with "
                       "`ip tuntap add dev %s mode tap user USER`",
                       name);
    return err_sys(err, errno, "cannot use it");
}

/* Its own flags; on any socket. */
static int interface_flags(int socket, const char *name, struct err *err)
{
    struct ifreq ifr;
    name_to(&ifr, name);
    if (ioctl(socket, SIOCGIFFLAGS, &ifr) == 0)
        return (uint16_t)ifr.ifr_flags;
    if (errno == ENODEV)
        return err_set(err, ENODEV, "there is no such interface");
    return err_sys(err, errno, "cannot look at it");
}

/* An operator's tap outlasts its users; one that does not is our own work of a moment ago. */
static int open_tap(const char *name, int socket, struct err *err)
{
    struct ifreq ifr;
    int flags = interface_flags(socket, name, err);
    if (flags < 0)
        return flags;
    CLEAN(clean_fd) int fd = open_tun(err);
    if (fd < 0 || attach(fd, name, &ifr, err) < 0)
        return -err->code;
    if (ioctl(fd, TUNGETIFF, &ifr) < 0 || !(ifr.ifr_flags & IFF_PERSIST))
        return err_set(err, ENODEV, "there is no such interface");
    if (!(flags & IFF_UP))
        return err_set(err, ENETDOWN, "it is down: `ip link set %s up`", name);
    return steal_fd(&fd);
}

static int set(int socket, unsigned long what, struct ifreq *ifr, const char *doing,
               struct err *err)
{
    if (ioctl(socket, what, ifr) == 0)
        return 0;
    return errno == EPERM ? only_root(err) : err_sys(err, errno, "cannot %s", doing);
}

static int check_bridge(int socket, const char *name, struct err *err)
{
    struct ethtool_drvinfo info = {.cmd = ETHTOOL_GDRVINFO};
    struct ifreq ifr;
    int flags = interface_flags(socket, name, err);
    if (flags < 0)
        return flags;
    name_to(&ifr, name);
    ifr.ifr_data = (void *)&info;
    if (ioctl(socket, SIOCETHTOOL, &ifr) < 0 || strcmp(info.driver, "bridge") != 0)
        return err_set(err, EINVAL, "it is no bridge");
    return 0;
}

/* A bridge takes the lowest address of its ports for its own: this one is higher than others. It is
 * no other port's anywhere, or two hosts would take what is for each other's bridge. */
static int raise_address(int socket, const char *name, struct err *err)
{
    struct ifreq ifr;
    name_to(&ifr, name);
    int rc = set(socket, SIOCGIFHWADDR, &ifr, "ask for the address of its tap", err);
    ifr.ifr_hwaddr.sa_data[0] = (char)0xfe;
    ifr.ifr_hwaddr.sa_data[1] = (char)0xff; /* what follows is the kernel's, by chance */
    return rc < 0 ? rc : set(socket, SIOCSIFHWADDR, &ifr, "set the address of its tap", err);
}

static int dress_port(int socket, const char *name, const char *bridge, struct err *err)
{
    struct ifreq ifr, mtu;
    name_to(&mtu, bridge);
    int rc = set(socket, SIOCGIFMTU, &mtu, "ask for its MTU", err);
    name_to(&ifr, name);
    ifr.ifr_mtu = mtu.ifr_mtu;
    if (rc == 0)
        rc = set(socket, SIOCSIFMTU, &ifr, "set the MTU of its tap", err);
    return rc < 0 ? rc : raise_address(socket, name, err);
}

static int join(int socket, const char *name, const char *bridge, struct err *err)
{
    struct ifreq ifr;
    name_to(&ifr, bridge);
    ifr.ifr_ifindex = (int)if_nametoindex(name);
    int rc = set(socket, SIOCBRADDIF, &ifr, "put a tap into it", err);
    name_to(&ifr, name);
    ifr.ifr_flags = IFF_UP;
    return rc < 0 ? rc : set(socket, SIOCSIFFLAGS, &ifr, "bring its tap up", err);
}

static int open_bridge(const Ferry__NetConfig *net, int socket, struct err *err)
{
    struct ifreq ifr;
    int rc = check_bridge(socket, net->bridge, err);
    if (rc < 0)
        return rc;
    CLEAN(clean_fd) int fd = open_tun(err);
    if (fd < 0)
        return fd;
    rc = attach(fd, TAP_NAMES, &ifr, err);
    if (rc == 0)
        rc = dress_port(socket, ifr.ifr_name, net->bridge, err);
    if (rc == 0)
        rc = join(socket, ifr.ifr_name, net->bridge, err);
    return rc < 0 ? rc : steal_fd(&fd);
}

static int open_one(const Ferry__NetConfig *net, struct err *err)
{
    CLEAN(clean_fd) int control = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (control < 0)
        return err_sys(err, errno, "cannot make a socket");
    return net->tap[0] ? open_tap(net->tap, control, err) : open_bridge(net, control, err);
}

int nets_open(struct nets *n, const Ferry__MachineConfig *config, struct err *err)
{
    n->count = 0;
    for (size_t i = 0; i < config->n_nets; i++) {
        const Ferry__NetConfig *net = config->nets[i];
        int fd = open_one(net, err);
        if (fd < 0) {
            nets_fini(n);
            return err_wrap(err, "%s '%s'", net->tap[0] ? "tap" : "bridge",
                            net->tap[0] ? net->tap : net->bridge);
        }
        n->fds[n->count++] = fd;
    }
    return 0;
}
