/*
 * A 16550A at 0x3f8, GSI 4, whose other end is the console.
 *
 * Transmit is immediate: a byte written to THR is on the console when the write returns, so THR is
 * always empty, and an interrupt for it is owed after each write.
 *
 * Receive: the console's queue is the wire. Bytes move into the FIFO only when it is empty, and
 * only when the guest looks (reads LSR) or asked to be interrupted for them. So nothing can
 * overrun, type-ahead waits for the guest's driver instead of dying in its FIFO resets, and the
 * interrupt line falls between two fills: an edge-triggered controller sees each of them. For the
 * same reason what lies in the FIFO below its trigger level is an overdue character (CTI) at once:
 * no more is coming before it was read.
 *
 * Bytes in the FIFO are state of the machine; the console's queue is the worker's.
 */
#include "machine/devices/serial.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>

#include "machine/console.h"
#include "machine/devices/line.h"
#include "machine/layout.h"

#define SERIAL_FIFO 16

enum { REG_DATA, REG_IER, REG_IIR, REG_LCR, REG_MCR, REG_LSR, REG_MSR, REG_SCR, REG_COUNT };
#define REG_FCR REG_IIR

#define IER_RX 0x01
#define IER_THRE 0x02
#define IER_LINE 0x04
#define IER_MODEM 0x08
#define IER_MASK 0x0f

#define IIR_NONE 0x01
#define IIR_MODEM 0x00
#define IIR_THRE 0x02
#define IIR_RX 0x04
#define IIR_LINE 0x06
#define IIR_RX_OVERDUE 0x0c
#define IIR_FIFO 0xc0

#define FCR_ENABLE 0x01
#define FCR_CLEAR_RX 0x02
#define FCR_TRIGGER_SHIFT 6
#define FCR_KEPT 0xc9 /* enable, DMA mode, trigger */

#define LCR_DLAB 0x80

#define MCR_OUT2 0x08
#define MCR_LOOP 0x10
#define MCR_MASK 0x1f

#define LSR_READY 0x01
#define LSR_OVERRUN 0x02
#define LSR_EMPTY 0x60 /* THR and transmitter */

#define MSR_CTS 0x10
#define MSR_DSR 0x20
#define MSR_RI 0x40
#define MSR_DCD 0x80
#define MSR_LINES 0xf0
#define MSR_RI_ENDED 0x04
#define MSR_DELTAS 0x0f

struct serial {
    pthread_mutex_t lock;
    struct line irq;
    struct console *console; /* borrowed */
    bool quiesced;

    uint8_t ier, fcr, lcr, mcr, scr;
    uint8_t divisor_low, divisor_high;
    uint8_t line_errors; /* LSR bits until LSR is read */
    uint8_t msr;         /* lines as the guest sees them, and their deltas until MSR is read */
    bool thre_owed;      /* THR empty, not yet acknowledged */
    uint8_t rx[SERIAL_FIFO];
    uint8_t rx_count; /* oldest is rx[0] */
};

// clang-format off
static const struct field serial_fields[] = {
    FIELD(1, struct serial, ier),
    FIELD(2, struct serial, fcr),
    FIELD(3, struct serial, lcr),
    FIELD(4, struct serial, mcr),
    FIELD(5, struct serial, scr),
    FIELD(6, struct serial, divisor_low),
    FIELD(7, struct serial, divisor_high),
    FIELD(8, struct serial, line_errors),
    FIELD(9, struct serial, msr),
    FIELD(10, struct serial, thre_owed),
    FIELD_ARRAY(11, struct serial, rx),
    FIELD(12, struct serial, rx_count),
    FIELD_END,
};
// clang-format on

static unsigned rx_capacity(const struct serial *s)
{
    return s->fcr & FCR_ENABLE ? SERIAL_FIFO : 1;
}

static unsigned rx_trigger(const struct serial *s)
{
    static const uint8_t levels[] = {1, 4, 8, 14};
    return s->fcr & FCR_ENABLE ? levels[s->fcr >> FCR_TRIGGER_SHIFT] : 1;
}

/* What the modem lines read: a peer that is always there, or the own outputs in loopback. */
static uint8_t modem_lines(uint8_t mcr)
{
    if (!(mcr & MCR_LOOP))
        return MSR_DCD | MSR_DSR | MSR_CTS;
    return (mcr & 0x01 ? MSR_DSR : 0) | (mcr & 0x02 ? MSR_CTS : 0) | (mcr & 0x04 ? MSR_RI : 0) |
           (mcr & 0x08 ? MSR_DCD : 0);
}

/* The highest interrupt that is enabled and pending, as IIR says it. */
static uint8_t pending(const struct serial *s)
{
    if ((s->ier & IER_LINE) && s->line_errors)
        return IIR_LINE;
    if ((s->ier & IER_RX) && s->rx_count)
        return s->rx_count >= rx_trigger(s) ? IIR_RX : IIR_RX_OVERDUE;
    if ((s->ier & IER_THRE) && s->thre_owed)
        return IIR_THRE;
    if ((s->ier & IER_MODEM) && (s->msr & MSR_DELTAS))
        return IIR_MODEM;
    return IIR_NONE;
}

