/*
 * A guest that behaves as badly as it can: every port, every register of every virtio device, rings
 * that lie and change while they are looked at. It spares only what would end it. Devices are told
 * of one piece of its memory, and whatever they do, all the rest has to stay as it was; and after a
 * reset a device works for an honest driver.
 *
 *   noports, noregisters, norings   leave that alone
 */
#include "evil.h"

#define WAIT_NS 20000000000ul
#define CANARY_BYTES 0x100000u
#define SLICE 0x8000u
#define BURST 16u

const char guest_name[] = "evil";
static struct life life;
static struct vq_rings honest;
static uint64_t random_state, windows[VIRTIO_WINDOWS];
static unsigned nr_windows, pins[VIRTIO_WINDOWS];
static uint8_t canary[CANARY_BYTES];
static uint64_t nr_ports, nr_registers, nr_rings, nr_checks;
static uint32_t slice;

uint64_t evil_random(void)
{
    return random_next(&random_state);
}

static uint8_t canary_byte(uint32_t at)
{
    return (uint8_t)(at * 13 + (at >> 8));
}

static void check_canary(uint32_t bytes)
{
    for (uint32_t i = 0; i < bytes; i++, slice = (slice + 1) % CANARY_BYTES)
        if (canary[slice] != canary_byte(slice)) {
            life_error(&life, "byte %u of memory that no device knows of was written", slice);
            canary[slice] = canary_byte(slice);
        }
}

static const char *ask_honestly(struct virtio_dev *d, uint8_t *to, uint32_t bytes)
{
    struct vq_seg seg = {.at = to, .len = bytes, .in = true};
    const char *wrong = virtio_begin(d, VIRTIO_INDIRECT | VIRTIO_EVENT_INDEX);
    unsigned head;
    uint32_t len;

    if (!wrong)
        wrong = virtio_add_queue(d, 0, &honest, 8);
    if (wrong)
        return wrong;
    virtio_go(d);
    if (vq_add(&d->queues[0], &seg, 1, false) < 0)
        return "there is no room in a new queue";
    vq_kick(&d->queues[0]);
    wrong = vq_wait(&d->queues[0], WAIT_NS);
    if (!wrong && (vq_take(&d->queues[0], &head, &len) != 1 || len != bytes))
        wrong = "an honest request came back wrong";
    return wrong;
}

/* The random numbers of virtio-rng, as an honest driver gets them. */
static void check_honestly(void)
{
    struct virtio_dev d;
    uint8_t bytes[64] = {0}, zero = 0;
    const char *wrong;

    for (unsigned i = 0; i < nr_windows; i++)
        *(volatile uint32_t *)(uintptr_t)(windows[i] + VM_STATUS) = 0;
    if (!virtio_find(&d, VIRTIO_RNG, 0)) {
        life_error(&life, "there is no virtio-rng any more");
        return;
    }
    wrong = ask_honestly(&d, bytes, sizeof(bytes));
    virtio_reset(&d);
    lapic_timer_stop();
    irq_mask(d.pin);
    for (unsigned i = 0; i < sizeof(bytes); i++)
        zero += bytes[i] == 0;
    if (wrong || zero > 16)
        life_error(&life, "%s", wrong ? wrong : "an honest request was answered with zeroes");
    nr_checks++;
}

static uint64_t any_window(void)
{
    return windows[evil_random() % nr_windows];
}

static void be_evil(void)
{
    for (unsigned i = 0; i < BURST && !cmdline_has("noports"); i++, nr_ports++)
        evil_port();
    for (unsigned i = 0; i < BURST && !cmdline_has("noregisters"); i++, nr_registers++)
        evil_register(any_window());
    if (!cmdline_has("norings")) {
        evil_rings(any_window());
        nr_rings++;
    }
}

static void scribble_for_ever(struct cpu *cpu)
{
    uint64_t random = random_mix(cpu->index);

    for (;;)
        evil_scribble(&random);
}

static void begin(void)
{
    say("ready");
    irq_init();
    clock_init_cpu();
    random_state = random_seed();
    for (uint32_t i = 0; i < CANARY_BYTES; i++)
        canary[i] = canary_byte(i);
    nr_windows = virtio_windows(windows, pins, VIRTIO_WINDOWS);
    if (!nr_windows) {
        say("FAIL there are no virtio windows");
        power_off();
    }
    if (!text_same(clock_source(), "kvmclock"))
        say("without a kvmclock the time stands on the PIT, which is harmed too");
    say("windows=%u cpus=%u", nr_windows, cpus_start(scribble_for_ever));
}

void guest_main(void)
{
    begin();
    life_begin(&life, 200);
    for (;;) {
        uint64_t now;

        be_evil();
        check_canary(SLICE);
        now = clock_ns();
        if (!life_due(&life, now))
            continue;
        evil_mend();
        check_honestly();
        if (life_inject(&life))
            canary[slice] ^= 1;
        say("ms=%lu ports=%lu registers=%lu rings=%lu checks=%lu errors=%lu",
            (now - life.started_ns) / 1000000, nr_ports, nr_registers, nr_rings, nr_checks,
            life.errors);
        if (life_line(&life)) {
            check_canary(CANARY_BYTES);
            life_finish(&life);
        }
    }
}
