/*
 * The window of a virtio device: its registers, in the right order and in every wrong one; what
 * takes effect when; and which saved states are taken back.
 */
#include "machine/devices/virtio_rng.h"
#include "tests/unit/machine/virtio_rig.h"

#define ALL (VIRTIO_F_INDIRECT | VIRTIO_F_EVENT_INDEX)

static int setup(void **state)
{
    struct vrig *r = *state = malloc(sizeof(*r));
    vrig_init(r, &virtio_rng_type, NULL);
    return 0;
}

static int teardown(void **state)
{
    vrig_fini(*state);
    free(*state);
    return 0;
}

static void test_identity(void **state)
{
    struct vrig *r = *state;
    assert_int_equal(vrig_get(r, 0x00, 4), 0x74726976);
    assert_int_equal(vrig_get(r, 0x04, 4), 2);
    assert_int_equal(vrig_get(r, 0x08, 4), VIRTIO_ID_RNG);
    assert_int_equal(vrig_get(r, 0x34, 4), 64);
    vrig_put(r, 0x30, 1);
    assert_int_equal(vrig_get(r, 0x34, 4), 0); /* no such queue */
    assert_int_equal(vrig_get(r, 0xb0, 4), 0xffffffff);
    assert_int_equal(vrig_get(r, 0x70, 4), 0);
}

/* Registers are words; other widths and places between them are nothing. */
static void test_widths(void **state)
{
    struct vrig *r = *state;
    uint8_t one[8] = {1, 1, 1, 1, 1, 1, 1, 1};
    for (uint64_t reg = 0; reg < 0x200; reg++)
        for (unsigned len = 1; len <= 8; len *= 2) {
            if (len == 4 && reg % 4 == 0)
                continue;
            bus_write(&r->mmio, LAYOUT_VIRTIO_GPA + reg, one, len);
            assert_int_equal(vrig_get(r, reg, len), 0);
        }
    assert_int_equal(vrig_get(r, 0x70, 4), 0);
}

static void test_features(void **state)
{
    struct vrig *r = *state;
    vrig_put(r, 0x14, 0);
    assert_int_equal(vrig_get(r, 0x10, 4), ALL);
    vrig_put(r, 0x14, 1);
    assert_int_equal(vrig_get(r, 0x10, 4), 1);
    vrig_put(r, 0x14, 2);
    assert_int_equal(vrig_get(r, 0x10, 4), 0);
    vrig_negotiate(r, ALL); /* without VERSION_1 */
    assert_int_equal(vrig_get(r, 0x70, 4), 3);
    vrig_put(r, 0x70, 0x0f);
    assert_int_equal(vrig_get(r, 0x70, 4), 3);
    vrig_negotiate(r, VIRTIO_F_VERSION_1 | 1); /* what was not offered */
    assert_int_equal(vrig_get(r, 0x70, 4), 3);
    vrig_negotiate(r, VIRTIO_F_VERSION_1);
    assert_int_equal(vrig_get(r, 0x70, 4), 0x0b);
    vrig_put(r, 0x24, 0);
    vrig_put(r, 0x20, 0xffffffff); /* too late: nothing changes */
    vrig_put(r, 0x70, 0x0f);
    assert_int_equal(vrig_get(r, 0x70, 4), 0x0f);
}

static void serve_one(struct vrig *r)
{
    unsigned before = vrig_used(r, 0);
    vrig_desc(r, 0, VRIG_BUFFER(0), 64, D_WRITE, 0);
    vrig_avail(r, 0, 0);
    vrig_notify(r, 0);
    assert_int_equal(vrig_used(r, 0), before + 1);
}

/* Size, addresses and readiness are as they were at DRIVER_OK, whatever is written behind it. */
static void test_set_up_is_final(void **state)
{
    static const uint64_t regs[] = {0x38, 0x80, 0x84, 0x90, 0x94, 0xa0, 0xa4, 0x44};
    static const uint64_t values[] = {0, 1, 3, 16, 0x300000, 0xffffffff};
    struct vrig *r = *state;
    vrig_go(r, ALL, 1);
    for (size_t i = 0; i < sizeof(regs) / sizeof(regs[0]); i++)
        for (size_t v = 0; v < sizeof(values) / sizeof(values[0]); v++) {
            if (regs[i] == 0x44 && !(values[v] & 1))
                continue; /* a queue may be switched off */
            vrig_put(r, regs[i], values[v]);
            serve_one(r);
        }
    /* Off is off for good, until a reset. */
    vrig_put(r, 0x44, 0);
    assert_int_equal(vrig_get(r, 0x44, 4), 0);
    vrig_put(r, 0x44, 1);
    assert_int_equal(vrig_get(r, 0x44, 4), 0);
    vrig_avail(r, 0, 0);
    unsigned used = vrig_used(r, 0);
    vrig_notify(r, 0);
    assert_int_equal(vrig_used(r, 0), used);
}

