/* COM1, polled: bursts as long as the FIFO, so that a line costs few exits. */
#include "guest.h"

#define LSR_THRE 0x20
#define FIFO_BYTES 16

void serial_init(void)
{
    outb(SERIAL_PORT + 2, 0x01); /* FIFOs on, and nothing cleared: a byte may have come already */
}

static void serial_wait(void)
{
    while (!(inb(SERIAL_PORT + 5) & LSR_THRE))
        cpu_relax();
}

void serial_write(const char *bytes, size_t n)
{
    while (n) {
        size_t burst = n < FIFO_BYTES ? n : FIFO_BYTES;

        serial_wait();
        outsb(SERIAL_PORT, bytes, burst);
        bytes += burst;
        n -= burst;
    }
}