/* OUT2 gates the interrupt on a PC; loopback holds the real OUT2 pin inactive. */
static bool irq_level(const struct serial *s)
{
    return (s->mcr & (MCR_OUT2 | MCR_LOOP)) == MCR_OUT2 && pending(s) != IIR_NONE;
}

static void update_irq(struct serial *s)
{
    line_set(&s->irq, irq_level(s));
}

static void rx_fill(struct serial *s)
{
    if (s->rx_count == 0 && !(s->mcr & MCR_LOOP))
        s->rx_count = (uint8_t)console_pull(s->console, s->rx, rx_capacity(s));
}

/* After any change: bytes that the guest wants to be interrupted for come in, the line follows. */
static void settle(struct serial *s)
{
    update_irq(s);
    if (s->ier & IER_RX)
        rx_fill(s);
    update_irq(s);
}

static void rx_clear(struct serial *s)
{
    memset(s->rx, 0, sizeof(s->rx));
    s->rx_count = 0;
}

static uint8_t rx_pop(struct serial *s)
{
    uint8_t byte = s->rx[0];
    if (s->rx_count == 0)
        return 0;
    s->rx_count--;
    memmove(s->rx, s->rx + 1, s->rx_count);
    s->rx[s->rx_count] = 0;
    return byte;
}

/* A full FIFO keeps what it has; the single holding register is overwritten. */
static void rx_loop_back(struct serial *s, uint8_t byte)
{
    if (s->rx_count < rx_capacity(s)) {
        s->rx[s->rx_count++] = byte;
        return;
    }
    s->line_errors |= LSR_OVERRUN;
    if (!(s->fcr & FCR_ENABLE))
        s->rx[0] = byte;
}

static void write_data(struct serial *s, uint8_t byte)
{
    /* The line falls and rises again, as it does around a byte on its way. */
    s->thre_owed = false;
    update_irq(s);
    if (s->mcr & MCR_LOOP)
        rx_loop_back(s, byte);
    else
        console_write(s->console, &byte, 1);
    s->thre_owed = true;
}

static void write_ier(struct serial *s, uint8_t value)
{
    value &= IER_MASK;
    if ((value & ~s->ier) & IER_THRE)
        s->thre_owed = true;
    s->ier = value;
}

static void write_fcr(struct serial *s, uint8_t value)
{
    if (!(value & FCR_ENABLE))
        value = 0;
    if ((value & FCR_CLEAR_RX) || ((value ^ s->fcr) & FCR_ENABLE))
        rx_clear(s);
    s->fcr = value & FCR_KEPT;
}

static void write_mcr(struct serial *s, uint8_t value)
{
    uint8_t before = s->msr & MSR_LINES;
    s->mcr = value & MCR_MASK;
    uint8_t after = modem_lines(s->mcr), changed = before ^ after;
    /* Delta bits lie four below their lines; that of RI tells only of its end. */
    uint8_t deltas = (uint8_t)((changed >> 4) & ~MSR_RI_ENDED);
    if (before & ~after & MSR_RI)
        deltas |= MSR_RI_ENDED;
    s->msr = after | (s->msr & MSR_DELTAS) | deltas;
}

static uint8_t read_iir(struct serial *s)
{
    uint8_t id = pending(s);
    if (id == IIR_THRE)
        s->thre_owed = false;
    return id | (s->fcr & FCR_ENABLE ? IIR_FIFO : 0);
}

static uint8_t read_lsr(struct serial *s)
{
    rx_fill(s);
    uint8_t value = LSR_EMPTY | s->line_errors | (s->rx_count ? LSR_READY : 0);
    s->line_errors = 0;
    return value;
}

static uint8_t read_msr(struct serial *s)
{
    uint8_t value = s->msr;
    s->msr &= MSR_LINES;
    return value;
}

static uint8_t read_reg(struct serial *s, unsigned reg)
{
    bool dlab = s->lcr & LCR_DLAB;
    switch (reg) {
    case REG_DATA:
        return dlab ? s->divisor_low : rx_pop(s);
    case REG_IER:
        return dlab ? s->divisor_high : s->ier;
    case REG_IIR:
        return read_iir(s);
    case REG_LCR:
        return s->lcr;
    case REG_MCR:
        return s->mcr;
    case REG_LSR:
        return read_lsr(s);
    case REG_MSR:
        return read_msr(s);
    default:
        return s->scr;
    }
}

