/* Which networks a restored machine gets: those that it had, or others in their order. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "daemon/clone_name.h"
#include "daemon/restore_nets.h"
#include "proto/frame.h"

static uint8_t mac[2][6] = {{2, 0, 0, 0, 0, 1}, {2, 0, 0, 0, 0, 2}};

/* A saved machine on tap "a" and bridge "b". */
static Ferry__MachineConfig *saved(void)
{
    struct err err;
    Ferry__NetConfig a = FERRY__NET_CONFIG__INIT, b = a, *list[] = {&a, &b};
    Ferry__MachineConfig config = FERRY__MACHINE_CONFIG__INIT;
    a.tap = "a";
    a.mac = (ProtobufCBinaryData){.data = mac[0], .len = 6};
    b.bridge = "b";
    b.mac = (ProtobufCBinaryData){.data = mac[1], .len = 6};
    config.nets = list;
    config.n_nets = 2;
    Ferry__MachineConfig *copy = (Ferry__MachineConfig *)frame_copy(&config.base, &err);
    assert_non_null(copy);
    return copy;
}

struct given {
    const char *tap, *bridge;
    const uint8_t *mac;
};

static Ferry__MachineConfig *restore(const struct given *given, size_t count, unsigned clone,
                                     struct err *err)
{
    Ferry__NetConfig nets[3], *list[3];
    Ferry__RestoreRequest ask = FERRY__RESTORE_REQUEST__INIT;
    Ferry__MachineConfig *config = saved();
    for (size_t i = 0; i < count; i++) {
        list[i] = &nets[i];
        ferry__net_config__init(list[i]);
        nets[i].tap = (char *)(uintptr_t)given[i].tap;
        nets[i].bridge = (char *)(uintptr_t)given[i].bridge;
        if (given[i].mac)
            nets[i].mac =
                (ProtobufCBinaryData){.data = (uint8_t *)(uintptr_t)given[i].mac, .len = 6};
    }
    ask.nets = list;
    ask.n_nets = count;
    *err = (struct err){0};
    if (restore_nets(config, &ask, clone, err) == 0)
        return config;
    frame_free(&config->base);
    return NULL;
}

static void expect(Ferry__MachineConfig *config, size_t i, const char *tap, const char *bridge)
{
    assert_non_null(config);
    assert_string_equal(config->nets[i]->tap, tap);
    assert_string_equal(config->nets[i]->bridge, bridge);
    assert_int_equal(config->nets[i]->mac.len, 6);
    assert_memory_equal(config->nets[i]->mac.data, mac[i], 6);
}

static void test_its_own(void **state)
{
    struct err err;
    Ferry__MachineConfig *config = restore(NULL, 0, 0, &err);
    expect(config, 0, "a", "");
    expect(config, 1, "", "b");
    frame_free(&config->base);
}

static void test_others(void **state)
{
    const struct given given[] = {{"", "x", NULL}, {"y", "", mac[1]}};
    struct err err;
    Ferry__MachineConfig *config = restore(given, 1, 0, &err);
    expect(config, 0, "", "x"); /* a bridge in the place of a tap */
    expect(config, 1, "", "b");
    frame_free(&config->base);
    config = restore(given, 2, 0, &err);
    expect(config, 0, "", "x");
    expect(config, 1, "y", "");
    frame_free(&config->base);
}

static void test_numbered(void **state)
{
    const struct given given[] = {{"t{}", "", NULL}, {"", "b{}x{}", NULL}};
    struct err err;
    Ferry__MachineConfig *config = restore(given, 2, 12, &err);
    expect(config, 0, "t12", "");
    expect(config, 1, "", "b12x{}");
    frame_free(&config->base);
    config = restore(given, 1, 0, &err);
    expect(config, 0, "t{}", "");
    frame_free(&config->base);
}

static void refuse(const struct given *given, size_t count, unsigned clone, const char *says)
{
    struct err err;
    assert_null(restore(given, count, clone, &err));
    assert_string_equal(err.text, says);
}

static void test_wrong(void **state)
{
    const struct given many[] = {{"x", "", NULL}, {"y", "", NULL}, {"z", "", NULL}};
    const struct given other[] = {{"x", "", mac[1]}};
    refuse(many, 3, 0, "more networks are given than the saved machine has, which is 2");
    refuse(other, 1, 0,
           "network 0 cannot have another mac: the saved guest knows it as "
           "02:00:00:00:00:01");
    refuse(many, 1, 1,
           "clones cannot share tap 'x': give each its own, as --net tap=web{}, or a "
           "bridge");
    refuse(NULL, 0, 2,
           "clones cannot share tap 'a': give each its own, as --net tap=web{}, or a "
           "bridge");
}

static void test_names(void **state)
{
    static const char *const names[][2] = {{"{}", "7"}, {"a{}b", "a7b"}, {"{}{}", "7{}"},
                                           {"{", "{"},  {"", ""},        {"a", "a"}};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        char *numbered = clone_name(names[i][0], 7), *only = clone_name(names[i][0], 0);
        assert_string_equal(numbered, names[i][1]);
        assert_string_equal(only, names[i][0]);
        free(numbered);
        free(only);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_its_own),  cmocka_unit_test(test_others),
        cmocka_unit_test(test_numbered), cmocka_unit_test(test_wrong),
        cmocka_unit_test(test_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
