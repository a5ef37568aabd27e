/*
 * Debian's cloud kernel, as it is, boots to user space on a host whose CPU runs guests (VT-x, SVM).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/kvm/rig.h"
#include "tests/linux/linux.h"

static char stock[4096];

/* Another KVM may do without the CPU's help and emulate what a guest's kernel does. */
static void need_cpu(void)
{
    if (access("/sys/module/kvm_intel", F_OK) == 0 || access("/sys/module/kvm_amd", F_OK) == 0)
        return;
    print_message(
        "skipped: KVM runs without VT-x or SVM here (neither kvm_intel nor kvm_amd is "
        "loaded) and emulates a guest's kernel, which must then avoid some instructions\n");
    exit(77);
}

static void boots_to_user_space(void **state)
{
    struct host h;
    host_start(&h);
    host_must(&h,
              "start a --kernel %s --initrd %%G/linux.initrd --memory 256M --cpus 2 "
              "--cmdline console=ttyS0",
              stock);
    linux_expect(&h, "a", "init: ready cpus=2 acpi=yes", 1);
    linux_expect_healthy(&h, "a", 2);
    host_must(&h, "snapshot create a s");
    host_must(&h, "restore s --name b");
    linux_expect_healthy(&h, "b", 2);
    linux_expect_no_complaint(&h, "b", false);
    host_type(&h, "a", "t0 poweroff\n", "reboot: Power down", 60000);
    host_expect(&h, "stopped", 60000, "show a");
    host_stop(&h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(boots_to_user_space)};
    rig_need_kvm();
    need_cpu();
    linux_need_stock(stock, sizeof(stock));
    return cmocka_run_group_tests(tests, NULL, NULL);
}
