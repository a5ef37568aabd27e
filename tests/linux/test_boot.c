/*
 * Linux boots from each kind of image, with an initial RAM disk and from a disk, with 1 and 2 CPUs,
 * with ACPI and without; it finds its CPUs and clocks and complains of nothing; and each way of
 * ending it ends it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "tests/kvm/rig.h"
#include "tests/linux/linux.h"

static struct linux_kernel kernel;

/* The guest is asked to go by its power button. */
static void by_button(struct host *h, const char *name)
{
    host_must(h, "stop %s --timeout 120s", name);
    linux_expect(h, name, "init: power button", 1);
    host_expect(h, "stopped", 5000, "show %s", name);
    char out[4096];
    host_run(h, out, sizeof(out), "show %s", name);
    assert_null(strstr(out, "killed"));
}

static void from_inside(struct host *h, const char *name)
{
    host_type(h, name, "t0 poweroff\n", "reboot: Power down", 120000);
    host_expect(h, "stopped", 60000, "show %s", name);
}

static void with_a_clean_disk(struct host *h, const char *name)
{
    from_inside(h, name);
    linux_expect_clean_disk(h, name);
}

/* Without ACPI there is no way to switch it off: Linux stands still, and only the plug helps. */
static void by_the_plug(struct host *h, const char *name)
{
    host_type(h, name, "t0 poweroff\n", "reboot: System halted", 120000);
    host_must(h, "stop %s --timeout 1s", name);
    host_expect(h, "stopped", 5000, "show %s", name);
}

static void by_reboot(struct host *h, const char *name)
{
    host_type(h, name, "t0 reboot\n", "reboot: Restarting system", 120000);
    linux_expect(h, name, "init: ready", 2);
    host_must(h, "kill %s", name);
}

static const struct boot {
    struct linux_options options;
    const char *acpi;
    void (*end)(struct host *h, const char *name);
} boots[] = {
    {{"a", "vmlinux", NULL, 1}, "yes", by_button},
    {{"b", "bzImage", NULL, 2, .from_disk = true}, "yes", with_a_clean_disk},
    {{"c", "bzImage", "acpi=off", 1}, "no", by_the_plug},
    {{"d", "vmlinux", "acpi=off", 2, .from_disk = true}, "no", by_reboot},
};
#define BOOTS (sizeof(boots) / sizeof(boots[0]))

static void look_at(struct host *h, const struct boot *b)
{
    char facts[100];
    const char *name = b->options.name;
    snprintf(facts, sizeof(facts), "init: ready cpus=%u acpi=%s clocksource=kvm-clock",
             b->options.cpus, b->acpi);
    linux_expect(h, name, "init: ready", 1);
    host_expect(h, facts, 1000, "console %s --log", name);
    linux_expect_healthy(h, name, b->options.cpus);
    linux_expect_no_complaint(h, name, true);
}

/* All at once: most of a boot is one CPU's work. */
static void boots_and_ends(void **state)
{
    struct host h;
    host_start(&h);
    for (size_t i = 0; i < BOOTS; i++)
        linux_start(&h, &kernel, &boots[i].options);
    for (size_t i = 0; i < BOOTS; i++) {
        look_at(&h, &boots[i]);
        boots[i].end(&h, boots[i].options.name);
    }
    host_stop(&h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(boots_and_ends)};
    rig_need_kvm();
    linux_need(&kernel);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