/* Also between ready and DRIVER_OK. */
static void test_ready_is_final(void **state)
{
    struct vrig *r = *state;
    vrig_negotiate(r, VIRTIO_F_VERSION_1);
    vrig_queue(r, 0);
    vrig_put(r, 0x38, 2);
    vrig_put64(r, 0x80, 0x300000);
    vrig_put(r, 0x70, 0x0f);
    serve_one(r);
}

static void test_notifications_that_mean_nothing(void **state)
{
    struct vrig *r = *state;
    vrig_notify(r, 0); /* before anything */
    vrig_negotiate(r, VIRTIO_F_VERSION_1);
    vrig_put(r, 0x70, 0x0f); /* no queue was set up */
    vrig_notify(r, 0);
    vrig_notify(r, 1);
    vrig_notify(r, 31);
    vrig_notify(r, 0xffffffff);
    assert_int_equal(vrig_get(r, 0x70, 4), 0x0f);
    vrig_go(r, 0, 1);
    vrig_notify(r, 7);
    serve_one(r);
    /* One that is on its way while the device is reset. */
    vrig_put(r, 0x50, 0);
    vrig_put(r, 0x70, 0);
    vrig_run(r);
    assert_int_equal(vrig_get(r, 0x70, 4), 0);
}

/* Notified before DRIVER_OK, or not at all: what lies there is found. */
static void test_early_buffers(void **state)
{
    struct vrig *r = *state;
    vrig_negotiate(r, VIRTIO_F_VERSION_1);
    vrig_queue(r, 0);
    vrig_desc(r, 0, VRIG_BUFFER(0), 64, D_WRITE, 0);
    vrig_avail(r, 0, 0);
    vrig_put(r, 0x70, 0x0f);
    vrig_run(r);
    assert_int_equal(vrig_used(r, 0), 1);
}

static const struct {
    uint64_t desc, avail, used;
    unsigned size;
    const char *says;
} wrong[] = {
    {VRIG_DESC(0), VRIG_AVAIL(0), VRIG_USED(0), 0, "size 0 is not a power of two up to 64"},
    {VRIG_DESC(0), VRIG_AVAIL(0), VRIG_USED(0), 3, "size 3 is not a power of two up to 64"},
    {VRIG_DESC(0), VRIG_AVAIL(0), VRIG_USED(0), 128, "is not a power of two up to 64"},
    {VRIG_DESC(0), VRIG_AVAIL(0), VRIG_USED(0), 65536 + 8, "is not a power of two up to 64"},
    {VRIG_DESC(0) + 8, VRIG_AVAIL(0), VRIG_USED(0), 8, "descriptor table at 0x123008 is not ali"},
    {VRIG_DESC(0), VRIG_AVAIL(0) + 1, VRIG_USED(0), 8, "available ring at 0x125001 is not aligned"},
    {VRIG_DESC(0), VRIG_AVAIL(0), VRIG_USED(0) + 2, 8, "used ring at 0x127002 is not aligned to 4"},
    {VRIG_RAM - 16, VRIG_AVAIL(0), VRIG_USED(0), 8, "descriptor table: guest address 0xfffff0"},
    {VRIG_DESC(0), VRIG_RAM - 2, VRIG_USED(0), 8, "available ring: guest address 0xfffffe"},
    {VRIG_DESC(0), VRIG_AVAIL(0), VRIG_RAM - 68, 8, "used ring: guest address 0xffffbc"},
    {0xfffffffffffffff0, VRIG_AVAIL(0), VRIG_USED(0), 8, "descriptor table: guest address"},
    {VRIG_DESC(0), 0xfffffffffffffffe, VRIG_USED(0), 8, "available ring: guest address"},
    {VRIG_DESC(0), VRIG_AVAIL(0), 0xfffffffffffffffc, 8, "used ring: guest address"},
    {LAYOUT_VIRTIO_GPA, VRIG_AVAIL(0), VRIG_USED(0), 8, "descriptor table: guest address"},
    {VRIG_DESC(0), VRIG_DESC(0) + 126, VRIG_USED(0), 8, "the rings overlap"},
    {VRIG_DESC(0), VRIG_AVAIL(0), VRIG_AVAIL(0) + 20, 8, "the rings overlap"},
    {VRIG_USED(0) + 64, VRIG_AVAIL(0), VRIG_USED(0), 8, "the rings overlap"},
    {VRIG_DESC(0), VRIG_DESC(0), VRIG_DESC(0), 8, "the rings overlap"},
};
#define WRONG (sizeof(wrong) / sizeof(wrong[0]))