static void write_reg(struct serial *s, unsigned reg, uint8_t value)
{
    bool dlab = s->lcr & LCR_DLAB;
    switch (reg) {
    case REG_DATA:
        if (dlab)
            s->divisor_low = value;
        else
            write_data(s, value);
        return;
    case REG_IER:
        if (dlab)
            s->divisor_high = value;
        else
            write_ier(s, value);
        return;
    case REG_FCR:
        write_fcr(s, value);
        return;
    case REG_LCR:
        s->lcr = value;
        return;
    case REG_MCR:
        write_mcr(s, value);
        return;
    case REG_SCR:
        s->scr = value;
        return;
    default: /* LSR and MSR are read-only */
        return;
    }
}

/* A wide access is one to each register in turn, as on the ISA bus. [vcpu] */
static void serial_read(void *owner, uint64_t offset, uint8_t *data, unsigned len)
{
    struct serial *s = owner;
    pthread_mutex_lock(&s->lock);
    for (unsigned i = 0; i < len; i++) {
        data[i] = read_reg(s, (unsigned)offset + i);
        settle(s);
    }
    pthread_mutex_unlock(&s->lock);
}

static void serial_write(void *owner, uint64_t offset, const uint8_t *data, unsigned len)
{
    struct serial *s = owner;
    pthread_mutex_lock(&s->lock);
    for (unsigned i = 0; i < len; i++) {
        write_reg(s, (unsigned)offset + i, data[i]);
        settle(s);
    }
    pthread_mutex_unlock(&s->lock);
}

static const struct bus_ops serial_ops = {.read = serial_read, .write = serial_write};

/* The console has input. [loop] */
static void serial_input_ready(void *dev)
{
    struct serial *s = dev;
    pthread_mutex_lock(&s->lock);
    if (!s->quiesced)
        settle(s);
    pthread_mutex_unlock(&s->lock);
}

static void serial_reset(void *dev)
{
    struct serial *s = dev;
    pthread_mutex_lock(&s->lock);
    s->ier = s->fcr = s->lcr = s->mcr = s->scr = 0;
    s->divisor_low = 1; /* 115200, as a loader would leave it */
    s->divisor_high = 0;
    s->line_errors = 0;
    s->msr = modem_lines(0);
    s->thre_owed = false;
    rx_clear(s);
    pthread_mutex_unlock(&s->lock);
}

static int serial_init(void *dev, const struct device_env *env, struct err *err)
{
    struct serial *s = dev;
    int rc = bus_add(env->pio, LAYOUT_SERIAL_PORT, REG_COUNT, &serial_ops, s, err);
    if (rc < 0)
        return rc;
    pthread_mutex_init(&s->lock, NULL);
    line_init(&s->irq, &env->irq, LAYOUT_SERIAL_GSI);
    s->console = env->console;
    s->quiesced = true;
    serial_reset(s);
    console_set_device(s->console, serial_input_ready, s);
    return 0;
}

static void serial_fini(void *dev)
{
    struct serial *s = dev;
    console_set_device(s->console, NULL, NULL);
    pthread_mutex_destroy(&s->lock);
}

static void serial_quiesce(void *dev)
{
    struct serial *s = dev;
    pthread_mutex_lock(&s->lock);
    s->quiesced = true;
    pthread_mutex_unlock(&s->lock);
}

static void serial_resume(void *dev)
{
    struct serial *s = dev;
    pthread_mutex_lock(&s->lock);
    s->quiesced = false;
    line_restate(&s->irq, irq_level(s));
    settle(s);
    pthread_mutex_unlock(&s->lock);
}

/* Only states that the registers can reach. */
static int serial_post_load(void *object, struct err *err)
{
    struct serial *s = object;
    if (s->ier & ~IER_MASK)
        return err_set(err, EBADMSG, "serial.ier 0x%02x has unknown bits", s->ier);
    if ((s->fcr & ~FCR_KEPT) || (s->fcr && !(s->fcr & FCR_ENABLE)))
        return err_set(err, EBADMSG, "serial.fcr 0x%02x is impossible", s->fcr);
    if (s->mcr & ~MCR_MASK)
        return err_set(err, EBADMSG, "serial.mcr 0x%02x has unknown bits", s->mcr);
    if (s->line_errors & ~LSR_OVERRUN)
        return err_set(err, EBADMSG, "serial.line_errors 0x%02x is impossible", s->line_errors);
    if ((s->msr & MSR_LINES) != modem_lines(s->mcr))
        return err_set(err, EBADMSG, "serial.msr 0x%02x contradicts mcr 0x%02x", s->msr, s->mcr);
    if (s->rx_count > rx_capacity(s))
        return err_set(err, EBADMSG, "serial.rx_count %u is more than %u", s->rx_count,
                       rx_capacity(s));
    return 0;
}

static const struct state_desc serial_state = {
    .name = "serial",
    .version = 1,
    .min_version = 1,
    .fields = serial_fields,
    .post_load = serial_post_load,
};

const struct device_type serial_type = {
    .name = "serial",
    .size = sizeof(struct serial),
    .state = &serial_state,
    .init = serial_init,
    .fini = serial_fini,
    .quiesce = serial_quiesce,
    .resume = serial_resume,
    .reset = serial_reset,
};
