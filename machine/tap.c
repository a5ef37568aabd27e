/* See tap.h. */
#include "machine/tap.h"

#include <errno.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <sys/ioctl.h>

#define FLAGS (IFF_TAP | IFF_NO_PI | IFF_VNET_HDR)

static int tap_set_offloads(int fd, unsigned offloads)
{
    return ioctl(fd, TUNSETOFFLOAD, offloads) < 0 ? -errno : 0;
}

static unsigned probe(int fd)
{
    static const unsigned sets[] = {TAP_CSUM | TAP_TSO4 | TAP_TSO6, TAP_CSUM};
    for (unsigned i = 0; i < sizeof(sets) / sizeof(sets[0]); i++)
        if (tap_set_offloads(fd, sets[i]) == 0)
            return sets[i];
    return 0;
}

static int tap_init(int fd, unsigned *offloads, struct err *err)
{
    struct ifreq ifr = {0};
    int header = TAP_HEADER_BYTES;
    if (ioctl(fd, TUNGETIFF, &ifr) < 0)
        return err_sys(err, errno, "the network's descriptor is no tap");
    if ((ifr.ifr_flags & FLAGS) != FLAGS)
        return err_set(err, EINVAL, "tap '%.*s' has not the header of virtio", IFNAMSIZ,
                       ifr.ifr_name);
    if (ioctl(fd, TUNSETVNETHDRSZ, &header) < 0)
        return err_sys(err, errno, "cannot set the header of tap '%.*s'", IFNAMSIZ, ifr.ifr_name);
    *offloads = probe(fd);
    tap_set_offloads(fd, 0);
    return 0;
}

const struct tap_ops tap_ops = {.init = tap_init, .set_offloads = tap_set_offloads};
