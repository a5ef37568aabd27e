/*
 * All devices together: their table, hostile accesses, and their state: saved and loaded at many
 * random moments, in every truncation and with every bit flipped.
 */
#include <stdio.h>

#include "base/buf.h"
#include "base/crc32c.h"
#include "machine/devices/acpi_pm.h"
#include "machine/devices/virtio_blk.h"
#include "machine/devices/virtio_net.h"
#include "machine/devices/virtio_rng.h"
#include "machine/vcpu_state.h"
#include "machine/vm_state.h"
#include "tests/unit/machine/rig.h"

#define STATE_MAX 65536
#define SCHEMA_MAX 32768u

static const uint16_t ports[] = {0x60,  0x64,  0x70,  0x71,  0x92,  0x3f8, 0x3f9, 0x3fa, 0x3fb,
                                 0x3fc, 0x3fd, 0x3fe, 0x3ff, 0x600, 0x601, 0x602, 0x603, 0x604,
                                 0x605, 0x606, 0x607, 0x608, 0x609, 0x60a, 0x60b, 0xcf9};
#define PORTS (sizeof(ports) / sizeof(ports[0]))

/* A few accesses of any width, a little time, some typing, sometimes a button or a pause. */
static void shake(struct rig *r, uint64_t *seed, unsigned steps)
{
    for (unsigned i = 0; i < steps; i++) {
        uint16_t port = ports[rig_random(seed) % PORTS];
        unsigned len = 1u << rig_random(seed) % 4;
        switch (rig_random(seed) % 16) {
        case 0:
            rig_advance(r, rig_random(seed) % 3000000000u);
            break;
        case 1:
            console_feed(&r->console, (const uint8_t *)"typed by a person", 1 + *seed % 17);
            break;
        case 2:
            acpi_pm_press_power_button(devices_find(&r->devices, "acpi-pm"));
            break;
        case 3:
            devices_quiesce(&r->devices);
            rig_wall_now += rig_random(seed);
            devices_resume(&r->devices);
            break;
        case 4:
        case 5:
        case 6:
        case 7:
            in(r, port, len);
            break;
        default:
            out(r, port, (uint64_t)rig_random(seed) << 32 | rig_random(seed), len);
            break;
        }
    }
}

static void save(struct rig *r, struct buf *out_)
{
    struct err err = {0};
    buf_init(out_, STATE_MAX);
    assert_int_equal(devices_save(&r->devices, out_, &err), 0);
}

/* Loads a copy in a block of its own size, so that ASan sees each byte too many. */
static int load(struct rig *r, const uint8_t *bytes, size_t len, struct err *err)
{
    uint8_t *copy = malloc(len ? len : 1);
    if (len)
        memcpy(copy, bytes, len);
    int rc = devices_load(&r->devices, (struct span){.at = copy, .left = len}, NULL, err);
    free(copy);
    return rc;
}

static void test_table(void **state)
{
    struct rig *r = *state;
    assert_int_equal(r->devices.count, devices_count);
    for (unsigned i = 0; i < devices_count; i++) {
        const struct device_type *t = devices_table[i];
        assert_ptr_equal(devices_find(&r->devices, t->name), r->devices.slots[i]);
        assert_non_null(t->state);
        assert_string_equal(t->name, t->state->name);
    }
    assert_null(devices_find(&r->devices, "floppy"));
}

/* A second set on the same bus does not fit, says whose it is, and leaves nothing behind. */
static void test_init_fails(void **state)
{
    struct rig *r = *state;
    struct err err = {0};
    struct devices second;
    struct bus bus = {0};
    struct device_env env = {.pio = &bus,
                             .irq = {.set = rig_irq, .ctx = r},
                             .mem = &r->mem,
                             .timers = &r->timers,
                             .console = &r->console,
                             .wall_ns = rig_wall};
    assert_int_equal(bus_add(&bus, LAYOUT_RESET_PORT, 1, NULL, NULL, &err), 0);
    assert_true(devices_init(&second, &env, NULL, 0, &err) < 0);
    assert_string_equal(err.text, "device 'acpi-pm': bus range at 0xcf9 overlaps another");
    assert_int_equal(second.count, 0);
    devices_fini(&second);
    /* The console lost its port with the second set: nothing may call into it. */
    rig_type(r, "x");
}

