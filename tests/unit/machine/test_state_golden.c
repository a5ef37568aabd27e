/*
 * The state of a real machine, as the first format has it (tests/golden/state-v1: one vCPU of an
 * AMD host, no disks), stays loadable; and cut or bent at any place it is refused with a reason. A
 * change of a table that saves other bytes gets a golden file of its own beside this one.
 */
#include <stdio.h>

#include "base/buf.h"
#include "machine/vcpu_state.h"
#include "machine/vm_state.h"
#include "tests/unit/machine/rig.h"

#define STATE_MAX 65536u

struct machine_state {
    struct vm_state vm;
    struct vcpu_state vcpu;
    struct rig *rig; /* for the devices */
    struct section_set set;
    struct buf golden;
};

static void read_golden(struct buf *to)
{
    char path[4096];
    const char *source = getenv("FERRY_SOURCE");
    snprintf(path, sizeof(path), "%s/tests/golden/state-v1", source ? source : ".");
    FILE *f = fopen(path, "r");
    if (!f)
        fail_msg("no %s: FERRY_SOURCE is the top of the tree", path);
    buf_init(to, STATE_MAX);
    uint8_t *at = buf_reserve(to, STATE_MAX);
    assert_non_null(at);
    to->len = fread(at, 1, STATE_MAX, f);
    fclose(f);
}

static int setup(void **state)
{
    struct err err = {0};
    struct machine_state *m = calloc(1, sizeof(*m));
    assert_non_null(m);
    m->rig = rig_new();
    devices_quiesce(&m->rig->devices);
    section_set_init(&m->set);
    assert_int_equal(section_set_add(&m->set, &vm_state_desc, 0, SECTION_CRITICAL, &m->vm, &err),
                     0);
    assert_int_equal(
        section_set_add(&m->set, &vcpu_state_desc, 0, SECTION_CRITICAL, &m->vcpu, &err), 0);
    assert_int_equal(devices_sections(&m->rig->devices, &m->set, &err), 0);
    read_golden(&m->golden);
    *state = m;
    return 0;
}

static int teardown(void **state)
{
    struct machine_state *m = *state;
    section_set_fini(&m->set);
    buf_fini(&m->golden);
    rig_free(m->rig);
    free(m);
    return 0;
}

/* From a block of its own size, so that ASan sees each byte too many. */
static int load(struct machine_state *m, size_t len, struct section_report *report, struct err *err)
{
    uint8_t *copy = malloc(len ? len : 1);
    assert_non_null(copy);
    memcpy(copy, m->golden.data, len);
    int rc = section_set_load(&m->set, (struct span){.at = copy, .left = len}, report, err);
    free(copy);
    return rc;
}

static void test_loads_and_saves_the_same(void **state)
{
    struct machine_state *m = *state;
    struct err err = {0};
    struct section_report report;
    struct buf again;
    if (load(m, m->golden.len, &report, &err) < 0)
        fail_msg("%s", err.text);
    assert_int_equal(report.sections_skipped, 0);
    assert_int_equal(report.fields_skipped, 0);
    assert_int_equal(m->vcpu.mp_state, 3); /* asleep in HLT */
    assert_in_range(m->vcpu.regs.rip, 0x10e000, 0x200000);
    assert_in_range(m->vcpu.msrs.count, 100, MSRS_MAX);
    assert_in_range(m->vcpu.cpuid.count, 20, 256);
    assert_true(m->vm.clock.has_realtime);
    buf_init(&again, STATE_MAX);
    assert_int_equal(section_set_save(&m->set, &again, &err), 0);
    assert_int_equal(again.len, m->golden.len);
    assert_memory_equal(again.data, m->golden.data, again.len);
    buf_fini(&again);
}

static void test_truncated_anywhere(void **state)
{
    struct machine_state *m = *state;
    for (size_t len = 0; len < m->golden.len; len++) {
        struct err err = {0};
        assert_true(load(m, len, NULL, &err) < 0);
        assert_true(err.text[0]);
    }
}

static void flip(struct machine_state *m, size_t bit)
{
    m->golden.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
}

/* The checksum covers the rest: there one bit of each byte will do. */
static void test_flipped_bits(void **state)
{
    struct machine_state *m = *state;
    for (size_t at = 0; at < m->golden.len;) {
        size_t head = SECTION_HEAD_BYTES + le_get(m->golden.data + at + 4, 2);
        size_t whole = head + le_get(m->golden.data + at + 16, 4);
        for (size_t bit = at * 8; bit < (at + whole) * 8; bit += bit < (at + head) * 8 ? 1 : 331) {
            struct err err = {0};
            flip(m, bit);
            assert_true(load(m, m->golden.len, NULL, &err) < 0);
            assert_true(err.text[0]);
            flip(m, bit);
        }
        at += whole;
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_loads_and_saves_the_same, setup, teardown),
        cmocka_unit_test_setup_teardown(test_truncated_anywhere, setup, teardown),
        cmocka_unit_test_setup_teardown(test_flipped_bits, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
