/* ACPI power management: registers, timer, power button, sleep, reset. */
#include "machine/devices/acpi_pm.h"
#include "tests/unit/machine/rig.h"

#define STATUS LAYOUT_PM1A_EVENT
#define ENABLE (LAYOUT_PM1A_EVENT + 2)
#define CONTROL LAYOUT_PM1A_CONTROL
#define TIMER LAYOUT_PM_TIMER
#define GSI LAYOUT_SCI_GSI
#define PWRBTN 0x0100
#define HALF_NS 599932015941ull /* 2^31 ticks of 3579545 Hz, rounded up */

static struct acpi_pm *pm_of(struct rig *r)
{
    struct acpi_pm *p = devices_find(&r->devices, "acpi-pm");
    assert_non_null(p);
    return p;
}

static void test_registers(void **state)
{
    struct rig *r = *state;
    assert_int_equal(in(r, STATUS, 4), 0);
    assert_int_equal(in(r, CONTROL, 2), 0x0001); /* ACPI mode from the start */
    out(r, CONTROL, 0, 2);
    assert_int_equal(in(r, CONTROL, 2), 0x0001);
    out(r, CONTROL, 0xdfff, 2);
    assert_int_equal(in(r, CONTROL, 2), 0x1c03);
    out(r, ENABLE, 0xffff, 2);
    assert_int_equal(in(r, ENABLE, 2), 0x0721);
    outb(r, ENABLE, 0x00); /* one byte of it */
    assert_int_equal(in(r, ENABLE, 2), 0x0700);
    outb(r, ENABLE + 1, 0x01);
    assert_int_equal(in(r, ENABLE, 2), 0x0100);
    assert_int_equal(in(r, STATUS, 4), 0x01000000);
    assert_int_equal(in(r, CONTROL + 2, 2), 0);
    assert_int_equal(r->asked[MACHINE_REQUEST_SHUTDOWN], 0);
}

static void test_timer_counts(void **state)
{
    struct rig *r = *state;
    uint64_t start = in(r, TIMER, 4);
    rig_advance(r, SECOND);
    assert_int_equal(in(r, TIMER, 4) - start, 3579545);
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(inb(r, TIMER + i), (start + 3579545) >> (8 * i) & 0xff);
    out(r, TIMER, 0, 4); /* read-only */
    assert_int_equal(in(r, TIMER, 4), start + 3579545);
    rig_advance(r, 1200 * SECOND);
    assert_int_equal(in(r, TIMER, 4), (uint32_t)(start + 1201ull * 3579545));
    assert_null(r->timers.armed);
}

/* The status is set at each change of the top bit; nothing runs for it unless enabled. */
static void test_timer_status(void **state)
{
    struct rig *r = *state;
    rig_advance(r, HALF_NS - 1);
    assert_int_equal(in(r, STATUS, 2), 0);
    assert_int_equal(in(r, TIMER, 4), 0x7fffffff);
    rig_advance(r, 1);
    assert_int_equal(in(r, TIMER, 4), 0x80000000);
    assert_int_equal(in(r, STATUS, 2), 1);
    assert_int_equal(r->edges[GSI], 0);
    out(r, STATUS, 0xfffe, 2);
    assert_int_equal(in(r, STATUS, 2), 1);
    out(r, STATUS, 1, 2);
    assert_int_equal(in(r, STATUS, 2), 0);
    rig_advance(r, HALF_NS);
    assert_int_equal(in(r, STATUS, 2), 1);
}

static void test_timer_interrupt(void **state)
{
    struct rig *r = *state;
    out(r, ENABLE, 1, 2);
    assert_non_null(r->timers.armed);
    rig_advance(r, HALF_NS - 1);
    assert_false(r->level[GSI]);
    rig_advance(r, 1);
    assert_true(r->level[GSI]);
    assert_null(r->timers.armed);
    out(r, STATUS, 1, 2);
    assert_false(r->level[GSI]);
    rig_advance(r, HALF_NS);
    assert_true(r->level[GSI]);
    out(r, ENABLE, 0, 2);
    assert_false(r->level[GSI]);
    out(r, ENABLE, 1, 2);
    assert_true(r->level[GSI]);
}

/* Standing still in a pause, however long, and with the interrupt at its new moment after. */
static void test_timer_pause(void **state)
{
    struct rig *r = *state;
    out(r, ENABLE, 1, 2);
    rig_advance(r, 10 * SECOND);
    uint64_t before = in(r, TIMER, 4);
    devices_quiesce(&r->devices);
    assert_null(r->timers.armed);
    rig_advance(r, 5000 * SECOND);
    assert_int_equal(in(r, TIMER, 4), before);
    devices_resume(&r->devices);
    assert_int_equal(in(r, TIMER, 4), before);
    rig_advance(r, HALF_NS - 10 * SECOND - 1);
    assert_false(r->level[GSI]);
    rig_advance(r, 1);
    assert_true(r->level[GSI]);
}