/* Whatever was done to them: a reset makes devices as they were built. */
static void expect_sane(struct rig *r)
{
    devices_quiesce(&r->devices);
    devices_reset(&r->devices);
    devices_resume(&r->devices);
    for (unsigned gsi = 0; gsi < RIG_GSIS; gsi++)
        assert_false(r->level[gsi]);
    assert_null(r->timers.armed);
    assert_int_equal(in(r, 0x3fa, 1), 0x01);
    assert_int_equal(in(r, 0x3fd, 1) & 0xfe, 0x60);
    assert_int_equal(in(r, 0x64, 1), 0x14);
    assert_int_equal(in(r, 0x600, 8), 0x0000000100000000ull);
    out(r, 0x70, 0x0d, 1);
    assert_int_equal(in(r, 0x71, 1), 0x80);
}

/* Every port near and in the devices, every width: what no device holds as a whole is nobody's. */
static void test_widths(void **state)
{
    struct rig *r = *state;
    for (unsigned p = 0; p < PORTS; p++)
        for (unsigned near = 0; near < 9; near++)
            for (unsigned len = 1; len <= 8; len *= 2)
                for (unsigned v = 0; v < 256; v += 5) {
                    uint8_t data[8];
                    out(r, ports[p] - near, v * 0x0101010101010101ull, len);
                    if (!bus_read(&r->pio, ports[p] - near, data, len))
                        for (unsigned i = 0; i < len; i++)
                            assert_int_equal(data[i], 0xff);
                }
    expect_sane(r);
}

static void test_hostile(void **state)
{
    struct rig *r = *state;
    uint64_t seed = 1;
    for (unsigned i = 0; i < 60; i++) {
        shake(r, &seed, 1000);
        expect_sane(r);
    }
}

/* save -> load -> save: the same bytes, and the same answers afterwards. */
static void test_round_trips(void **state)
{
    struct rig *r = *state;
    uint64_t seed = 42;
    for (unsigned round = 0; round < 300; round++) {
        struct err err = {0};
        struct buf first, second;
        shake(r, &seed, 40);
        devices_quiesce(&r->devices);
        save(r, &first);
        uint64_t wall = rig_wall_now, clock = rig_clock_now;
        struct rig *other = rig_new();
        devices_quiesce(&other->devices);
        assert_int_equal(load(other, first.data, first.len, &err), 0);
        save(other, &second);
        assert_int_equal(second.len, first.len);
        assert_memory_equal(second.data, first.data, first.len);
        rig_wall_now = wall;
        rig_clock_now = clock;
        devices_resume(&other->devices);
        char typed[4096]; /* the console's queue stays with its worker */
        while (console_pull(&r->console, (uint8_t *)typed, sizeof(typed)))
            ;
        devices_resume(&r->devices);
        assert_memory_equal(r->level, other->level, sizeof(r->level));
        for (unsigned i = 0; i < 200; i++) {
            uint16_t port = ports[rig_random(&seed) % PORTS];
            uint64_t value = rig_random(&seed);
            assert_int_equal(in(r, port, 1), in(other, port, 1));
            out(r, port, value, 1);
            out(other, port, value, 1);
            assert_memory_equal(r->level, other->level, sizeof(r->level));
        }
        rig_free(other);
        rig_wall_now = wall;
        buf_fini(&first);
        buf_fini(&second);
    }
}

static void test_truncated(void **state)
{
    struct rig *r = *state;
    struct buf bytes;
    uint64_t seed = 3;
    shake(r, &seed, 500);
    devices_quiesce(&r->devices);
    save(r, &bytes);
    for (size_t len = 0; len < bytes.len; len++) {
        struct err err = {0};
        assert_true(load(r, bytes.data, len, &err) < 0);
        assert_true(err.text[0]);
    }
    struct err err = {0};
    assert_int_equal(load(r, bytes.data, bytes.len, &err), 0);
    buf_fini(&bytes);
}

