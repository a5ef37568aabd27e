/* A reset is a start: same machine, same guest; only what a PC keeps over it is kept. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "machine/bus.h"
#include "tests/kvm/rig.h"

#define NVRAM_BYTE 0x60

static void cmos_outlives_a_reset(void **state)
{
    struct rig rig;
    uint8_t index = NVRAM_BYTE, value = 0xa5;
    uint64_t offset = 0;
    rig_start(&rig, &(struct rig_options){.guest = "hello", .cpus = 2});
    rig_expect(&rig, &offset, "count=2", 20000);
    const struct bus *pio = machine_ports(rig.machine);
    assert_true(bus_write(pio, 0x70, &index, 1));
    assert_true(bus_write(pio, 0x71, &value, 1));
    for (int i = 0; i < 5; i++) {
        rig_reset(&rig);
        rig_expect(&rig, &offset, "hello from ferry guest", 20000);
        rig_expect(&rig, &offset, "count=1", 20000);
    }
    pio = machine_ports(rig.machine);
    value = 0;
    assert_true(bus_write(pio, 0x70, &index, 1));
    assert_true(bus_read(pio, 0x71, &value, 1));
    assert_int_equal(value, 0xa5);
    rig_check_clean(&rig);
    rig_stop(&rig);
}

/* Memory of before the reset is gone: a page that was full reads as zero. */
static void memory_does_not_outlive_it(void **state)
{
    struct rig rig;
    struct err err;
    uint64_t offset = 0, gpa = 100ull << 20, word = 0x123456789abcdef0;
    rig_start(&rig, &(struct rig_options){.guest = "hello"});
    rig_expect(&rig, &offset, "count=1", 20000);
    assert_int_equal(mem_write(machine_mem(rig.machine), gpa, &word, 8, &err), 0);
    rig_reset(&rig);
    rig_expect(&rig, &offset, "count=1", 20000);
    assert_int_equal(mem_read(machine_mem(rig.machine), gpa, &word, 8, &err), 0);
    assert_int_equal(word, 0);
    rig_stop(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cmos_outlives_a_reset),
        cmocka_unit_test(memory_does_not_outlive_it),
    };
    rig_need_kvm();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