static void test_wrong_rings(void **state)
{
    struct vrig *r = *state;
    for (size_t i = 0; i < WRONG; i++) {
        vrig_drop(r); /* a device says only so much */
        vrig_build(r, NULL);
        r->type->resume(r->dev);
        vrig_negotiate(r, VIRTIO_F_VERSION_1);
        vrig_put(r, 0x30, 0);
        vrig_put(r, 0x38, wrong[i].size);
        vrig_put64(r, 0x80, wrong[i].desc);
        vrig_put64(r, 0x90, wrong[i].avail);
        vrig_put64(r, 0xa0, wrong[i].used);
        vrig_put(r, 0x44, 1);
        assert_int_equal(vrig_get(r, 0x44, 4), 0);
        assert_true(vrig_is_broken(r));
        if (!strstr(r->said, wrong[i].says))
            fail_msg("'%s' says '%s'", wrong[i].says, r->said);
        vrig_put(r, 0x70, 0x0f);
        vrig_notify(r, 0);
        vrig_go(r, ALL, 1);
        serve_one(r);
    }
}

/* The first place in `bytes` of a number of `size` bytes becomes another. */
static void patch(struct buf *bytes, uint64_t from, uint64_t to, unsigned size)
{
    for (size_t at = 0; at + size <= bytes->len; at++)
        if (le_get(bytes->data + at, size) == from) {
            le_put(bytes->data + at, to, size);
            return;
        }
    fail_msg("0x%" PRIx64 " is nowhere in the state", from);
}

/* A field's own bytes by its head: tag, kind, 0, length. */
static void patch_field(struct buf *bytes, unsigned tag, unsigned kind, unsigned size, uint64_t to)
{
    uint64_t head = tag | kind << 16 | (uint64_t)size << 32;
    for (size_t at = 0; at + 8 + size <= bytes->len; at++)
        if (le_get(bytes->data + at, 8) == head) {
            le_put(bytes->data + at + 8, to, size);
            return;
        }
    fail_msg("there is no field %u", tag);
}

static void reload(struct vrig *r, const struct buf *bytes, const char *says)
{
    struct err err = {0};
    vrig_drop(r);
    vrig_build(r, NULL);
    if (vrig_load(r, bytes, &err) == 0)
        fail_msg("'%s' is loaded", says);
    if (!strstr(err.text, says))
        fail_msg("'%s' says '%s'", says, err.text);
}

/* The same rings out of a state that was saved elsewhere. */
static void test_wrong_rings_in_a_state(void **state)
{
    struct vrig *r = *state;
    for (size_t i = 0; i < WRONG; i++) {
        CLEAN(buf_fini) struct buf bytes;
        vrig_go(r, ALL, 1);
        vrig_save(r, &bytes);
        patch(&bytes, VRIG_DESC(0), wrong[i].desc, 8);
        patch(&bytes, VRIG_AVAIL(0), wrong[i].avail, 8);
        patch(&bytes, VRIG_USED(0), wrong[i].used, 8);
        patch_field(&bytes, 1, 2, 2, wrong[i].size < 65536 ? wrong[i].size : 65535);
        reload(r, &bytes, wrong[i].size > 64 ? "is more than 64" : wrong[i].says);
        vrig_drop(r);
        vrig_build(r, NULL);
        r->type->resume(r->dev);
    }
}

static void test_wrong_registers_in_a_state(void **state)
{
    static const struct {
        unsigned tag, kind, size;
        uint64_t value;
        const char *says;
    } bad[] = {
        {5, 1, 1, 0x1f, "virtio-rng: status 0x1f has unknown bits"},
        {5, 1, 1, 0x07, "virtio-rng: status 0x07 is impossible"},
        {6, 1, 1, 4, "virtio-rng: isr 0x04 has unknown bits"},
        {4, 4, 8, 1ull << 40 | 1ull << 32,
         "virtio-rng: driver_features 0x10100000000 are not among"},
        {4, 4, 8, 0, "virtio-rng: driver_features 0x0 are not among"},
    };
    struct vrig *r = *state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        CLEAN(buf_fini) struct buf bytes;
        vrig_go(r, ALL, 1);
        vrig_save(r, &bytes);
        patch_field(&bytes, bad[i].tag, bad[i].kind, bad[i].size, bad[i].value);
        reload(r, &bytes, bad[i].says);
        vrig_drop(r);
        vrig_build(r, NULL);
        r->type->resume(r->dev);
    }
}