static void test_flipped(void **state)
{
    struct rig *r = *state;
    struct buf bytes;
    uint64_t seed = 4;
    shake(r, &seed, 500);
    devices_quiesce(&r->devices);
    save(r, &bytes);
    for (size_t bit = 0; bit < bytes.len * 8; bit++) {
        struct err err = {0};
        bytes.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
        assert_true(load(r, bytes.data, bytes.len, &err) < 0);
        assert_true(err.text[0]);
        bytes.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    buf_fini(&bytes);
}

/* Makes the checksums of all sections right again. */
static void seal(struct buf *b)
{
    size_t at = 0;
    while (at + 24 <= b->len) {
        size_t total = 24 + le_get(b->data + at + 4, 2) + le_get(b->data + at + 16, 4);
        if (total > b->len - at)
            return;
        uint32_t crc = crc32c(crc32c(0, b->data + at, 20), b->data + at + 24, total - 24);
        le_put(b->data + at + 20, crc, 4);
        at += total;
    }
}

/*
 * The same flips by somebody who knows how to seal: either refused, or a state that a guest could
 * have made, with which the machine runs on under fire.
 */
static void test_flipped_and_sealed(void **state)
{
    struct buf bytes;
    uint64_t seed = 5;
    unsigned refused = 0, taken = 0;
    struct rig *r = *state;
    shake(r, &seed, 500);
    devices_quiesce(&r->devices);
    save(r, &bytes);
    uint64_t wall = rig_wall_now;
    for (size_t bit = 0; bit < bytes.len * 8; bit++) {
        struct err err = {0};
        struct buf hurt;
        buf_init(&hurt, STATE_MAX);
        buf_append(&hurt, bytes.data, bytes.len);
        hurt.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
        seal(&hurt);
        devices_quiesce(&r->devices);
        if (load(r, hurt.data, hurt.len, &err) == 0) {
            taken++;
            devices_resume(&r->devices);
            shake(r, &seed, 20);
        } else {
            refused++;
            assert_true(err.text[0]);
            assert_int_equal(load(r, bytes.data, bytes.len, &err), 0);
        }
        rig_wall_now = wall;
        buf_fini(&hurt);
    }
    assert_true(refused > 1000);
    assert_true(taken > 1000);
    devices_quiesce(&r->devices);
    buf_fini(&bytes);
}

struct change {
    const char *section;
    unsigned tag, index, width;
    uint64_t value;
};

/* A good state with one number of one field changed under a right checksum. */
static void save_changed(struct rig *r, const struct change *c, struct buf *b)
{
    size_t at = 0;
    save(r, b);
    while (memcmp(b->data + at + 24, c->section, strlen(c->section)) != 0)
        at += 24 + le_get(b->data + at + 4, 2) + le_get(b->data + at + 16, 4);
    at += 24 + strlen(c->section);
    while (le_get(b->data + at, 2) != c->tag)
        at += 8 + le_get(b->data + at + 4, 4);
    le_put(b->data + at + 8 + c->index * c->width, c->value, c->width);
    seal(b);
}

static void test_impossible_values(void **state)
{
    static const struct {
        struct change change;
        const char *text;
    } rows[] = {
        {{"serial", 1, 0, 1, 0x10}, "section 'serial' 0: serial.ier 0x10 has unknown bits"},
        {{"serial", 2, 0, 1, 0x40}, "section 'serial' 0: serial.fcr 0x40 is impossible"},
        {{"serial", 2, 0, 1, 0x03}, "section 'serial' 0: serial.fcr 0x03 is impossible"},
        {{"serial", 4, 0, 1, 0x80}, "section 'serial' 0: serial.mcr 0x80 has unknown bits"},
        {{"serial", 8, 0, 1, 0x01}, "section 'serial' 0: serial.line_errors 0x01 is impossible"},
        {{"serial", 9, 0, 1, 0x00}, "section 'serial' 0: serial.msr 0x00 contradicts mcr 0x00"},
        {{"serial", 10, 0, 1, 2}, "section 'serial' 0: serial.thre_owed is neither true nor false"},
        {{"serial", 12, 0, 1, 2}, "section 'serial' 0: serial.rx_count 2 is more than 1"},
        {{"serial", 12, 0, 1, 255}, "section 'serial' 0: serial.rx_count 255 is more than 1"},
        {{"rtc", 1, 0, 1, 128}, "section 'rtc' 0: rtc.index 128 is more than 127"},
        {{"rtc", 2, 10, 1, 0xa6}, "section 'rtc' 0: rtc.ram register A 0xa6 is impossible"},
        {{"rtc", 2, 12, 1, 0x80}, "section 'rtc' 0: rtc.ram register C 0x80 is impossible"},
        {{"rtc", 2, 12, 1, 0x01}, "section 'rtc' 0: rtc.ram register C 0x01 is impossible"},
        {{"rtc", 2, 13, 1, 0x00}, "section 'rtc' 0: rtc.ram register D 0x00 is impossible"},
        {{"rtc", 3, 0, 8, INT64_MAX},
         "section 'rtc' 0: rtc.offset_s 9223372036854775807 is out of range"},
        {{"rtc", 3, 0, 8, 1ull << 63},
         "section 'rtc' 0: rtc.offset_s -9223372036854775808 is out of range"},
        {{"rtc", 4, 0, 4, 1000000000},
         "section 'rtc' 0: rtc.phase_ns 1000000000 is a second or more"},
        {{"i8042", 4, 0, 1, 0x02}, "section 'i8042' 0: i8042.flags 0x02 has unknown bits"},
        {{"i8042", 5, 0, 1, 0x80},
         "section 'i8042' 0: i8042.expects 0x80 is no command with a parameter"},
        {{"i8042", 6, 0, 1, 0x04}, "section 'i8042' 0: i8042.port92 0x04 has unknown bits"},
        {{"acpi-pm", 1, 0, 2, 0x8000},
         "section 'acpi-pm' 0: acpi-pm.status 0x8000 has unknown bits"},
        {{"acpi-pm", 2, 0, 2, 0x0002},
         "section 'acpi-pm' 0: acpi-pm.enable 0x0002 has unknown bits"},
        {{"acpi-pm", 3, 0, 2, 0x0000}, "section 'acpi-pm' 0: acpi-pm.control 0x0000 is impossible"},
        {{"acpi-pm", 3, 0, 2, 0x2001}, "section 'acpi-pm' 0: acpi-pm.control 0x2001 is impossible"},
        {{"acpi-pm", 4, 0, 1, 0x04},
         "section 'acpi-pm' 0: acpi-pm.reset_control 0x04 has unknown bits"},
        {{"acpi-pm", 5, 0, 8, UINT64_MAX},
         "section 'acpi-pm' 0: acpi-pm.elapsed_ns 18446744073709551615 is out of range"},
    };
    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct err err = {0};
        struct buf b;
        struct rig *r = rig_new(); /* anew: a failed load leaves a device half filled */
        devices_quiesce(&r->devices);
        save_changed(r, &rows[i].change, &b);
        assert_true(load(r, b.data, b.len, &err) < 0);
        assert_string_equal(err.text, rows[i].text);
        buf_fini(&b);
        rig_free(r);
    }
}

