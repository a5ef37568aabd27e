/*
 * Networks as a user gives them: a tap of the operator's, or one that ferryd puts into a bridge.
 * All of it in a network namespace of the test's own.
 */
#include <errno.h>
#include <linux/capability.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>

#include "daemon/nets.h"
#include "tests/kvm/host.h"
#include "tests/kvm/network.h"
#include "tests/kvm/rig.h"

#define HELLO "--kernel %G/hello.elf --memory 16M"

static void a_tap_is_given(void **state)
{
    struct host h;
    network_run("ip tuntap add dev tapx mode tap && ip link set tapx up");
    host_start(&h);
    host_must(&h, "start a --kernel %%G/hello.elf --memory 16M --net tap=tapx");
    host_expect(&h, "tap tapx, ", 1000, "show a");
    host_expect(&h, "virtio-net0.tx_frames", 1000, "stats a");
    host_refuses(&h, "tap 'tapx': it is in use", "start b " HELLO " --net tap=tapx");
    host_must(&h, "kill a");
    host_must(&h, "start a"); /* free again, and it stays */
    host_must(&h, "kill a");
    host_must(&h, "start c --kernel %%G/hello.elf --memory 16M --net "
                  "tap=tapx,mac=52:54:00:12:34:56");
    host_expect(&h, "tap tapx, 52:54:00:12:34:56", 1000, "show c");
    host_stop(&h);
    network_run("ip link del tapx");
}

/* Of a VM the address stays the same, and two VMs do not share one. */
static void the_address_stays(void **state)
{
    static char first[65536], second[65536], other[65536];
    struct host h;
    host_start(&h);
    network_run("ip link add br0 type bridge && ip link set br0 up");
    host_must(&h, "start a --kernel %%G/hello.elf --memory 16M --net bridge=br0");
    host_must(&h, "start b --kernel %%G/hello.elf --memory 16M --net bridge=br0");
    assert_int_equal(host_run(&h, first, sizeof(first), "show a"), 0);
    assert_int_equal(host_run(&h, other, sizeof(other), "show b"), 0);
    host_must(&h, "kill a");
    host_must(&h, "start a");
    assert_int_equal(host_run(&h, second, sizeof(second), "show a"), 0);
    const char *key = "bridge br0, ";
    assert_non_null(strstr(first, key));
    assert_non_null(strstr(other, key));
    assert_non_null(strstr(second, key));
    assert_memory_equal(strstr(first, key), strstr(second, key), 29);
    assert_memory_not_equal(strstr(first, key), strstr(other, key), 29);
    host_stop(&h);
    network_run("ip link del br0");
}

#define PORTS "ip -o link show master br0 | grep -q "
#define NO_PORTS "! " PORTS "."

/* It is there as long as the worker lives, however that ends. */
static void a_bridge_is_joined(void **state)
{
    struct host h;
    host_start(&h);
    network_run("ip link add br0 type bridge && ip link set br0 mtu 1400 up");
    host_must(&h, "start a --kernel %%G/hello.elf --memory 16M --net bridge=br0");
    network_run(PORTS "UP");
    network_run(PORTS "'mtu 1400'");
    network_run(PORTS "'ether fe:ff:'");
    host_must(&h, "kill a");
    network_expect(NO_PORTS);
    host_must(&h, "start a");
    network_run(PORTS "UP");
    assert_int_equal(kill(host_pid(&h, "a"), SIGKILL), 0);
    host_expect(&h, "crashed", 5000, "list");
    network_expect(NO_PORTS);
    host_must(&h, "start a");
    host_kill_ferryd(&h);
    network_run(PORTS "UP");
    host_start_ferryd(&h);
    host_expect(&h, "running", 5000, "list");
    network_run(PORTS "UP");
    host_stop(&h);
    network_run(NO_PORTS);
    network_run("ip link del br0");
}

