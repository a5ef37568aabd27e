/* The keyboard controller: what probes ask, and the ways to reset. */
#include "tests/unit/machine/rig.h"

#define DATA LAYOUT_I8042_DATA
#define COMMAND LAYOUT_I8042_COMMAND
#define GSI LAYOUT_I8042_GSI

static uint8_t ask(struct rig *r, uint8_t command)
{
    outb(r, COMMAND, command);
    assert_int_equal(inb(r, COMMAND) & 0x09, 0x09);
    uint8_t value = inb(r, DATA);
    assert_int_equal(inb(r, COMMAND) & 0x01, 0);
    return value;
}

static void tell(struct rig *r, uint8_t command, uint8_t parameter)
{
    outb(r, COMMAND, command);
    assert_int_equal(inb(r, COMMAND) & 0x09, 0x08);
    outb(r, DATA, parameter);
    assert_int_equal(inb(r, COMMAND) & 0x08, 0);
}

/* The order in which Linux asks. */
static void test_probe(void **state)
{
    struct rig *r = *state;
    assert_int_equal(inb(r, COMMAND), 0x14);
    assert_int_equal(ask(r, 0xaa), 0x55);
    uint8_t config = ask(r, 0x20);
    assert_int_equal(config, 0x65);
    tell(r, 0x60, (uint8_t)((config | 0x10) & ~0x01)); /* no interrupts, keyboard off */
    unsigned edges = r->edges[GSI];
    assert_int_equal(ask(r, 0x20), 0x74);
    tell(r, 0xd3, 0x5a); /* loops back, but not from an AUX port */
    assert_int_equal(inb(r, COMMAND) & 0x21, 0x01);
    assert_int_equal(inb(r, DATA), 0x5a);
    assert_int_equal(ask(r, 0xa9), 0x01); /* and that port is dead */
    outb(r, COMMAND, 0xa8);
    assert_int_equal(ask(r, 0x20) & 0x20, 0x20);
    assert_int_equal(ask(r, 0xab), 0x00);
    assert_int_equal(ask(r, 0xc0), 0x80);
    assert_int_equal(ask(r, 0xd0), 0xcf);
    assert_int_equal(r->edges[GSI], edges);
    assert_int_equal(r->asked[MACHINE_REQUEST_RESET], 0);
}

/* A byte to the absent keyboard comes back at once, with its interrupt. */
static void test_no_keyboard(void **state)
{
    struct rig *r = *state;
    outb(r, COMMAND, 0xad);
    assert_int_equal(ask(r, 0x20) & 0x10, 0x10);
    unsigned before = r->edges[GSI];
    outb(r, DATA, 0xf2);
    assert_true(r->level[GSI]);
    assert_int_equal(r->edges[GSI], before + 1);
    assert_int_equal(inb(r, COMMAND), 0x55);
    outb(r, DATA, 0xf2); /* again, the first unread */
    assert_int_equal(r->edges[GSI], before + 2);
    assert_int_equal(inb(r, DATA), 0xfe);
    assert_false(r->level[GSI]);
    assert_int_equal(inb(r, COMMAND), 0x14);
    assert_int_equal(ask(r, 0x20) & 0x10, 0); /* that switched it on */
    tell(r, 0xd4, 0xff);
    assert_int_equal(inb(r, COMMAND) & 0x41, 0x41);
    assert_int_equal(inb(r, DATA), 0xfe);
    tell(r, 0xd2, 0x1c);
    assert_true(r->level[GSI]);
    assert_int_equal(inb(r, DATA), 0x1c);
}

static void test_ram(void **state)
{
    struct rig *r = *state;
    for (uint8_t i = 1; i < 32; i++)
        tell(r, (uint8_t)(0x60 + i), (uint8_t)(i * 7));
    for (uint8_t i = 1; i < 32; i++)
        assert_int_equal(ask(r, (uint8_t)(0x20 + i)), i * 7);
    outb(r, COMMAND, 0x65); /* a command in place of a parameter drops the first */
    assert_int_equal(ask(r, 0xaa), 0x55);
    assert_int_equal(ask(r, 0x25), 5 * 7);
    outb(r, COMMAND, 0xae);
    outb(r, COMMAND, 0x00); /* unknown: no answer */
    assert_int_equal(inb(r, COMMAND) & 0x01, 0);
}

static void test_pulse(void **state)
{
    struct rig *r = *state;
    for (unsigned c = 0xf0; c <= 0xff; c++) {
        unsigned before = r->asked[MACHINE_REQUEST_RESET];
        outb(r, COMMAND, (uint8_t)c);
        assert_int_equal(r->asked[MACHINE_REQUEST_RESET], before + !(c & 1));
    }
    assert_string_equal(r->asked_by, "i8042");
    assert_int_equal(r->asked[MACHINE_REQUEST_SHUTDOWN], 0);
}

static void test_output_port(void **state)
{
    struct rig *r = *state;
    tell(r, 0xd1, 0xdd);
    assert_int_equal(ask(r, 0xd0), 0xdd);
    assert_int_equal(inb(r, 0x92), 0x00); /* A20 is one line */
    tell(r, 0xd1, 0xdf);
    assert_int_equal(inb(r, 0x92), 0x02);
    assert_int_equal(r->asked[MACHINE_REQUEST_RESET], 0);
    tell(r, 0xd1, 0xde);
    assert_int_equal(r->asked[MACHINE_REQUEST_RESET], 1);
    assert_string_equal(r->asked_by, "i8042 output port");
}

static void test_port92(void **state)
{
    struct rig *r = *state;
    assert_int_equal(inb(r, 0x92), 0x02);
    outb(r, 0x92, 0xfc);
    assert_int_equal(inb(r, 0x92), 0x00);
    assert_int_equal(ask(r, 0xd0) & 0x02, 0);
    outb(r, 0x92, 0x02);
    assert_int_equal(ask(r, 0xd0) & 0x02, 0x02);
    assert_int_equal(r->asked[MACHINE_REQUEST_RESET], 0);
    outb(r, 0x92, 0x03);
    assert_int_equal(r->asked[MACHINE_REQUEST_RESET], 1);
    outb(r, 0x92, 0x03); /* it is the edge that resets */
    assert_int_equal(r->asked[MACHINE_REQUEST_RESET], 1);
    assert_string_equal(r->asked_by, "port 0x92");
    devices_quiesce(&r->devices);
    devices_reset(&r->devices);
    devices_resume(&r->devices);
    assert_int_equal(inb(r, 0x92), 0x02);
}

int main(void)
{
#define T(fn) cmocka_unit_test_setup_teardown(fn, rig_setup, rig_teardown)
    const struct CMUnitTest tests[] = {
        T(test_probe), T(test_no_keyboard), T(test_ram),
        T(test_pulse), T(test_output_port), T(test_port92),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