/* The extremes that are allowed run on without overflow. */
static void test_extreme_values(void **state)
{
    static const struct change rows[] = {
        {"rtc", 3, 0, 8, 30000ull * 366 * 86400},
        {"rtc", 3, 0, 8, (uint64_t)(-30000ll * 366 * 86400)},
        {"rtc", 5, 0, 8, 0},
        {"rtc", 5, 0, 8, UINT64_MAX},
        {"acpi-pm", 5, 0, 8, UINT64_MAX / 4},
    };
    struct rig *r = *state;
    uint64_t seed = 9;
    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct err err = {0};
        struct buf b;
        devices_quiesce(&r->devices);
        save_changed(r, &rows[i], &b);
        assert_int_equal(load(r, b.data, b.len, &err), 0);
        devices_resume(&r->devices);
        shake(r, &seed, 2000);
        expect_sane(r);
        buf_fini(&b);
    }
}

/* Where the developer finds the text of now. */
static void keep_schema(const char *text, const char *golden)
{
    char path[4096];
    const char *build = getenv("FERRY_BUILD");
    snprintf(path, sizeof(path), "%s/schema.txt", build ? build : ".");
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
    print_message("the schema has changed: look at %s, and copy it to %s\n", path, golden);
}

/* Every table of state as text: a change of what is saved is a change of that file. */
static void test_schema(void **state)
{
    struct err err = {0};
    struct buf now;
    char path[4096], golden[SCHEMA_MAX];
    if (!getenv("FERRY_SOURCE")) {
        print_message("FERRY_SOURCE is not set: run by ctest\n");
        skip();
    }
    snprintf(path, sizeof(path), "%s/tests/golden/schema.txt", getenv("FERRY_SOURCE"));
    buf_init(&now, SCHEMA_MAX);
    assert_int_equal(field_describe(&vm_state_desc, &now, &err), 0);
    assert_int_equal(field_describe(&vcpu_state_desc, &now, &err), 0);
    for (unsigned i = 0; i < devices_count; i++)
        assert_int_equal(field_describe(devices_table[i]->state, &now, &err), 0);
    assert_int_equal(field_describe(virtio_rng_type.state, &now, &err), 0);
    assert_int_equal(field_describe(virtio_blk_type.state, &now, &err), 0);
    assert_int_equal(field_describe(virtio_net_type.state, &now, &err), 0);
    buf_append(&now, "", 1);
    FILE *f = fopen(path, "r");
    size_t n = f ? fread(golden, 1, sizeof(golden) - 1, f) : 0;
    golden[n] = '\0';
    if (f)
        fclose(f);
    if (strcmp(golden, (const char *)now.data) != 0)
        keep_schema((const char *)now.data, path);
    assert_string_equal(golden, (const char *)now.data);
    buf_fini(&now);
}

int main(void)
{
#define T(fn) cmocka_unit_test_setup_teardown(fn, rig_setup, rig_teardown)
    const struct CMUnitTest tests[] = {
        T(test_table),
        T(test_init_fails),
        T(test_widths),
        T(test_hostile),
        T(test_round_trips),
        T(test_truncated),
        T(test_flipped),
        T(test_flipped_and_sealed),
        cmocka_unit_test(test_impossible_values),
        T(test_extreme_values),
        T(test_schema),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
