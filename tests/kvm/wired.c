/* See wired.h. */
#include "tests/kvm/wired.h"

#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "tests/kvm/network.h"
#include "tests/kvm/talk.h"

/* Whatever is put into a bridge beside them must not give it its address. */
#define HIGH "fe:fe:fe:fe:fe:0"

static void leave_namespace(void)
{
    if (unshare(CLONE_NEWNET) < 0)
        _exit(126);
}

void wired_run_other(struct wired *w, const char *command)
{
    network_run("nsenter -t %d -n sh -c '%s'", w->h[1].ferryd, command);
}

void wired_start(struct wired *w)
{
    host_start_beyond(&w->h[0], NULL);
    host_start_beyond(&w->h[1], leave_namespace);
    network_run("ip link add br0 type bridge && ip addr add " TALK_HOST "/24 dev br0 && "
                "ip link add a0 address " HIGH "1 type veth peer name b0 address " HIGH
                "2 netns %d && "
                "ip link set a0 master br0 up && "
                "ip link set br0 up",
                w->h[1].ferryd);
    wired_run_other(w, "ip link set lo up && ip link add br0 type bridge && "
                       "ip addr add " WIRED_OTHER "/24 dev br0 && ip link set b0 master br0 up && "
                       "ip link set br0 up");
    for (unsigned i = 0; i < 2; i++)
        snprintf(w->address[i], sizeof(w->address[i]), "%s%s", i ? WIRED_OTHER : TALK_HOST,
                 strrchr(w->h[i].address, ':'));
}

void wired_stop(struct wired *w)
{
    network_run("ip link del a0 && ip link del br0");
    host_stop(&w->h[0]);
    host_stop(&w->h[1]); /* and with it the other end of the wire */
}