static void test_power_button(void **state)
{
    struct rig *r = *state;
    acpi_pm_press_power_button(pm_of(r));
    assert_int_equal(in(r, STATUS, 2), PWRBTN);
    assert_false(r->level[GSI]);
    out(r, ENABLE, PWRBTN, 2); /* pressed before the guest listened */
    assert_true(r->level[GSI]);
    out(r, STATUS, PWRBTN, 2);
    assert_false(r->level[GSI]);
    acpi_pm_press_power_button(pm_of(r));
    acpi_pm_press_power_button(pm_of(r));
    assert_true(r->level[GSI]);
    assert_int_equal(r->edges[GSI], 2);
    out(r, STATUS, PWRBTN, 2);
    devices_quiesce(&r->devices);
    acpi_pm_press_power_button(pm_of(r)); /* the standing machine does not change */
    assert_int_equal(in(r, STATUS, 2), 0);
    devices_resume(&r->devices);
    assert_true(r->level[GSI]);
    out(r, STATUS, PWRBTN, 2);
    devices_quiesce(&r->devices);
    devices_resume(&r->devices);
    assert_false(r->level[GSI]);
}

static void test_sleep(void **state)
{
    struct rig *r = *state;
    for (unsigned type = 0; type < 8; type++) {
        out(r, CONTROL, 0x2000 | type << 10, 2);
        assert_int_equal(in(r, CONTROL, 2), 0x0001 | type << 10);
        assert_int_equal(r->asked[MACHINE_REQUEST_SHUTDOWN], type >= 5);
    }
    assert_string_equal(r->asked_by, "ACPI S5");
    out(r, CONTROL, 5 << 10, 2); /* type alone, as ACPICA writes it first */
    assert_int_equal(r->asked[MACHINE_REQUEST_SHUTDOWN], 1);
    outb(r, CONTROL, 0x01); /* the other byte is not a second SLP_EN */
    assert_int_equal(r->asked[MACHINE_REQUEST_SHUTDOWN], 1);
    outb(r, CONTROL + 1, 0x34);
    assert_int_equal(r->asked[MACHINE_REQUEST_SHUTDOWN], 2);
    assert_int_equal(r->asked[MACHINE_REQUEST_RESET], 0);
}

static void test_reset_port(void **state)
{
    struct rig *r = *state;
    assert_int_equal(inb(r, LAYOUT_RESET_PORT), 0);
    outb(r, LAYOUT_RESET_PORT, 0x02);
    assert_int_equal(inb(r, LAYOUT_RESET_PORT), 0x02);
    out(r, 0xcf8, 0x80000600, 4); /* PCI configuration is another port */
    assert_int_equal(r->asked[MACHINE_REQUEST_RESET], 0);
    outb(r, LAYOUT_RESET_PORT, LAYOUT_RESET_VALUE);
    outb(r, LAYOUT_RESET_PORT, 0x0e);
    outb(r, LAYOUT_RESET_PORT, 0x04);
    assert_int_equal(r->asked[MACHINE_REQUEST_RESET], 3);
    assert_string_equal(r->asked_by, "port 0xcf9");
    assert_int_equal(r->asked[MACHINE_REQUEST_SHUTDOWN], 0);
}

static void test_reset(void **state)
{
    struct rig *r = *state;
    out(r, ENABLE, 0x101, 2);
    out(r, CONTROL, 0x1402, 2);
    acpi_pm_press_power_button(pm_of(r));
    rig_advance(r, 2 * HALF_NS);
    assert_true(r->level[GSI]);
    devices_quiesce(&r->devices);
    devices_reset(&r->devices);
    devices_resume(&r->devices);
    assert_false(r->level[GSI]);
    assert_int_equal(in(r, STATUS, 4), 0);
    assert_int_equal(in(r, CONTROL, 2), 1);
    assert_int_equal(in(r, TIMER, 4), 0);
    assert_null(r->timers.armed);
}

int main(void)
{
#define T(fn) cmocka_unit_test_setup_teardown(fn, rig_setup, rig_teardown)
    const struct CMUnitTest tests[] = {
        T(test_registers),       T(test_timer_counts), T(test_timer_status),
        T(test_timer_interrupt), T(test_timer_pause),  T(test_power_button),
        T(test_sleep),           T(test_reset_port),   T(test_reset),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
