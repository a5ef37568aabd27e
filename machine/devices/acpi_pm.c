/*
 * The fixed hardware of ACPI: PM1a event and control registers, the PM timer, the SCI, and the
 * reset register at port 0xcf9.
 *
 * The machine is in ACPI mode from the start: SCI_EN is always set and there is no SMI command.
 * S5 is a request to shut down; other sleep types are kept in SLP_TYP and do nothing.
 *
 * The PM timer counts the time that the machine ran, 32 bits wide at 3.579545 MHz. It is not
 * counted but derived from `elapsed_ns`, which a quiesce brings up to date; so it stands still in a
 * pause and goes on from the same count on another host. Its status bit is worked out when somebody
 * looks, and a timer runs only while its interrupt is enabled.
 */
#include "machine/devices/acpi_pm.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <string.h>

#include "base/le.h"
#include "machine/devices/line.h"
#include "machine/layout.h"
#include "machine/timer.h"

#define PM_TIMER_HZ 3579545u
#define SECOND_NS 1000000000u
#define HALF_SHIFT 31 /* the timer's top bit: its status is set whenever it changes */
#define ELAPSED_MAX_NS (UINT64_MAX / 4)

/* Registers by their offset in the block. */
enum { AT_STATUS = 0, AT_ENABLE = 2, AT_CONTROL = 4, AT_TIMER = 8, BLOCK_BYTES = 12 };
_Static_assert(LAYOUT_PM1A_CONTROL == LAYOUT_PM1A_EVENT + AT_CONTROL, "one block");
_Static_assert(LAYOUT_PM_TIMER == LAYOUT_PM1A_EVENT + AT_TIMER, "one block");

#define STATUS_TIMER 0x0001
#define STATUS_POWER_BUTTON 0x0100
#define STATUS_MASK (STATUS_TIMER | STATUS_POWER_BUTTON)
/* Also those that ACPI defines and nothing here raises: guests read back what they enable. */
#define ENABLE_MASK 0x0721

#define CONTROL_SCI 0x0001
#define CONTROL_BUS_MASTER 0x0002
#define CONTROL_TYPE_SHIFT 10
#define CONTROL_TYPE 0x1c00
#define CONTROL_SLEEP 0x2000
#define CONTROL_KEPT (CONTROL_BUS_MASTER | CONTROL_TYPE)

#define RESET_NOW 0x04
#define RESET_KEPT 0x0a /* hard, full: which kind the next one is to be */

struct acpi_pm {
    pthread_mutex_t lock;
    struct line sci;
    struct request_sink request;
    struct timer_set *timers; /* borrowed */
    struct timer timer;
    uint64_t started_ns; /* of timer_now, when elapsed_ns was right; valid while not quiesced */
    bool quiesced;
    bool press_waits;

    uint16_t status, enable, control;
    uint8_t reset_control;
    uint64_t elapsed_ns; /* that the machine ran */
    uint64_t halves;     /* not saved: changes of the timer's top bit that were looked at */
};

// clang-format off
static const struct field acpi_pm_fields[] = {
    FIELD(1, struct acpi_pm, status),
    FIELD(2, struct acpi_pm, enable),
    FIELD(3, struct acpi_pm, control),
    FIELD(4, struct acpi_pm, reset_control),
    FIELD(5, struct acpi_pm, elapsed_ns),
    FIELD_END,
};
// clang-format on

static uint64_t elapsed(const struct acpi_pm *p)
{
    return p->elapsed_ns + (p->quiesced ? 0 : timer_now(p->timers) - p->started_ns);
}

static uint64_t ticks_of(uint64_t ns)
{
    return (uint64_t)((unsigned __int128)ns * PM_TIMER_HZ / SECOND_NS);
}

/* The first moment at which ticks_of() gives `ticks`. */
static uint64_t ns_of(uint64_t ticks)
{
    return (uint64_t)(((unsigned __int128)ticks * SECOND_NS + PM_TIMER_HZ - 1) / PM_TIMER_HZ);
}

static bool sci_level(const struct acpi_pm *p)
{
    return p->status & p->enable;
}

