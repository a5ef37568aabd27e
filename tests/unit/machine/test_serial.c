/* The serial port, register by register. */
#include "tests/unit/machine/rig.h"

#define DATA (LAYOUT_SERIAL_PORT + 0)
#define IER (LAYOUT_SERIAL_PORT + 1)
#define IIR (LAYOUT_SERIAL_PORT + 2)
#define FCR IIR
#define LCR (LAYOUT_SERIAL_PORT + 3)
#define MCR (LAYOUT_SERIAL_PORT + 4)
#define LSR (LAYOUT_SERIAL_PORT + 5)
#define MSR (LAYOUT_SERIAL_PORT + 6)
#define SCR (LAYOUT_SERIAL_PORT + 7)
#define GSI LAYOUT_SERIAL_GSI

static void test_power_on(void **state)
{
    struct rig *r = *state;
    assert_int_equal(inb(r, IER), 0);
    assert_int_equal(inb(r, IIR), 0x01);
    assert_int_equal(inb(r, LCR), 0);
    assert_int_equal(inb(r, MCR), 0);
    assert_int_equal(inb(r, LSR), 0x60);
    assert_int_equal(inb(r, MSR), 0xb0);
    outb(r, SCR, 0x5a);
    assert_int_equal(inb(r, SCR), 0x5a);
    outb(r, LSR, 0xff);
    outb(r, MSR, 0xff);
    assert_int_equal(inb(r, LSR), 0x60);
    assert_int_equal(inb(r, MSR), 0xb0);
    assert_false(r->level[GSI]);
}

static void test_divisor(void **state)
{
    struct rig *r = *state;
    outb(r, LCR, 0x83);
    assert_int_equal(in(r, DATA, 2), 1);
    out(r, DATA, 0x1234, 2);
    assert_int_equal(inb(r, DATA), 0x34);
    assert_int_equal(inb(r, IER), 0x12);
    outb(r, LCR, 0x03);
    assert_int_equal(inb(r, IER), 0);
    assert_string_equal(rig_said(r), "");
}

static void test_says(void **state)
{
    struct rig *r = *state;
    for (const char *p = "hello\n"; *p; p++)
        outb(r, DATA, (uint8_t)*p);
    assert_string_equal(rig_said(r), "hello\n");
    assert_int_equal(inb(r, LSR), 0x60);
}

static void test_thre_interrupt(void **state)
{
    struct rig *r = *state;
    outb(r, MCR, 0x08);
    outb(r, IER, 0x02);
    assert_true(r->level[GSI]);
    assert_int_equal(inb(r, IIR), 0x02);
    assert_false(r->level[GSI]); /* read: acknowledged */
    assert_int_equal(inb(r, IIR), 0x01);
    outb(r, DATA, 'a');
    assert_true(r->level[GSI]);
    outb(r, DATA, 'b'); /* not acknowledged, and yet an edge for the next byte */
    assert_int_equal(r->edges[GSI], 3);
    assert_int_equal(inb(r, IIR), 0x02);
    outb(r, IER, 0x02); /* was on: nothing new */
    assert_int_equal(inb(r, IIR), 0x01);
    outb(r, IER, 0x00);
    outb(r, IER, 0x02);
    assert_int_equal(inb(r, IIR), 0x02);
}

static void test_out2_gates(void **state)
{
    struct rig *r = *state;
    outb(r, IER, 0x02);
    assert_false(r->level[GSI]);
    outb(r, MCR, 0x08);
    assert_true(r->level[GSI]);
    outb(r, MCR, 0x18); /* loopback holds the pin */
    assert_false(r->level[GSI]);
    outb(r, MCR, 0x00);
    assert_false(r->level[GSI]);
}

/* Without a FIFO one byte at a time, an edge for each. */
static void test_receive_single(void **state)
{
    struct rig *r = *state;
    outb(r, MCR, 0x08);
    outb(r, IER, 0x01);
    rig_type(r, "abc");
    for (unsigned i = 0; i < 3; i++) {
        assert_true(r->level[GSI]);
        assert_int_equal(r->edges[GSI], i + 1);
        assert_int_equal(inb(r, IIR), 0x04);
        assert_int_equal(inb(r, LSR), 0x61);
        assert_int_equal(inb(r, DATA), "abc"[i]);
    }
    assert_false(r->level[GSI]);
    assert_int_equal(inb(r, LSR), 0x60);
    assert_int_equal(inb(r, DATA), 0);
}

