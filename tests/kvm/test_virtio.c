/*
 * virtio as a driver in a guest meets it: every device by a guest that checks itself, also while
 * its machine is saved and built anew at random moments.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "machine/devices/virtio_blk.h"
#include "machine/devices/virtio_rng.h"
#include "tests/kvm/rig.h"

#define CYCLES 40
#define CYCLES_LONG 400

static const struct device_wish rng[] = {{.type = &virtio_rng_type}};

static int cycles(void)
{
    return getenv("FERRY_LONG") ? CYCLES_LONG : CYCLES;
}

static void start_rng(struct rig *rig, const char *cmdline)
{
    rig_start(rig, &(struct rig_options){.guest = "rng",
                                         .cmdline = cmdline,
                                         .memory_bytes = 32ull << 20,
                                         .devices = rng,
                                         .ndevices = 1});
}

static void rng_serves(void **state)
{
    static const char *const ways[] = {"quit=3", "quit=3 noindirect noevent", "quit=3 noevent",
                                       "quit=3 size=16 noindirect", "quit=3 size=1"};
    for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
        struct rig rig;
        start_rng(&rig, ways[i]);
        rig_expect(&rig, NULL, "rng: ok", 20000);
        assert_true(rig_last_value(&rig, "requests") > 0);
        rig_stop(&rig);
    }
}

/* Without ACPI the windows stand on the command line. */
static void found_without_acpi(void **state)
{
    struct rig rig;
    start_rng(&rig, "quit=1 acpi=off");
    rig_expect(&rig, NULL, "rng: ok", 20000);
    rig_stop(&rig);
}

/* What the doorbell takes never comes to the vCPU's thread: beside the exits of the driver's own
 * reads and writes of registers (two for each interrupt) there are none. */
static void doorbells_cost_no_exit(void **state)
{
    struct rig rig;
    start_rng(&rig, "quit=5 batch=1");
    rig_expect(&rig, NULL, "rng: ok", 20000);
    long kicks = rig_last_value(&rig, "kicks"), irqs = rig_last_value(&rig, "irqs");
    long writes = (long)rig.counters.exits[COUNTER_MMIO_WRITE];
    assert_true(kicks > 50);
    assert_true(writes < irqs + 40);
    rig_stop(&rig);
}

static void rng_survives_moves(void **state)
{
    struct rig rig;
    start_rng(&rig, *state);
    rig_expect(&rig, NULL, "errors=0", 20000);
    rig_shuffle(&rig, cycles(), CLOCK_FREEZE);
    uint64_t offset = console_end(&rig.console);
    rig_expect(&rig, &offset, "errors=0", 20000);
    rig_expect(&rig, &offset, "errors=0", 20000);
    rig_check_clean(&rig);
    rig_stop(&rig);
}

/* A reset in the middle: the driver finds a device as new. */
static void rng_survives_resets(void **state)
{
    struct rig rig;
    start_rng(&rig, "");
    for (int i = 0; i < 5; i++) {
        uint64_t offset = console_end(&rig.console);
        rig_expect(&rig, &offset, "errors=0", 20000);
        rig_reset(&rig);
    }
    rig_check_clean(&rig);
    rig_stop(&rig);
}

/* ---- virtio-blk ---- */

#define DISK_BYTES (8ll << 20)

struct disk_rig {
    struct virtio_blk_config config;
    struct device_wish wishes[2];
    struct rig rig;
};

static void disk_open(struct disk_rig *d, const struct disk_engine *engine, bool readonly)
{
    *d = (struct disk_rig){.config = {.fd = memfd_create("disk", MFD_CLOEXEC),
                                      .readonly = readonly,
                                      .id = "quince",
                                      .queues = 2,
                                      .engine = engine}};
    assert_int_equal(ftruncate(d->config.fd, DISK_BYTES), 0);
    d->wishes[0] = rng[0];
    d->wishes[1] = (struct device_wish){.type = &virtio_blk_type, .config = &d->config};
}

static void disk_start(struct disk_rig *d, const char *cmdline)
{
    rig_start(&d->rig, &(struct rig_options){.guest = "blk",
                                             .cmdline = cmdline,
                                             .memory_bytes = 32ull << 20,
                                             .devices = d->wishes,
                                             .ndevices = 2});
}

static void disk_life(struct disk_rig *d, const char *cmdline)
{
    disk_start(d, cmdline);
    rig_expect(&d->rig, NULL, "blk: ok", 30000);
    rig_check_clean(&d->rig);
    rig_stop(&d->rig);
}

static void blk_serves(void **state)
{
    static const char *const ways[] = {"zeroed quit=5 id=quince", "quit=3 noindirect noevent",
                                       "quit=3 depth=1", "quit=3 size=16 depth=32 acpi=off"};
    const struct disk_engine *engines[] = {&disk_ring, &disk_pool};
    for (size_t e = 0; e < 2; e++)
        for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
            struct disk_rig d;
            disk_open(&d, engines[e], false);
            disk_life(&d, ways[i]);
            close(d.config.fd);
        }
}

/* What was written is there in the next life, and a read-only disk gives it and takes nothing. */
static void blk_keeps(void **state)
{
    struct disk_rig d;
    disk_open(&d, NULL, false);
    disk_life(&d, "fill");
    disk_life(&d, "check");
    d.config.readonly = true;
    disk_life(&d, "check ro");
    disk_life(&d, "ro quit=3");
    disk_life(&d, "check ro");
    close(d.config.fd);
}

static void blk_survives_moves(void **state)
{
    struct disk_rig d;
    disk_open(&d, *state, false);
    disk_start(&d, "depth=32");
    rig_expect(&d.rig, NULL, "errors=0", 20000);
    rig_shuffle(&d.rig, cycles(), CLOCK_FREEZE);
    uint64_t offset = console_end(&d.rig.console);
    rig_expect(&d.rig, &offset, "errors=0", 20000);
    rig_expect(&d.rig, &offset, "errors=0", 20000);
    rig_check_clean(&d.rig);
    rig_stop(&d.rig);
    close(d.config.fd);
}

static void blk_survives_resets(void **state)
{
    struct disk_rig d;
    disk_open(&d, NULL, false);
    disk_start(&d, "depth=32");
    for (int i = 0; i < 5; i++) {
        uint64_t offset = console_end(&d.rig.console);
        rig_expect(&d.rig, &offset, "errors=0", 20000);
        rig_reset(&d.rig);
    }
    rig_check_clean(&d.rig);
    rig_stop(&d.rig);
    close(d.config.fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rng_serves),
        cmocka_unit_test(found_without_acpi),
        cmocka_unit_test(doorbells_cost_no_exit),
        {"rng survives moves", rng_survives_moves, NULL, NULL, ""},
        {"rng without its features survives moves", rng_survives_moves, NULL, NULL,
         "noindirect noevent"},
        cmocka_unit_test(rng_survives_resets),
        cmocka_unit_test(blk_serves),
        cmocka_unit_test(blk_keeps),
        {"blk survives moves", blk_survives_moves, NULL, NULL, (void *)&disk_ring},
        {"blk by threads survives moves", blk_survives_moves, NULL, NULL, (void *)&disk_pool},
        cmocka_unit_test(blk_survives_resets),
    };
    rig_need_kvm();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
