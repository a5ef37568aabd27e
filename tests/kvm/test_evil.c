/*
 * A guest that behaves as badly as it can, with every device that there is: it harms itself at
 * most. Its worker lives and stays small, it can be paused, saved, restored, moved and ended as any
 * other, and a guest beside it notices nothing.
 */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/now.h"
#include "daemon/nets.h"
#include "machine/devices/virtio_blk.h"
#include "machine/devices/virtio_net.h"
#include "machine/devices/virtio_rng.h"
#include "tests/kvm/host.h"
#include "tests/kvm/network.h"
#include "tests/kvm/rig.h"

#define CYCLES 20
#define CYCLES_LONG 400
#define DISK_BYTES (8l << 20)
#define LOG_MAX 65536
#define PATIENCE_NS 60000000000ull
#define GROWTH_KIB 65536 /* its own RAM, and what a sanitizer keeps */

/* ---- the machine alone ---- */

struct evil_rig {
    struct rig rig;
    struct nets nets;
    struct virtio_net_config net;
    struct virtio_blk_config disk;
    struct device_wish wishes[3];
};

static void open_net(struct evil_rig *e)
{
    struct err err = {0};
    Ferry__NetConfig net = FERRY__NET_CONFIG__INIT, *list[] = {&net};
    Ferry__MachineConfig config = FERRY__MACHINE_CONFIG__INIT;
    network_run("ip tuntap add dev tapx mode tap && ip link set tapx up");
    net.tap = "tapx";
    config.nets = list;
    config.n_nets = 1;
    if (nets_open(&e->nets, &config, &err) < 0)
        fail_msg("%s", err.text);
    e->net = (struct virtio_net_config){.fd = e->nets.fds[0], .mac = {2, 0, 0, 0, 0, 1}};
}

static void evil_start(struct evil_rig *e, const char *cmdline, unsigned cpus)
{
    open_net(e);
    e->disk = (struct virtio_blk_config){
        .fd = memfd_create("disk", MFD_CLOEXEC), .id = "evil", .queues = cpus};
    assert_int_equal(ftruncate(e->disk.fd, DISK_BYTES), 0);
    e->wishes[0] = (struct device_wish){.type = &virtio_rng_type};
    e->wishes[1] = (struct device_wish){.type = &virtio_blk_type, .config = &e->disk};
    e->wishes[2] = (struct device_wish){.type = &virtio_net_type, .config = &e->net};
    rig_start(&e->rig, &(struct rig_options){.guest = "evil",
                                             .cmdline = cmdline,
                                             .cpus = cpus,
                                             .memory_bytes = 32ull << 20,
                                             .devices = e->wishes,
                                             .ndevices = 3});
}

static void evil_stop(struct evil_rig *e)
{
    rig_check_clean(&e->rig);
    rig_stop(&e->rig);
    nets_fini(&e->nets);
    close(e->disk.fd);
    network_run("ip link del tapx");
}

/* It comes to its end with all that it did unnoticed by its own memory. */
static void harms_only_itself(void **state)
{
    static const char *const ways[] = {"quit=4s seed=1", "quit=3s seed=2 noports norings",
                                       "quit=3s seed=3 noports noregisters"};
    for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
        struct evil_rig e;
        evil_start(&e, ways[i], 2);
        rig_expect(&e.rig, NULL, "evil: ok", 60000);
        evil_stop(&e);
    }
}

static bool are_all_harmed(const struct evil_rig *e)
{
    bool all = true;
    for (unsigned d = 0; d < 3; d++) {
        const struct device_counters *c = &e->rig.counters.devices[d];
        all = all && c->values[COUNTER_DEVICE_REQUESTS] > 5 && c->values[COUNTER_DEVICE_BROKEN] > 5;
    }
    return all;
}

/* Not all that it says is turned away at the door: each device has requests, and breaks. */
static void harms_every_device(void **state)
{
    struct evil_rig e;
    uint64_t until = now_ns() + PATIENCE_NS;
    evil_start(&e, "seed=6", 2);
    while (!are_all_harmed(&e)) {
        assert_true(now_ns() < until);
        nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
    }
    evil_stop(&e);
}

