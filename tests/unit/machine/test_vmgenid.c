/* The generation: when it is written, when its interrupt comes, and what of it is saved. */
#include "machine/devices/vmgenid.h"

#include "base/buf.h"
#include "tests/unit/machine/rig.h"

static const struct uuid second = {{0xf0, 0xe1, 0xd2, 0xc3, 0xb4, 0xa5, 0x96, 0x87, 0x78, 0x69,
                                    0x5a, 0x4b, 0x3c, 0x2d, 0x1e, 0x0f}};

static struct vmgenid *device(const struct rig *r)
{
    return devices_find(&r->devices, "vmgenid");
}

static void read_memory(struct rig *r, uint8_t guid[16])
{
    struct err err;
    assert_int_equal(mem_read(&r->mem, LAYOUT_VMGENID_GPA, guid, 16, &err), 0);
}

/* The first three numbers of the text are little-endian in memory. */
static void assert_memory_is(struct rig *r, const struct uuid *uuid)
{
    const uint8_t *u = uuid->bytes;
    const uint8_t want[16] = {u[3], u[2], u[1],  u[0],  u[5],  u[4],  u[7],  u[6],
                              u[8], u[9], u[10], u[11], u[12], u[13], u[14], u[15]};
    uint8_t guid[16];
    read_memory(r, guid);
    assert_memory_equal(guid, want, 16);
}

static void pause_and_resume(struct rig *r)
{
    devices_quiesce(&r->devices);
    devices_resume(&r->devices);
}

static void move(struct rig *from, struct rig *to)
{
    struct err err;
    struct buf state;
    buf_init(&state, 65536);
    devices_quiesce(&from->devices);
    devices_quiesce(&to->devices);
    assert_int_equal(devices_save(&from->devices, &state, &err), 0);
    struct span in = {.at = state.data, .left = state.len};
    assert_int_equal(devices_load(&to->devices, in, NULL, &err), 0);
    buf_fini(&state);
}

static void is_drawn_at_boot(void **state)
{
    struct rig *r = *state, *other = rig_new();
    struct uuid ours = vmgenid_get(device(r)), theirs = vmgenid_get(device(other));
    assert_memory_is(r, &ours);
    assert_memory_not_equal(ours.bytes, theirs.bytes, 16);
    assert_int_equal(r->edges[LAYOUT_VMGENID_GSI], 0);
    rig_free(other);
}

static void is_written_by_hand(void **state)
{
    static const uint8_t want[16] = {0xc3, 0xd2, 0xe1, 0xf0, 0xa5, 0xb4, 0x87, 0x96,
                                     0x78, 0x69, 0x5a, 0x4b, 0x3c, 0x2d, 0x1e, 0x0f};
    struct rig *r = *state;
    uint8_t guid[16];
    devices_quiesce(&r->devices);
    vmgenid_renew(device(r), &second);
    devices_resume(&r->devices);
    read_memory(r, guid);
    assert_memory_equal(guid, want, 16);
}

/* Neither before nor while the machine stands; once, and the line is low again. */
static void is_told_at_resume(void **state)
{
    struct rig *r = *state;
    struct uuid before = vmgenid_get(device(r));
    devices_quiesce(&r->devices);
    vmgenid_renew(device(r), &second);
    assert_memory_is(r, &before);
    assert_int_equal(r->edges[LAYOUT_VMGENID_GSI], 0);
    devices_resume(&r->devices);
    assert_memory_is(r, &second);
    assert_int_equal(r->edges[LAYOUT_VMGENID_GSI], 1);
    assert_false(r->level[LAYOUT_VMGENID_GSI]);
    pause_and_resume(r);
    assert_int_equal(r->edges[LAYOUT_VMGENID_GSI], 1);
}

/* A pause does not even touch the page, which a clone would then have to itself. */
static void a_pause_writes_nothing(void **state)
{
    static const uint8_t scribble[16] = "guest's own mess";
    struct rig *r = *state;
    struct err err;
    uint8_t guid[16];
    assert_int_equal(mem_write(&r->mem, LAYOUT_VMGENID_GPA, scribble, 16, &err), 0);
    pause_and_resume(r);
    read_memory(r, guid);
    assert_memory_equal(guid, scribble, 16);
}

static void a_move_keeps_it(void **state)
{
    struct rig *r = *state, *other = rig_new();
    struct uuid ours = vmgenid_get(device(r));
    move(r, other);
    devices_resume(&other->devices);
    assert_memory_is(other, &ours);
    assert_int_equal(other->edges[LAYOUT_VMGENID_GSI], 0);
    rig_free(other);
}

static void what_is_due_moves_too(void **state)
{
    struct rig *r = *state, *other = rig_new();
    devices_quiesce(&r->devices);
    vmgenid_renew(device(r), &second);
    move(r, other);
    devices_resume(&other->devices);
    assert_memory_is(other, &second);
    assert_int_equal(other->edges[LAYOUT_VMGENID_GSI], 1);
    rig_free(other);
}

static void a_reset_keeps_it_and_owes_nothing(void **state)
{
    struct rig *r = *state;
    devices_quiesce(&r->devices);
    vmgenid_renew(device(r), &second);
    devices_reset(&r->devices);
    devices_resume(&r->devices);
    assert_memory_is(r, &second);
    assert_int_equal(r->edges[LAYOUT_VMGENID_GSI], 0);
}

/* One saved before there was such a device: it keeps what it was built with. */
static void a_state_without_it_loads(void **state)
{
    struct rig *r = *state;
    struct err err = {0};
    struct buf all;
    struct section s;
    struct uuid ours = vmgenid_get(device(r));
    struct section_report report;
    buf_init(&all, 65536);
    devices_quiesce(&r->devices);
    struct buf rest;
    buf_init(&rest, 65536);
    assert_int_equal(devices_save(&r->devices, &all, &err), 0);
    struct span in = {.at = all.data, .left = all.len};
    while (section_read(&in, &s, &err) > 0)
        if (strcmp(s.name, "vmgenid") != 0)
            assert_int_equal(section_write(&s, &rest, &err), 0);
    assert_true(rest.len < all.len);
    in = (struct span){.at = rest.data, .left = rest.len};
    assert_int_equal(devices_load(&r->devices, in, &report, &err), 0);
    devices_resume(&r->devices);
    assert_memory_is(r, &ours);
    buf_fini(&all);
    buf_fini(&rest);
}

int main(void)
{
#define T(fn) cmocka_unit_test_setup_teardown(fn, rig_setup, rig_teardown)
    const struct CMUnitTest tests[] = {
        T(is_drawn_at_boot),
        T(is_written_by_hand),
        T(is_told_at_resume),
        T(a_pause_writes_nothing),
        T(a_move_keeps_it),
        T(what_is_due_moves_too),
        T(a_reset_keeps_it_and_owes_nothing),
        T(a_state_without_it_loads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
