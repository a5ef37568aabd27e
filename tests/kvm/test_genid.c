/*
 * The generation of a machine: a guest looks at it, and at the interrupt that tells of its change,
 * through pauses, moves, restores, resets and as one of several clones.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/kvm/host.h"
#include "tests/kvm/rig.h"

#define CLONES 3

static const struct uuid first = {{0x00, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0x99, 0xaa,
                                   0xbb, 0xcc, 0xdd, 0xee, 0xff}};
static const struct uuid second = {{0xf0, 0xe1, 0xd2, 0xc3, 0xb4, 0xa5, 0x96, 0x87, 0x78, 0x69,
                                    0x5a, 0x4b, 0x3c, 0x2d, 0x1e, 0x0f}};

static void expect_generation(struct rig *r, const char *text)
{
    char now[UUID_TEXT_SIZE];
    struct uuid uuid = machine_generation(r->machine);
    uuid_format(&uuid, now);
    assert_string_equal(now, text);
}

/* Another machine from the state of this one, which then runs; NULL: it stays who it is. */
static void move(struct rig *r, const struct uuid *generation)
{
    struct buf state;
    machine_pause(r->machine);
    rig_save(r, &state);
    r->config.generation = generation;
    rig_move(r, &state, CLOCK_ADVANCE);
    buf_fini(&state);
}

static void changes_are_told(void **state)
{
    struct rig rig;
    uint64_t offset = 0;
    rig_start(&rig, &(struct rig_options){
                        .guest = "genid", .memory_bytes = 32ull << 20, .generation = &first});
    rig_expect(&rig, &offset, "began as 00112233-4455-6677-8899-aabbccddeeff", 20000);
    rig_expect(&rig, &offset, "changes=0 interrupts=0 errors=0", 20000);
    machine_pause(rig.machine);
    machine_resume(rig.machine);
    move(&rig, NULL); /* as a live migration does */
    machine_resume(rig.machine);
    offset = console_end(&rig.console);
    rig_expect(&rig, &offset, "changes=0 interrupts=0 errors=0", 20000);
    move(&rig, &second); /* as a restore does */
    expect_generation(&rig, "f0e1d2c3-b4a5-9687-7869-5a4b3c2d1e0f");
    machine_resume(rig.machine);
    rig_expect(&rig, &offset, "changed to f0e1d2c3-b4a5-9687-7869-5a4b3c2d1e0f", 20000);
    rig_expect(&rig, &offset, "changes=1 interrupts=1 errors=0", 20000);
    rig_reset(&rig);
    rig_expect(&rig, &offset, "began as f0e1d2c3-b4a5-9687-7869-5a4b3c2d1e0f", 20000);
    rig_expect(&rig, &offset, "changes=0 interrupts=0 errors=0", 20000);
    rig_check_clean(&rig);
    rig_stop(&rig);
}

/* What a restored machine that never ran still owes its guest, the next one tells it. */
static void a_change_is_told_once_it_runs(void **state)
{
    struct rig rig;
    uint64_t offset = 0;
    rig_start(&rig, &(struct rig_options){
                        .guest = "genid", .memory_bytes = 32ull << 20, .generation = &first});
    rig_expect(&rig, &offset, "changes=0 interrupts=0 errors=0", 20000);
    move(&rig, &second);
    move(&rig, NULL);
    machine_resume(rig.machine);
    rig_expect(&rig, &offset, "changed to f0e1d2c3-b4a5-9687-7869-5a4b3c2d1e0f", 20000);
    rig_expect(&rig, &offset, "changes=1 interrupts=1 errors=0", 20000);
    move(&rig, NULL);
    machine_resume(rig.machine);
    offset = console_end(&rig.console);
    rig_expect(&rig, &offset, "changes=1 interrupts=1 errors=0", 20000);
    rig_check_clean(&rig);
    rig_stop(&rig);
}

static void a_guest_that_is_wrong_says_so(void **state)
{
    struct rig rig;
    rig_start(&rig, &(struct rig_options){
                        .guest = "genid", .cmdline = "inject=2", .memory_bytes = 32ull << 20});
    rig_expect(&rig, NULL, "FAIL the generation changed 1 times, interrupts=0", 20000);
    rig_stop(&rig);
}

/* What vmctl shows as the VM's generation. */
static void shown(struct host *h, const char *name, char text[UUID_TEXT_SIZE])
{
    static const char key[] = "\"generation\":\"";
    char out[65536];
    assert_int_equal(host_run(h, out, sizeof(out), "show %s --json", name), 0);
    const char *at = strstr(out, key);
    if (!at)
        fail_msg("no generation: %s", out);
    snprintf(text, UUID_TEXT_SIZE, "%.36s", at + strlen(key));
}

static void clones_differ(void **state)
{
    struct host h;
    char text[1 + CLONES][UUID_TEXT_SIZE], again[UUID_TEXT_SIZE], name[16], line[80];
    host_start(&h);
    host_must(&h, "start a --kernel %%G/genid.elf --memory 32M");
    host_expect(&h, "errors=0", 20000, "console a --log");
    shown(&h, "a", text[0]);
    snprintf(line, sizeof(line), "began as %s", text[0]);
    host_expect(&h, line, 20000, "console a --log");
    host_must(&h, "snapshot create a s");
    host_must(&h, "restore s --name b --count %d", CLONES);
    for (int i = 1; i <= CLONES; i++) {
        snprintf(name, sizeof(name), "b-%d", i);
        shown(&h, name, text[i]);
        snprintf(line, sizeof(line), "changed to %s", text[i]);
        host_expect(&h, line, 20000, "console %s --log", name);
        host_expect(&h, "changes=1 interrupts=1 errors=0", 20000, "console %s --log", name);
        for (int j = 0; j < i; j++)
            assert_string_not_equal(text[i], text[j]);
    }
    host_kill_ferryd(&h); /* the next one learns it from the worker */
    host_start_ferryd(&h);
    shown(&h, "b-1", again);
    assert_string_equal(again, text[1]);
    host_expect(&h, "changes=0 interrupts=0 errors=0", 20000, "console a --log");
    host_stop(&h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(changes_are_told),
        cmocka_unit_test(a_change_is_told_once_it_runs),
        cmocka_unit_test(a_guest_that_is_wrong_says_so),
        cmocka_unit_test(clones_differ),
    };
    rig_need_kvm();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