/* Any next_avail and next_used may be in a state: what follows from them harms the guest alone. */
static void test_any_progress_in_a_state(void **state)
{
    struct vrig *r = *state;
    for (unsigned i = 0; i < 0x10000; i += 4093) {
        CLEAN(buf_fini) struct buf bytes;
        struct err err = {0};
        vrig_go(r, ALL, 1);
        vrig_desc(r, 0, VRIG_BUFFER(0), 64, D_WRITE, 0);
        vrig_avail(r, 0, 0);
        vrig_save(r, &bytes);
        patch_field(&bytes, 6, 2, 2, i);
        patch_field(&bytes, 7, 2, 2, i * 3);
        vrig_drop(r);
        vrig_build(r, NULL);
        assert_int_equal(vrig_load(r, &bytes, &err), 0);
        r->type->resume(r->dev);
        vrig_run(r);
        assert_int_equal(vrig_is_broken(r), (uint16_t)(r->avail[0] - i) > VRIG_SIZE);
    }
}

/* save -> load -> save: the same bytes, in each moment of a driver's life. */
static void test_round_trips(void **state)
{
    struct vrig *r = *state;
    for (unsigned step = 0; step < 5; step++) {
        CLEAN(buf_fini) struct buf first, second;
        if (step == 1)
            vrig_negotiate(r, VIRTIO_F_VERSION_1 | ALL);
        if (step == 2)
            vrig_queue(r, 0);
        if (step == 3)
            vrig_put(r, 0x70, 0x0f);
        if (step == 4)
            serve_one(r);
        vrig_save(r, &first);
        r->type->resume(r->dev);
        vrig_move(r, NULL);
        vrig_save(r, &second);
        r->type->resume(r->dev);
        assert_int_equal(first.len, second.len);
        assert_memory_equal(first.data, second.data, first.len);
    }
    unsigned edges = r->edges;
    vrig_move(r, NULL); /* an interrupt not yet acknowledged is given again */
    assert_int_equal(r->edges, edges + 1);
    vrig_put(r, 0x64, vrig_get(r, 0x60, 4));
    assert_int_equal(vrig_get(r, 0x60, 4), 0);
    vrig_run(r);
    edges = r->edges;
    vrig_move(r, NULL);
    assert_int_equal(r->edges, edges);
}

static void test_counters(void **state)
{
    struct vrig *r = *state;
    char name[64];
    vrig_go(r, ALL, 1);
    serve_one(r);
    serve_one(r);
    assert_int_equal(r->counters.ndevices, 1);
    const struct device_counters *d = &r->counters.devices[0];
    assert_int_equal(d->values[COUNTER_DEVICE_REQUESTS], 2);
    assert_int_equal(d->values[COUNTER_DEVICE_COMMON], 128);
    assert_string_equal(counter_device_name(d, COUNTER_DEVICE_REQUESTS, name, sizeof(name)),
                        "virtio-rng0.requests");
    assert_string_equal(counter_device_name(d, COUNTER_DEVICE_COMMON, name, sizeof(name)),
                        "virtio-rng0.bytes");
    assert_null(counter_device_name(d, COUNTER_DEVICE_COMMON + 1, name, sizeof(name)));
    vrig_move(r, NULL); /* a reset or a move of the machine goes on counting */
    assert_int_equal(r->counters.ndevices, 1);
    assert_int_equal(d->values[COUNTER_DEVICE_REQUESTS], 2);
}

/* A driver that breaks its device all the time is told of a few times only. */
static void test_complaints_are_bounded(void **state)
{
    struct vrig *r = *state;
    unsigned said = 0;
    for (unsigned i = 0; i < 100; i++) {
        vrig_go(r, ALL, 1);
        vrig_set16(r, VRIG_AVAIL(0) + 2, 1000);
        vrig_notify(r, 0);
        assert_true(vrig_is_broken(r));
        said += r->said[0] != '\0';
        r->said[0] = '\0';
    }
    assert_int_equal(said, 8);
}

int main(void)
{
#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_identity),
        T(test_widths),
        T(test_features),
        T(test_set_up_is_final),
        T(test_ready_is_final),
        T(test_notifications_that_mean_nothing),
        T(test_early_buffers),
        T(test_wrong_rings),
        T(test_wrong_rings_in_a_state),
        T(test_wrong_registers_in_a_state),
        T(test_any_progress_in_a_state),
        T(test_round_trips),
        T(test_counters),
        T(test_complaints_are_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