static void catch_up(struct acpi_pm *p)
{
    uint64_t halves = ticks_of(elapsed(p)) >> HALF_SHIFT;
    if (halves != p->halves)
        p->status |= STATUS_TIMER;
    p->halves = halves;
}

/* After any change: the line, and a timer when the next change of the top bit would raise it. */
static void settle(struct acpi_pm *p)
{
    line_set(&p->sci, sci_level(p));
    if (p->quiesced || !(p->enable & STATUS_TIMER) || (p->status & STATUS_TIMER)) {
        timer_cancel(&p->timer);
        return;
    }
    timer_arm(&p->timer, p->started_ns + ns_of((p->halves + 1) << HALF_SHIFT) - p->elapsed_ns);
}

static void acpi_pm_fire(void *owner)
{
    struct acpi_pm *p = owner;
    pthread_mutex_lock(&p->lock);
    if (!p->quiesced) {
        catch_up(p);
        settle(p);
    }
    pthread_mutex_unlock(&p->lock);
}

static void write_control(struct acpi_pm *p, uint16_t value, bool sleep)
{
    p->control = CONTROL_SCI | (value & CONTROL_KEPT);
    if (sleep && (value & CONTROL_TYPE) >> CONTROL_TYPE_SHIFT == LAYOUT_S5_SLEEP_TYPE)
        p->request.ask(p->request.ctx, MACHINE_REQUEST_SHUTDOWN, "ACPI S5");
}

static void write_byte(struct acpi_pm *p, unsigned at, uint8_t value)
{
    unsigned shift = at % 2 * 8;
    uint16_t placed = (uint16_t)(value << shift), others = (uint16_t)(0xff00 >> shift);
    switch (at & ~1u) {
    case AT_STATUS: /* written ones clear */
        p->status &= (uint16_t)~placed;
        return;
    case AT_ENABLE:
        p->enable = ((p->enable & others) | placed) & ENABLE_MASK;
        return;
    case AT_CONTROL:
        write_control(p, (uint16_t)((p->control & others) | placed), placed & CONTROL_SLEEP);
        return;
    default: /* the timer is read-only */
        return;
    }
}

/* Any width at any byte: the whole block at one moment, of which the guest gets its part. [vcpu] */
static void block_read(void *owner, uint64_t offset, uint8_t *data, unsigned len)
{
    struct acpi_pm *p = owner;
    uint8_t block[BLOCK_BYTES] = {0};
    pthread_mutex_lock(&p->lock);
    catch_up(p);
    settle(p);
    le_put(block + AT_STATUS, p->status, 2);
    le_put(block + AT_ENABLE, p->enable, 2);
    le_put(block + AT_CONTROL, p->control, 2);
    le_put(block + AT_TIMER, ticks_of(elapsed(p)), 4);
    pthread_mutex_unlock(&p->lock);
    memcpy(data, block + offset, len);
}

static void block_write(void *owner, uint64_t offset, const uint8_t *data, unsigned len)
{
    struct acpi_pm *p = owner;
    pthread_mutex_lock(&p->lock);
    catch_up(p);
    for (unsigned i = 0; i < len; i++)
        write_byte(p, (unsigned)offset + i, data[i]);
    settle(p);
    pthread_mutex_unlock(&p->lock);
}

static void reset_read(void *owner, uint64_t offset, uint8_t *data, unsigned len)
{
    struct acpi_pm *p = owner;
    pthread_mutex_lock(&p->lock);
    data[0] = p->reset_control;
    pthread_mutex_unlock(&p->lock);
}

static void reset_write(void *owner, uint64_t offset, const uint8_t *data, unsigned len)
{
    struct acpi_pm *p = owner;
    pthread_mutex_lock(&p->lock);
    p->reset_control = data[0] & RESET_KEPT;
    if (data[0] & RESET_NOW)
        p->request.ask(p->request.ctx, MACHINE_REQUEST_RESET, "port 0xcf9");
    pthread_mutex_unlock(&p->lock);
}

static const struct bus_ops block_ops = {.read = block_read, .write = block_write};
static const struct bus_ops reset_ops = {.read = reset_read, .write = reset_write};

