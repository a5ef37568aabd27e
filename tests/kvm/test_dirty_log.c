/*
 * Nothing is lost when guest, devices and harvester race: while a guest writes pages as fast as it
 * can and a thread writes others through the door, rounds of collect, re-arm and copy keep a shadow
 * of all RAM; after a pause and a last round the shadow equals the RAM, byte by byte.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "machine/dirty.h"
#include "tests/kvm/rig.h"

#define RAM_BYTES (64ull << 20)
#define RAM_PAGES (RAM_BYTES / MEM_PAGE)
#define CHUNK_PAGES 512u
#define DEVICE_BYTES (2ull << 20) /* at the end of RAM; the guest is told to stay below */
#define CYCLES 12
#define ROUNDS 6

struct device_thread {
    struct mem *mem;
    _Atomic bool stop;
    uint64_t writes;
};

static void *device_main(void *arg)
{
    struct device_thread *d = arg;
    uint64_t x = 88172645463325252ull;
    struct err err;
    while (!d->stop) {
        x ^= x << 13, x ^= x >> 7, x ^= x << 17;
        uint64_t gpa = RAM_BYTES - DEVICE_BYTES + x % (DEVICE_BYTES - 8);
        if (mem_write(d->mem, gpa, &x, 8, &err) < 0)
            abort();
        d->writes++;
    }
    return NULL;
}

/* Copies the consumer's pages of one chunk; the re-arming comes before the reading. */
static size_t copy_chunk(struct dirty *dirty, struct dirty_consumer *mine, struct mem *mem,
                         uint8_t *shadow, size_t first)
{
    struct err err;
    size_t copied = 0;
    uint64_t taken[CHUNK_PAGES / 64];
    for (size_t w = 0; w < CHUNK_PAGES / 64; w++)
        taken[w] = bitmap_take_word(&mine->pages, first / 64 + w);
    assert_int_equal(dirty_rearm(dirty, first, CHUNK_PAGES, &err), 0);
    for (size_t i = 0; i < CHUNK_PAGES; i++) {
        if (!(taken[i / 64] >> (i % 64) & 1))
            continue;
        memcpy(shadow + (first + i) * MEM_PAGE, mem->base + (first + i) * MEM_PAGE, MEM_PAGE);
        copied++;
    }
    return copied;
}

static size_t copy_round(struct dirty *dirty, struct dirty_consumer *mine, struct mem *mem,
                         uint8_t *shadow)
{
    struct err err = {0};
    size_t copied = 0;
    if (dirty_collect(dirty, &err) < 0)
        fail_msg("%s", err.text);
    for (size_t first = 0; first < RAM_PAGES; first += CHUNK_PAGES)
        copied += copy_chunk(dirty, mine, mem, shadow, first);
    return copied;
}

static void compare(const struct mem *mem, const uint8_t *shadow, unsigned cycle)
{
    for (size_t page = 0; page < RAM_PAGES; page++)
        if (memcmp(mem->base + page * MEM_PAGE, shadow + page * MEM_PAGE, MEM_PAGE) != 0)
            fail_msg("cycle %u: page %zu was changed and not reported", cycle, page);
}

static void nothing_is_lost(void **state)
{
    struct rig rig;
    struct dirty dirty;
    struct dirty_consumer mine;
    struct err err = {0};
    uint8_t *shadow = calloc(1, RAM_BYTES);
    pthread_t thread;
    size_t copied = 0;
    rig_start(&rig, &(struct rig_options){.guest = "dirty",
                                          .cmdline = "rate=max pages=4096 limit=62M",
                                          .cpus = 2,
                                          .memory_bytes = RAM_BYTES});
    struct device_thread device = {.mem = machine_mem(rig.machine)};
    rig_expect(&rig, NULL, "errors=0", 20000);
    dirty_init(&dirty, machine_vm(rig.machine));
    if (dirty_attach(&dirty, &mine, &err) < 0)
        fail_msg("%s", err.text);
    assert_int_equal(pthread_create(&thread, NULL, device_main, &device), 0);
    for (unsigned cycle = 0; cycle < CYCLES; cycle++) {
        for (unsigned round = 0; round < ROUNDS; round++)
            copied += copy_round(&dirty, &mine, device.mem, shadow);
        machine_pause(rig.machine);
        if (cycle + 1 == CYCLES) {
            device.stop = true;
            pthread_join(thread, NULL);
            copy_round(&dirty, &mine, device.mem, shadow);
            compare(device.mem, shadow, cycle);
        }
        machine_resume(rig.machine);
    }
    assert_true(device.writes > 1000);
    assert_true(copied > RAM_PAGES + 4096); /* the guest has written, too */
    dirty_detach(&dirty, &mine);
    dirty_fini(&dirty);
    rig_check_clean(&rig);
    rig_stop(&rig);
    free(shadow);
}

/* Two consumers do not steal each other's bits: each alone keeps a true shadow. */
static void consumers_do_not_steal(void **state)
{
    struct rig rig;
    struct dirty dirty;
    struct dirty_consumer a, b;
    struct err err = {0};
    uint8_t *shadow_a = calloc(1, RAM_BYTES), *shadow_b = calloc(1, RAM_BYTES);
    rig_start(&rig, &(struct rig_options){.guest = "dirty",
                                          .cmdline = "rate=max pages=2048",
                                          .memory_bytes = RAM_BYTES});
    struct mem *mem = machine_mem(rig.machine);
    rig_expect(&rig, NULL, "errors=0", 20000);
    dirty_init(&dirty, machine_vm(rig.machine));
    assert_int_equal(dirty_attach(&dirty, &a, &err), 0);
    copy_round(&dirty, &a, mem, shadow_a);
    assert_int_equal(dirty_attach(&dirty, &b, &err), 0);
    for (unsigned round = 0; round < ROUNDS; round++) {
        copy_round(&dirty, &a, mem, shadow_a);
        copy_round(&dirty, &b, mem, shadow_b);
        copy_round(&dirty, &b, mem, shadow_b);
    }
    machine_pause(rig.machine);
    copy_round(&dirty, &b, mem, shadow_b);
    copy_round(&dirty, &a, mem, shadow_a);
    compare(mem, shadow_a, 0);
    compare(mem, shadow_b, 1);
    dirty_detach(&dirty, &a);
    dirty_detach(&dirty, &b);
    machine_resume(rig.machine);
    dirty_fini(&dirty);
    rig_check_clean(&rig);
    rig_stop(&rig);
    free(shadow_a);
    free(shadow_b);
}

/* After a detach the log is off; attached again, everything counts as changed. */
static void log_is_on_only_while_consumed(void **state)
{
    struct rig rig;
    struct dirty dirty;
    struct dirty_consumer mine;
    struct err err = {0};
    rig_start(&rig, &(struct rig_options){.guest = "hello", .memory_bytes = RAM_BYTES});
    dirty_init(&dirty, machine_vm(rig.machine));
    assert_int_equal(dirty_collect(&dirty, &err), -EINVAL);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(dirty_attach(&dirty, &mine, &err), 0);
        assert_int_equal(bitmap_count(&mine.pages), RAM_PAGES);
        dirty_detach(&dirty, &mine);
        assert_null(dirty.consumers);
        assert_null(dirty.scratch);
    }
    dirty_fini(&dirty);
    rig_stop(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_is_lost),
        cmocka_unit_test(consumers_do_not_steal),
        cmocka_unit_test(log_is_on_only_while_consumed),
    };
    rig_need_kvm();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