/* Whatever it was about to do, it is saved, and what was saved can be loaded. */
static void is_saved_at_any_moment(void **state)
{
    struct evil_rig e;
    evil_start(&e, "seed=4", 2);
    rig_expect(&e.rig, NULL, "errors=0", 30000);
    rig_shuffle(&e.rig, getenv("FERRY_LONG") ? CYCLES_LONG : CYCLES, CLOCK_FREEZE);
    uint64_t offset = console_end(&e.rig.console);
    rig_expect(&e.rig, &offset, "errors=0", 60000);
    rig_expect(&e.rig, &offset, "errors=0", 60000);
    evil_stop(&e);
}

static void is_reset(void **state)
{
    struct evil_rig e;
    evil_start(&e, "seed=5", 1);
    for (int i = 0; i < 3; i++) {
        uint64_t offset = console_end(&e.rig.console);
        rig_expect(&e.rig, &offset, "errors=0", 30000);
        rig_reset(&e.rig);
    }
    evil_stop(&e);
}

/* ---- beside others ---- */

static void make_disk(struct host *h)
{
    char path[128];
    snprintf(path, sizeof(path), "%s/evil.img", h->dir);
    int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    assert_true(fd >= 0 && ftruncate(fd, DISK_BYTES) == 0);
    close(fd);
}

static long log_bytes(struct host *h, const char *name)
{
    char path[128];
    struct stat st;
    snprintf(path, sizeof(path), "%s/root/vms/%s/log", h->dir, name);
    assert_int_equal(stat(path, &st), 0);
    return (long)st.st_size;
}

static void its_neighbours_notice_nothing(void **state)
{
    struct host h;
    host_start(&h);
    make_disk(&h);
    network_run("ip link add br0 type bridge && ip link set br0 up");
    host_must(&h, "start good --kernel %%G/dirty.elf --memory 64M --cmdline mem=16M");
    host_must(&h,
              "start evil --kernel %%G/evil.elf --memory 32M --cpus 2 --net bridge=br0 "
              "--disk %s/evil.img",
              h.dir);
    host_expect_healthy(&h, "evil");
    struct host_usage before = host_usage(host_pid(&h, "evil"));
    for (unsigned i = 0; i < 3; i++) {
        host_must(&h, "snapshot create evil s%u", i);
        host_must(&h, "snapshot verify s%u", i);
        host_must(&h, "pause evil");
        host_must(&h, "resume evil");
        host_expect_healthy(&h, "evil");
        host_expect_healthy(&h, "good");
    }
    struct host_usage after = host_usage(host_pid(&h, "evil"));
    assert_int_equal(after.fds, before.fds);
    assert_true(after.threads <= before.threads + 4); /* those that disks are read by */
    assert_true(after.rss_kib < before.rss_kib + GROWTH_KIB);
    assert_true(log_bytes(&h, "evil") < LOG_MAX);
    host_must(&h, "kill evil");
    for (unsigned i = 0; i < 3; i++) {
        host_must(&h, "restore s%u --name evil%u --force", i, i);
        host_expect_healthy(&h, i == 0 ? "evil0" : i == 1 ? "evil1" : "evil2");
        host_must(&h, "kill evil%u", i);
    }
    host_expect_healthy(&h, "good");
    host_stop(&h);
    network_run("ip link del br0");
}

static void moves_as_others_do(void **state)
{
    struct host h[2];
    host_start_listening(&h[0]);
    host_start_listening(&h[1]);
    network_run("ip link add br0 type bridge && ip link set br0 up");
    host_must(&h[0], "start evil --kernel %%G/evil.elf --memory 32M --cpus 2 --net bridge=br0");
    for (unsigned i = 0; i < 4; i++) {
        host_expect_healthy(&h[i % 2], "evil");
        host_must(&h[i % 2], "migrate evil %s", h[!(i % 2)].address);
    }
    host_expect_healthy(&h[0], "evil");
    host_stop(&h[0]);
    host_stop(&h[1]);
    network_run("ip link del br0");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(harms_only_itself),
        cmocka_unit_test(harms_every_device),
        cmocka_unit_test(is_saved_at_any_moment),
        cmocka_unit_test(is_reset),
        cmocka_unit_test(its_neighbours_notice_nothing),
        cmocka_unit_test(moves_as_others_do),
    };
    rig_need_kvm();
    network_need();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
