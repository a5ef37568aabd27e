/* A guest that ends is reported as exactly what happened, with the CPU that stopped it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "tests/kvm/rig.h"

static void run_hello(struct rig *rig, const char *cmdline, enum report_kind kind)
{
    rig_start(rig, &(struct rig_options){.guest = "hello", .cmdline = cmdline});
    assert_int_equal(rig_expect_stopped(rig, 20000)->kind, kind);
}

static void shutdown_is_shutdown(void **state)
{
    struct rig rig;
    run_hello(&rig, "once", REPORT_SHUTDOWN);
    assert_non_null(strstr(rig.report.text, "ACPI"));
    rig_stop(&rig);
}

static void reset_is_reset(void **state)
{
    struct rig rig;
    run_hello(&rig, "reset", REPORT_RESET);
    assert_non_null(strstr(rig.report.text, "i8042"));
    rig_stop(&rig);
}

static void triple_fault_has_registers(void **state)
{
    struct rig rig;
    run_hello(&rig, "triple", REPORT_TRIPLE_FAULT);
    assert_true(rig.report.has_cpu);
    assert_int_equal(rig.report.cpu.cpu, 0);
    assert_true(rig.report.cpu.cr0 & 1);
    rig_stop(&rig);
}

/* The guest executes an instruction that KVM's emulator does not know, where it must emulate. */
static void internal_error_has_instruction(void **state)
{
    struct rig rig;
    run_hello(&rig, "ud", REPORT_INTERNAL_ERROR);
    assert_true(rig.report.has_cpu);
    assert_true(rig.report.cpu.code_len > 0);
    assert_true(rig.report.cpu.rip >= 0x100000);
    rig_stop(&rig);
}

static void power_button_ends_it(void **state)
{
    struct rig rig;
    rig_start(&rig, &(struct rig_options){.guest = "hello"});
    rig_expect(&rig, NULL, "count=2", 20000);
    machine_press_power_button(rig.machine);
    assert_int_equal(rig_expect_stopped(&rig, 20000)->kind, REPORT_SHUTDOWN);
    rig_expect(&rig, NULL, "power button, bye", 1000);
    rig_stop(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shutdown_is_shutdown),
        cmocka_unit_test(reset_is_reset),
        cmocka_unit_test(triple_fault_has_registers),
        cmocka_unit_test(internal_error_has_instruction),
        cmocka_unit_test(power_button_ends_it),
    };
    rig_need_kvm();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