static void mistakes_get_a_sentence(void **state)
{
    static const struct {
        const char *args, *says;
    } wrong[] = {
        {"--net tap=none", "tap 'none': there is no such interface"},
        {"--net bridge=none", "bridge 'none': there is no such interface"},
        {"--net tap=lo", "tap 'lo': it is no tap of one queue"},
        {"--net tap=tun0", "tap 'tun0': it is no tap of one queue"},
        {"--net tap=asleep", "tap 'asleep': it is down: `ip link set asleep up`"},
        {"--net bridge=good", "bridge 'good': it is no bridge"},
        {"--net bridge=lo", "bridge 'lo': it is no bridge"},
        {"--net tap=good --net tap=good", "two networks are on tap 'good'"},
        {"--net tap=good --net tap=none", "tap 'none': there is no such interface"},
        {"--net tap=/good", "tap '/good' is no name of a network interface"},
        {"--net tap=good,mac=00:00:00:00:00:00", "the mac of network 0 is not that of one card"},
        {"--net tap=good,mac=02:00:00:00:00:01 --net bridge=br0,mac=02:00:00:00:00:01",
         "two networks have one mac"},
    };
    struct host h;
    network_run("ip tuntap add dev tun0 mode tun && ip link set tun0 up");
    network_run("ip tuntap add dev asleep mode tap");
    network_run("ip tuntap add dev good mode tap && ip link set good up");
    network_run("ip link add br0 type bridge && ip link set br0 up");
    host_start(&h);
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        char args[512];
        snprintf(args, sizeof(args), "start x %s %s", HELLO, wrong[i].args);
        host_refuses(&h, wrong[i].says, args);
    }
    host_expect(&h, "NAME", 1000, "list"); /* nothing was defined */
    assert_int_equal(host_run(&h, NULL, 0, "show x"), 1);
    assert_false(network_try("ip link show none"));
    host_must(&h, "start x --kernel %%G/hello.elf --memory 16M --net tap=good --net bridge=br0");
    host_stop(&h);
    network_run("ip link del tun0 && ip link del asleep && ip link del good && ip link del br0");
}

/* Of the network only, and only until it is given back. */
static void may_rule_networks(bool may)
{
    struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2];
    assert_int_equal(syscall(SYS_capget, &head, data), 0);
    uint32_t bit = 1u << CAP_NET_ADMIN;
    data[0].effective = may ? data[0].effective | bit : data[0].effective & ~bit;
    assert_int_equal(syscall(SYS_capset, &head, data), 0);
}

static int open_net(Ferry__NetConfig *net, struct err *err)
{
    struct nets nets;
    uint8_t mac[6] = {2, 0, 0, 0, 0, 1};
    Ferry__MachineConfig config = FERRY__MACHINE_CONFIG__INIT;
    net->mac = (ProtobufCBinaryData){.data = mac, .len = sizeof(mac)};
    config.nets = &net;
    config.n_nets = 1;
    int rc = nets_open(&nets, &config, err);
    if (rc == 0)
        nets_fini(&nets);
    return rc;
}

static void without_the_right(void **state)
{
    struct err err = {0};
    Ferry__NetConfig own = FERRY__NET_CONFIG__INIT, other = own, bridge = own;
    network_run("ip tuntap add dev own mode tap user 0 && ip link set own up");
    network_run("ip tuntap add dev other mode tap user 4321 && ip link set other up");
    network_run("ip link add br0 type bridge && ip link set br0 up");
    own.tap = "own";
    other.tap = "other";
    bridge.bridge = "br0";
    may_rule_networks(false);
    int rcs[] = {open_net(&own, &err), open_net(&other, &err)};
    struct err of_tap = err;
    int rc = open_net(&bridge, &err);
    may_rule_networks(true);
    assert_int_equal(rcs[0], 0);
    assert_int_equal(rcs[1], -EPERM);
    assert_string_equal(of_tap.text,
                        "tap 'other': it is another user's: run ferryd as root, or make the tap "
                        "with `ip tuntap add dev other mode tap user USER`");
    assert_int_equal(rc, -EPERM);
    assert_string_equal(err.text, "bridge 'br0': only root may put a tap into it: run ferryd as "
                                  "root, or make a tap and give it as tap=NAME");
    assert_int_equal(open_net(&bridge, &err), 0);
    network_run("ip link del own && ip link del other && ip link del br0");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_tap_is_given),     cmocka_unit_test(the_address_stays),
        cmocka_unit_test(a_bridge_is_joined), cmocka_unit_test(mistakes_get_a_sentence),
        cmocka_unit_test(without_the_right),
    };
    rig_need_kvm();
    network_need();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