/* RDA from the trigger level on, below it an overdue character. */
static void test_trigger_levels(void **state)
{
    static const unsigned levels[] = {1, 4, 8, 14};
    struct rig *r = *state;
    outb(r, MCR, 0x08);
    for (unsigned t = 0; t < 4; t++) {
        outb(r, FCR, (uint8_t)(t << 6 | 0x07));
        outb(r, IER, 0x01);
        rig_type(r, "0123456789abcdef");
        for (unsigned left = 16; left > 0; left--) {
            assert_true(r->level[GSI]);
            assert_int_equal(inb(r, IIR), left >= levels[t] ? 0xc4 : 0xcc);
            assert_int_equal(inb(r, DATA), "0123456789abcdef"[16 - left]);
        }
        assert_int_equal(inb(r, IIR), 0xc1);
        assert_false(r->level[GSI]);
    }
}

/* A writer that is far ahead loses nothing, and each fill of the FIFO is a new edge. */
static void test_fast_writer(void **state)
{
    struct rig *r = *state;
    uint8_t sent = 0, got = 0;
    unsigned total = 0, fills = 0;
    outb(r, MCR, 0x08);
    outb(r, FCR, 0x81);
    outb(r, IER, 0x01);
    while (total < 20000) {
        uint8_t more[999];
        for (unsigned i = 0; i < sizeof(more); i++)
            more[i] = (uint8_t)(sent + i);
        sent = (uint8_t)(sent + console_feed(&r->console, more, sizeof(more)));
        unsigned edges = r->edges[GSI];
        for (unsigned i = 0; i < 16; i++, total++) {
            assert_int_equal(inb(r, LSR) & 0x03, 0x01);
            assert_int_equal(inb(r, DATA), got++);
        }
        fills += r->edges[GSI] > edges;
    }
    assert_int_equal(fills, 20000 / 16);
    assert_true(r->input_room > 0);
    outb(r, IER, 0);
    while (inb(r, LSR) & 1)
        assert_int_equal(inb(r, DATA), got++);
    assert_int_equal(got, sent);
}

/* Type-ahead stays in the console until a driver looks, through all its FIFO resets. */
static void test_type_ahead(void **state)
{
    struct rig *r = *state;
    rig_type(r, "early");
    outb(r, FCR, 0x01);
    outb(r, FCR, 0x07);
    outb(r, FCR, 0x00);
    inb(r, DATA);
    inb(r, IIR);
    outb(r, FCR, 0x07);
    outb(r, MCR, 0x0b);
    outb(r, IER, 0x05);
    assert_int_equal(inb(r, IIR), 0xc4);
    for (unsigned i = 0; i < 5; i++)
        assert_int_equal(inb(r, DATA), "early"[i]);
}

static void test_fifo_reset(void **state)
{
    struct rig *r = *state;
    rig_type(r, "abc");
    outb(r, FCR, 0x01);
    assert_int_equal(inb(r, IIR), 0xc1);
    assert_int_equal(inb(r, LSR), 0x61);
    outb(r, FCR, 0x02); /* without the enable bit: FIFO off, and that clears it */
    assert_int_equal(inb(r, IIR), 0x01);
    assert_int_equal(inb(r, LSR), 0x60);
    rig_type(r, "de");
    outb(r, FCR, 0x01);
    assert_int_equal(inb(r, LSR), 0x61);
    outb(r, FCR, 0x05); /* the transmitter's only */
    assert_int_equal(inb(r, DATA), 'd');
    outb(r, FCR, 0x03);
    assert_int_equal(inb(r, LSR), 0x60);
}