void acpi_pm_press_power_button(struct acpi_pm *p)
{
    pthread_mutex_lock(&p->lock);
    if (p->quiesced) {
        p->press_waits = true;
    } else {
        p->status |= STATUS_POWER_BUTTON;
        settle(p);
    }
    pthread_mutex_unlock(&p->lock);
}

static void acpi_pm_reset(void *dev)
{
    struct acpi_pm *p = dev;
    pthread_mutex_lock(&p->lock);
    p->status = p->enable = 0;
    p->control = CONTROL_SCI;
    p->reset_control = 0;
    p->elapsed_ns = p->halves = 0;
    pthread_mutex_unlock(&p->lock);
}

static int acpi_pm_init(void *dev, const struct device_env *env, struct err *err)
{
    struct acpi_pm *p = dev;
    int rc = bus_add(env->pio, LAYOUT_PM1A_EVENT, BLOCK_BYTES, &block_ops, p, err);
    if (rc == 0)
        rc = bus_add(env->pio, LAYOUT_RESET_PORT, 1, &reset_ops, p, err);
    if (rc < 0)
        return rc;
    pthread_mutex_init(&p->lock, NULL);
    line_init(&p->sci, &env->irq, LAYOUT_SCI_GSI);
    p->request = env->request;
    p->timers = env->timers;
    timer_init(&p->timer, env->timers, acpi_pm_fire, p);
    p->quiesced = true;
    acpi_pm_reset(p);
    return 0;
}

static void acpi_pm_fini(void *dev)
{
    struct acpi_pm *p = dev;
    timer_fini(&p->timer);
    pthread_mutex_destroy(&p->lock);
}

static void acpi_pm_quiesce(void *dev)
{
    struct acpi_pm *p = dev;
    pthread_mutex_lock(&p->lock);
    catch_up(p);
    p->elapsed_ns = elapsed(p);
    p->quiesced = true;
    settle(p);
    pthread_mutex_unlock(&p->lock);
}

static void acpi_pm_resume(void *dev)
{
    struct acpi_pm *p = dev;
    pthread_mutex_lock(&p->lock);
    p->started_ns = timer_now(p->timers);
    p->quiesced = false;
    if (p->press_waits)
        p->status |= STATUS_POWER_BUTTON;
    p->press_waits = false;
    line_restate(&p->sci, sci_level(p));
    settle(p);
    pthread_mutex_unlock(&p->lock);
}

static int acpi_pm_post_load(void *object, struct err *err)
{
    struct acpi_pm *p = object;
    if (p->status & ~STATUS_MASK)
        return err_set(err, EBADMSG, "acpi-pm.status 0x%04x has unknown bits", p->status);
    if (p->enable & ~ENABLE_MASK)
        return err_set(err, EBADMSG, "acpi-pm.enable 0x%04x has unknown bits", p->enable);
    if ((p->control & ~CONTROL_KEPT) != CONTROL_SCI)
        return err_set(err, EBADMSG, "acpi-pm.control 0x%04x is impossible", p->control);
    if (p->reset_control & ~RESET_KEPT)
        return err_set(err, EBADMSG, "acpi-pm.reset_control 0x%02x has unknown bits",
                       p->reset_control);
    if (p->elapsed_ns > ELAPSED_MAX_NS)
        return err_set(err, EBADMSG, "acpi-pm.elapsed_ns %" PRIu64 " is out of range",
                       p->elapsed_ns);
    p->halves = ticks_of(p->elapsed_ns) >> HALF_SHIFT; /* as quiesce left it */
    return 0;
}

static const struct state_desc acpi_pm_state = {
    .name = "acpi-pm",
    .version = 1,
    .min_version = 1,
    .fields = acpi_pm_fields,
    .post_load = acpi_pm_post_load,
};

const struct device_type acpi_pm_type = {
    .name = "acpi-pm",
    .size = sizeof(struct acpi_pm),
    .state = &acpi_pm_state,
    .init = acpi_pm_init,
    .fini = acpi_pm_fini,
    .quiesce = acpi_pm_quiesce,
    .resume = acpi_pm_resume,
    .reset = acpi_pm_reset,
};
