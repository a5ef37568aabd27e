/*
 * Answers on the serial port: every byte comes back, and behind each newline a line with the
 * number of bytes so far and their CRC-32.
 *
 * The receiver is emptied before anything is sent, and stops being emptied when the queue of what
 * is to be sent is full: then it is the sender who waits, as the UART says.
 *
 *   poll   look at the UART all the time, instead of sleeping until it interrupts
 */
#include "guest.h"

#define IER 1
#define MCR 4
#define LSR 5
#define IER_RX 0x01
#define MCR_OUT2_RTS_DTR 0x0b
#define LSR_DR 0x01
#define LSR_OVERRUN 0x02
#define LSR_THRE 0x20
#define FIFO_BYTES 16
#define QUEUE_BYTES 65536u
#define ROOM_FOR_A_LINE 128
#define LOOK_NS 100000000 /* between two looks at the power button */

const char guest_name[] = "echo";

static struct life life;
static uint8_t queue[QUEUE_BYTES];
static uint32_t head, tail; /* run on; modulo QUEUE_BYTES */
static uint64_t bytes, overruns;
static uint32_t crc;

static void queue_bytes(const void *data, size_t n)
{
    const uint8_t *p = data;

    while (n--)
        queue[head++ % QUEUE_BYTES] = *p++;
}

static void queue_line(void)
{
    char line[ROOM_FOR_A_LINE];

    queue_bytes(line, text_format(line, sizeof(line),
                                  "echo: bytes=%lu crc=%08x overruns=%lu errors=%lu\n", bytes, crc,
                                  overruns, life.errors));
    life.lines++;
}

static void take_byte(uint8_t byte)
{
    if (!(cmdline_number("inject", 0) == bytes + 1))
        crc = crc32_update(crc, &byte, 1);
    bytes++;
    queue_bytes(&byte, 1);
    if (byte == '\n')
        queue_line();
}

/* Empties the receiver; returns the last line status. */
static uint8_t receive(void)
{
    for (;;) {
        uint8_t status = inb(SERIAL_PORT + LSR);

        if (status & LSR_OVERRUN) {
            overruns++;
            life.errors++;
        }
        if (!(status & LSR_DR) || head - tail > QUEUE_BYTES - ROOM_FOR_A_LINE)
            return status;
        take_byte(inb(SERIAL_PORT));
    }
}

static void send(void)
{
    uint32_t at = tail % QUEUE_BYTES, n = head - tail;

    if (n > FIFO_BYTES)
        n = FIFO_BYTES;
    if (n > QUEUE_BYTES - at)
        n = QUEUE_BYTES - at;
    outsb(SERIAL_PORT, queue + at, n);
    tail += n;
}

/* All that can be done now. */
static void serve(void)
{
    for (;;) {
        uint8_t status = receive();

        if (head == tail)
            return;
        if (status & LSR_THRE)
            send();
    }
}

static void end_when_due(bool *over)
{
    uint64_t now = clock_ns();

    if (life.last_line && life.lines >= life.last_line)
        *over = true;
    if (!life_due(&life, now))
        return;
    if (power_button()) {
        say("power button, bye");
        *over = true;
    }
    if (life.end_ns && now >= life.end_ns)
        *over = true;
}

static void sleep_until_byte(struct cpu *cpu, uint32_t serial_seen)
{
    volatile uint32_t *irqs = cpu->irqs, timer_seen = irqs[VECTOR_TIMER];
    uint64_t now = clock_ns();

    if (irqs[VECTOR_PIN + SERIAL_IRQ] != serial_seen || now >= life.next_ns)
        return;
    lapic_timer((uint32_t)((life.next_ns - now) * (lapic_timer_hz() / 1000) / 1000000) + 1, false);
    if (irqs[VECTOR_TIMER] == timer_seen)
        cpu_wait(&irqs[VECTOR_PIN + SERIAL_IRQ], serial_seen);
}

static void run(struct cpu *cpu, bool poll)
{
    bool over = false;

    while (!over) {
        uint32_t seen = cpu->irqs[VECTOR_PIN + SERIAL_IRQ];

        serve();
        end_when_due(&over);
        if (poll)
            cpu_relax();
        else if (!over)
            sleep_until_byte(cpu, seen);
    }
}

void guest_main(void)
{
    bool poll = cmdline_has("poll");

    irq_init();
    clock_init_cpu();
    lapic_timer_hz();
    life_begin(&life, 100);
    outb(SERIAL_PORT + MCR, MCR_OUT2_RTS_DTR);
    irq_route(SERIAL_IRQ, false, false);
    outb(SERIAL_PORT + IER, poll ? 0 : IER_RX);
    say("ready");
    run(cpu_self(), poll);
    say("total bytes=%lu crc=%08x overruns=%lu", bytes, crc, overruns);
    life_finish(&life);
}
