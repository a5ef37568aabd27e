/* The networks of a definition: which can be, and which address a card has that was given none. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/definition.h"
#include "daemon/nets.h"
#include "proto/frame.h"

#define NETS 16

static uint8_t uuid[16] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16};

struct bench {
    Ferry__MachineConfig config;
    Ferry__NetConfig nets[NETS], *list[NETS];
    char names[NETS][32];
};

static void init(struct bench *b, size_t count)
{
    ferry__machine_config__init(&b->config);
    b->config.uuid = (ProtobufCBinaryData){.data = uuid, .len = sizeof(uuid)};
    b->config.nets = b->list;
    b->config.n_nets = count;
    for (size_t i = 0; i < count; i++) {
        b->list[i] = &b->nets[i];
        ferry__net_config__init(b->list[i]);
        snprintf(b->names[i], sizeof(b->names[i]), "tap%zu", i);
        b->nets[i].tap = b->names[i];
    }
}

static void expect(struct bench *b, const char *says)
{
    struct err err = {0};
    assert_true(nets_complete(&b->config, &err) < 0);
    assert_string_equal(err.text, says);
}

static void free_macs(struct bench *b)
{
    for (size_t i = 0; i < b->config.n_nets && i < NETS; i++)
        free(b->nets[i].mac.data);
}

/* From the uuid and the place alone: the same today and tomorrow. */
static void test_derived_address(void **state)
{
    static const uint8_t golden[2][6] = {{0xa2, 0x2e, 0xaf, 0x6c, 0x9d, 0x1b},
                                         {0x76, 0x72, 0xd8, 0x09, 0x48, 0x73}};
    struct err err;
    struct bench b;
    init(&b, 2);
    assert_int_equal(nets_complete(&b.config, &err), 0);
    for (unsigned i = 0; i < 2; i++) {
        const ProtobufCBinaryData *mac = &b.nets[i].mac;
        assert_int_equal(mac->len, 6);
        assert_int_equal(mac->data[0] & 3, 2); /* ours, and of one card */
        assert_memory_equal(mac->data, golden[i], 6);
    }
    free_macs(&b);
}

static void test_given_address(void **state)
{
    uint8_t mac[6] = {0x52, 0x54, 0, 1, 2, 3}, many[6] = {1, 0, 0, 0, 0, 0}, none[6] = {0};
    struct err err;
    struct bench b;
    init(&b, 1);
    b.nets[0].mac = (ProtobufCBinaryData){.data = mac, .len = 6};
    assert_int_equal(nets_complete(&b.config, &err), 0);
    assert_ptr_equal(b.nets[0].mac.data, mac);
    b.nets[0].mac.data = many;
    expect(&b, "the mac of network 0 is not that of one card");
    b.nets[0].mac.data = none;
    expect(&b, "the mac of network 0 is not that of one card");
    b.nets[0].mac.len = 5;
    expect(&b, "the mac of network 0 has 5 bytes, not 6");
    init(&b, 2);
    b.nets[0].mac = b.nets[1].mac = (ProtobufCBinaryData){.data = mac, .len = 6};
    expect(&b, "two networks have one mac");
}

static void test_places(void **state)
{
    static const char *const bad[] = {".",   "..",  "a/b", "a b", "0123456789abcdef",
                                      "a%d", "a:1", "\x7f"};
    char says[128];
    struct bench b;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        init(&b, 1);
        b.nets[0].tap = (char *)(uintptr_t)bad[i];
        snprintf(says, sizeof(says), "tap '%s' is no name of a network interface", bad[i]);
        expect(&b, says);
    }
    init(&b, 1);
    b.nets[0].bridge = "br0";
    expect(&b, "a network is on tap 'tap0' or on bridge 'br0', not on both");
    b.nets[0].tap = "";
    b.nets[0].bridge = "b/r";
    expect(&b, "bridge 'b/r' is no name of a network interface");
    b.nets[0].bridge = "";
    expect(&b, "a network needs a tap or a bridge");
    init(&b, 2);
    b.nets[1].tap = "tap0";
    struct err err = {0};
    assert_true(nets_complete(&b.config, &err) < 0);
    assert_string_equal(err.text, "two networks are on tap 'tap0'");
    free_macs(&b);
}

static void test_too_many(void **state)
{
    Ferry__DiskConfig disks[12], *list[12];
    char paths[12][16];
    struct err err = {0};
    struct bench b;
    init(&b, 9);
    expect(&b, "9 networks: a machine takes 8");
    init(&b, 4);
    for (size_t i = 0; i < 12; i++) {
        list[i] = &disks[i];
        ferry__disk_config__init(list[i]);
        snprintf(paths[i], sizeof(paths[i]), "/d%zu", i);
        disks[i].path = paths[i];
    }
    b.config.name = "web";
    b.config.kernel = "/k";
    b.config.disks = list;
    b.config.n_disks = 12;
    assert_true(definition_complete(&b.config, &err) < 0);
    assert_string_equal(err.text, "12 disks and 4 networks: a machine takes 15 of both");
    free_macs(&b);
    for (size_t i = 0; i < 12; i++)
        free(disks[i].id);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_derived_address),
        cmocka_unit_test(test_given_address),
        cmocka_unit_test(test_places),
        cmocka_unit_test(test_too_many),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
