/*
 * The state of all devices, as bytes from a stranger: sections with right checksums (put right
 * here, or nothing would get behind them), loaded into a built set. What loads must run on: it is
 * resumed, every register is read and saved again.
 */
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/crc32c.h"
#include "base/le.h"
#include "machine/console.h"
#include "machine/devices/devices.h"
#include "machine/timer.h"

#define STATE_MAX 65536

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct timer_set timers;
static struct console console;
static struct mem mem;

static uint64_t stopped_clock(void)
{
    return 1609459200000000000ull;
}

static void ignore_line(void *ctx, unsigned gsi, bool level)
{
}

static void ignore_request(void *ctx, enum machine_request what, const char *by)
{
}

static void ignore_console(void *ctx)
{
}

static void set_up(void)
{
    static const struct console_ops ops = {.output = ignore_console, .input_room = ignore_console};
    static bool done;
    struct err err;
    if (done)
        return;
    done = true;
    if (timer_set_init(&timers, stopped_clock, &err) < 0 ||
        console_init(&console, &ops, NULL, &err) < 0 || mem_init(&mem, MEM_MIN, &err) < 0)
        abort();
}

static void seal(uint8_t *bytes, size_t len)
{
    for (size_t at = 0; len - at >= SECTION_HEAD_BYTES;) {
        uint8_t *head = bytes + at;
        size_t total = SECTION_HEAD_BYTES + le_get(head + 4, 2) + le_get(head + 16, 4);
        if (total > len - at)
            return;
        le_put(head + 20,
               crc32c(crc32c(0, head, 20), head + SECTION_HEAD_BYTES, total - SECTION_HEAD_BYTES),
               4);
        at += total;
    }
}

/* A loaded state must be one that runs, and that another host would load again. */
static void run_on(struct devices *d, const struct bus *pio)
{
    CLEAN(buf_fini) struct buf again;
    struct err err;
    uint8_t byte = 0;
    devices_resume(d);
    for (uint64_t port = 0; port < 0x1000; port++)
        bus_read(pio, port, &byte, 1);
    for (uint64_t port = 0; port < 0x1000; port++)
        bus_write(pio, port, &byte, 1);
    devices_quiesce(d);
    buf_init(&again, STATE_MAX);
    if (devices_save(d, &again, &err) < 0 ||
        devices_load(d, (struct span){.at = again.data, .left = again.len}, NULL, &err) < 0)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bus pio = {0};
    struct devices devices;
    struct err err;
    set_up();
    struct device_env env = {.pio = &pio,
                             .irq = {.set = ignore_line},
                             .request = {.ask = ignore_request},
                             .mem = &mem,
                             .timers = &timers,
                             .console = &console,
                             .wall_ns = stopped_clock};
    uint8_t *bytes = malloc(size ? size : 1);
    if (!bytes || devices_init(&devices, &env, NULL, 0, &err) < 0)
        abort();
    if (size)
        memcpy(bytes, data, size);
    seal(bytes, size);
    if (devices_load(&devices, (struct span){.at = bytes, .left = size}, NULL, &err) == 0)
        run_on(&devices, &pio);
    devices_fini(&devices);
    free(bytes);
    return 0;
}