static void test_loopback(void **state)
{
    struct rig *r = *state;
    outb(r, MCR, 0x10);
    outb(r, FCR, 0x01);
    rig_type(r, "from outside");
    for (unsigned i = 0; i < 256; i++)
        outb(r, DATA, (uint8_t)i);
    assert_int_equal(inb(r, LSR), 0x63); /* overrun */
    assert_int_equal(inb(r, LSR), 0x61); /* told once */
    for (unsigned i = 0; i < 16; i++)
        assert_int_equal(inb(r, DATA), i);
    assert_int_equal(inb(r, LSR), 0x60);
    outb(r, FCR, 0x00);
    outb(r, DATA, 'x');
    outb(r, DATA, 'y');
    assert_int_equal(inb(r, LSR), 0x63);
    assert_int_equal(inb(r, DATA), 'y');
    assert_string_equal(rig_said(r), "");
    outb(r, MCR, 0x00);
    assert_int_equal(inb(r, LSR), 0x61);
    assert_int_equal(inb(r, DATA), 'f');
}

static void test_line_interrupt(void **state)
{
    struct rig *r = *state;
    outb(r, MCR, 0x10);
    outb(r, DATA, 'x');
    outb(r, DATA, 'y');
    outb(r, IER, 0x0f);
    assert_int_equal(inb(r, IIR), 0x06); /* before all others */
    inb(r, LSR);
    assert_int_equal(inb(r, IIR), 0x04);
    inb(r, DATA);
    assert_int_equal(inb(r, IIR), 0x02);
    assert_int_equal(inb(r, IIR), 0x00); /* DCD, DSR and CTS fell */
    assert_int_equal(inb(r, MSR), 0x0b);
    assert_int_equal(inb(r, IIR), 0x01);
}

static void test_modem_lines(void **state)
{
    static const uint8_t lines[16] = {0x00, 0x20, 0x10, 0x30, 0x40, 0x60, 0x50, 0x70,
                                      0x80, 0xa0, 0x90, 0xb0, 0xc0, 0xe0, 0xd0, 0xf0};
    struct rig *r = *state;
    for (unsigned i = 0; i < 16; i++) {
        outb(r, MCR, (uint8_t)(0x10 | i));
        assert_int_equal(inb(r, MSR) & 0xf0, lines[i]);
        assert_int_equal(inb(r, MSR) & 0x0f, 0);
    }
    outb(r, MCR, 0x10); /* RI told only when it ends */
    assert_int_equal(inb(r, MSR), 0x0f);
    outb(r, MCR, 0x14);
    assert_int_equal(inb(r, MSR), 0x40);
    outb(r, MCR, 0xe0); /* the upper bits do not exist; out of loopback RI ends */
    assert_int_equal(inb(r, MCR), 0x00);
    assert_int_equal(inb(r, MSR), 0xbf);
}

/* While quiesced typing changes nothing; resume takes it up. */
static void test_quiesce(void **state)
{
    struct rig *r = *state;
    outb(r, MCR, 0x08);
    outb(r, IER, 0x01);
    devices_quiesce(&r->devices);
    rig_type(r, "z");
    assert_false(r->level[GSI]);
    devices_resume(&r->devices);
    assert_true(r->level[GSI]);
    assert_int_equal(inb(r, DATA), 'z');
}

static void test_reset(void **state)
{
    struct rig *r = *state;
    outb(r, MCR, 0x0b);
    outb(r, FCR, 0xc1);
    outb(r, IER, 0x03);
    rig_type(r, "abc");
    assert_true(r->level[GSI]);
    devices_quiesce(&r->devices);
    devices_reset(&r->devices);
    devices_resume(&r->devices);
    assert_false(r->level[GSI]);
    test_power_on(state);
}

int main(void)
{
#define T(fn) cmocka_unit_test_setup_teardown(fn, rig_setup, rig_teardown)
    const struct CMUnitTest tests[] = {
        T(test_power_on),    T(test_divisor),        T(test_says),           T(test_thre_interrupt),
        T(test_out2_gates),  T(test_receive_single), T(test_trigger_levels), T(test_fast_writer),
        T(test_type_ahead),  T(test_fifo_reset),     T(test_loopback),       T(test_line_interrupt),
        T(test_modem_lines), T(test_quiesce),        T(test_reset),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
