/*
 * An i8042 keyboard controller with nothing plugged in, and port 0x92 beside it.
 *
 * It is there because guests reset by it, and because they probe it: each command that has an
 * answer gets it at once, and a byte sent to the absent keyboard comes back as a timeout, so that
 * no driver waits. A20 is remembered and always open.
 */
#include "machine/devices/i8042.h"

#include <errno.h>
#include <pthread.h>

#include "machine/devices/line.h"
#include "machine/layout.h"

#define I8042_RAM 32

#define STATUS_FULL 0x01     /* a byte waits in the output buffer */
#define STATUS_SYSTEM 0x04   /* self-test passed; follows the command byte's bit 2 */
#define STATUS_COMMAND 0x08  /* the last write went to the command port */
#define STATUS_UNLOCKED 0x10 /* no key lock */
#define STATUS_TIMEOUT 0x40

#define CONFIG_INTERRUPT 0x01
#define CONFIG_SYSTEM 0x04
#define CONFIG_KEYBOARD_OFF 0x10
#define CONFIG_AUX_OFF 0x20
#define CONFIG_TRANSLATE 0x40
#define CONFIG_START (CONFIG_INTERRUPT | CONFIG_SYSTEM | CONFIG_AUX_OFF | CONFIG_TRANSLATE)

#define COMMAND_READ_RAM 0x20  /* to 0x3f */
#define COMMAND_WRITE_RAM 0x60 /* to 0x7f */
#define COMMAND_AUX_DISABLE 0xa7
#define COMMAND_AUX_ENABLE 0xa8
#define COMMAND_AUX_TEST 0xa9
#define COMMAND_SELF_TEST 0xaa
#define COMMAND_KEYBOARD_TEST 0xab
#define COMMAND_KEYBOARD_DISABLE 0xad
#define COMMAND_KEYBOARD_ENABLE 0xae
#define COMMAND_READ_INPUT 0xc0
#define COMMAND_READ_OUTPUT 0xd0
#define COMMAND_WRITE_OUTPUT 0xd1
#define COMMAND_WRITE_KEYBOARD_BUFFER 0xd2
#define COMMAND_WRITE_AUX_BUFFER 0xd3
#define COMMAND_WRITE_AUX 0xd4
#define COMMAND_PULSE 0xf0 /* to 0xff: output lines whose bit is 0 */

#define OUTPUT_NO_RESET 0x01 /* low resets the machine */
#define OUTPUT_A20 0x02
#define OUTPUT_START 0xcf
#define INPUT_START 0x80 /* keyboard not locked */

#define REPLY_SELF_TEST_OK 0x55
#define REPLY_PORT_OK 0x00
#define REPLY_PORT_DEAD 0x01 /* clock line stuck low */
#define REPLY_RESEND 0xfe

#define PORT92_RESET 0x01
#define PORT92_A20 0x02

struct i8042 {
    pthread_mutex_t lock;
    struct line irq;
    struct request_sink request;

    uint8_t ram[I8042_RAM]; /* ram[0] is the command byte */
    uint8_t output_port;
    uint8_t reply;   /* the output buffer */
    uint8_t flags;   /* STATUS_FULL, STATUS_COMMAND, STATUS_TIMEOUT */
    uint8_t expects; /* the command whose parameter the next data byte is; 0 = none */
    uint8_t port92;
};

#define FLAGS_MASK (STATUS_FULL | STATUS_COMMAND | STATUS_TIMEOUT)

// clang-format off
static const struct field i8042_fields[] = {
    FIELD_ARRAY(1, struct i8042, ram),
    FIELD(2, struct i8042, output_port),
    FIELD(3, struct i8042, reply),
    FIELD(4, struct i8042, flags),
    FIELD(5, struct i8042, expects),
    FIELD(6, struct i8042, port92),
    FIELD_END,
};
// clang-format on

static bool takes_parameter(uint8_t command)
{
    return (command >= COMMAND_WRITE_RAM && command < COMMAND_WRITE_RAM + I8042_RAM) ||
           (command >= COMMAND_WRITE_OUTPUT && command <= COMMAND_WRITE_AUX);
}

static bool irq_level(const struct i8042 *k)
{
    return (k->flags & STATUS_FULL) && (k->ram[0] & CONFIG_INTERRUPT);
}

static void answer(struct i8042 *k, uint8_t value, uint8_t flags)
{
    /* A byte nobody read makes room for this one; the line falls in between. */
    k->flags &= (uint8_t) ~(STATUS_FULL | STATUS_TIMEOUT);
    line_set(&k->irq, irq_level(k));
    k->reply = value;
    k->flags |= STATUS_FULL | flags;
}

static void reset_machine(struct i8042 *k, const char *by)
{
    k->request.ask(k->request.ctx, MACHINE_REQUEST_RESET, by);
}

static void command_answered(struct i8042 *k, uint8_t command)
{
    static const struct {
        uint8_t command, reply;
    } replies[] = {
        {COMMAND_AUX_TEST, REPLY_PORT_DEAD},
        {COMMAND_KEYBOARD_TEST, REPLY_PORT_OK},
        {COMMAND_READ_INPUT, INPUT_START},
    };
    for (unsigned i = 0; i < sizeof(replies) / sizeof(replies[0]); i++)
        if (replies[i].command == command)
            answer(k, replies[i].reply, 0);
}

static void write_command(struct i8042 *k, uint8_t command)
{
    k->flags |= STATUS_COMMAND;
    k->expects = 0;
    if (command >= COMMAND_READ_RAM && command < COMMAND_READ_RAM + I8042_RAM) {
        answer(k, k->ram[command - COMMAND_READ_RAM], 0);
        return;
    }
    if (takes_parameter(command)) {
        k->expects = command;
        return;
    }
    if (command >= COMMAND_PULSE) {
        if (!(command & OUTPUT_NO_RESET))
            reset_machine(k, "i8042");
        return;
    }
    switch (command) {
    case COMMAND_SELF_TEST:
        k->ram[0] |= CONFIG_SYSTEM;
        answer(k, REPLY_SELF_TEST_OK, 0);
        return;
    case COMMAND_AUX_DISABLE:
        k->ram[0] |= CONFIG_AUX_OFF;
        return;
    case COMMAND_AUX_ENABLE: /* there is none: stays off, which is how a probe finds out */
        return;
    case COMMAND_KEYBOARD_DISABLE:
        k->ram[0] |= CONFIG_KEYBOARD_OFF;
        return;
    case COMMAND_KEYBOARD_ENABLE:
        k->ram[0] &= (uint8_t)~CONFIG_KEYBOARD_OFF;
        return;
    case COMMAND_READ_OUTPUT:
        answer(k, k->output_port, 0);
        return;
    default:
        command_answered(k, command);
        return;
    }
}

static void write_output_port(struct i8042 *k, uint8_t value)
{
    k->output_port = value;
    k->port92 = (uint8_t)((k->port92 & ~PORT92_A20) | (value & OUTPUT_A20 ? PORT92_A20 : 0));
    if (!(value & OUTPUT_NO_RESET))
        reset_machine(k, "i8042 output port");
}

static void write_data(struct i8042 *k, uint8_t value)
{
    uint8_t command = k->expects;
    k->flags &= (uint8_t)~STATUS_COMMAND;
    k->expects = 0;
    switch (command) {
    case 0: /* to the keyboard, which also switches its port on */
        k->ram[0] &= (uint8_t)~CONFIG_KEYBOARD_OFF;
        answer(k, REPLY_RESEND, STATUS_TIMEOUT);
        return;
    case COMMAND_WRITE_OUTPUT:
        write_output_port(k, value);
        return;
    case COMMAND_WRITE_KEYBOARD_BUFFER:
    case COMMAND_WRITE_AUX_BUFFER: /* as from the keyboard: this controller has one port */
        answer(k, value, 0);
        return;
    case COMMAND_WRITE_AUX:
        answer(k, REPLY_RESEND, STATUS_TIMEOUT);
        return;
    default:
        k->ram[command - COMMAND_WRITE_RAM] = value;
        return;
    }
}

static uint8_t read_data(struct i8042 *k)
{
    k->flags &= (uint8_t) ~(STATUS_FULL | STATUS_TIMEOUT);
    return k->reply;
}

static uint8_t read_status(const struct i8042 *k)
{
    return k->flags | STATUS_UNLOCKED | (k->ram[0] & CONFIG_SYSTEM ? STATUS_SYSTEM : 0);
}

static void write_port92(struct i8042 *k, uint8_t value)
{
    bool reset = (value & ~k->port92) & PORT92_RESET;
    k->port92 = value & (PORT92_RESET | PORT92_A20);
    k->output_port = (uint8_t)((k->output_port & ~OUTPUT_A20) | (value & PORT92_A20));
    if (reset)
        reset_machine(k, "port 0x92");
}

/* Each port is a range of one byte: the bus lets no wider access in. [vcpu] */
static void data_read(void *owner, uint64_t offset, uint8_t *data, unsigned len)
{
    struct i8042 *k = owner;
    pthread_mutex_lock(&k->lock);
    data[0] = read_data(k);
    line_set(&k->irq, irq_level(k));
    pthread_mutex_unlock(&k->lock);
}

static void data_write(void *owner, uint64_t offset, const uint8_t *data, unsigned len)
{
    struct i8042 *k = owner;
    pthread_mutex_lock(&k->lock);
    write_data(k, data[0]);
    line_set(&k->irq, irq_level(k));
    pthread_mutex_unlock(&k->lock);
}

static void status_read(void *owner, uint64_t offset, uint8_t *data, unsigned len)
{
    struct i8042 *k = owner;
    pthread_mutex_lock(&k->lock);
    data[0] = read_status(k);
    pthread_mutex_unlock(&k->lock);
}

static void command_write(void *owner, uint64_t offset, const uint8_t *data, unsigned len)
{
    struct i8042 *k = owner;
    pthread_mutex_lock(&k->lock);
    write_command(k, data[0]);
    line_set(&k->irq, irq_level(k));
    pthread_mutex_unlock(&k->lock);
}

static void port92_read(void *owner, uint64_t offset, uint8_t *data, unsigned len)
{
    struct i8042 *k = owner;
    pthread_mutex_lock(&k->lock);
    data[0] = k->port92;
    pthread_mutex_unlock(&k->lock);
}

static void port92_write(void *owner, uint64_t offset, const uint8_t *data, unsigned len)
{
    struct i8042 *k = owner;
    pthread_mutex_lock(&k->lock);
    write_port92(k, data[0]);
    pthread_mutex_unlock(&k->lock);
}

static const struct bus_ops data_ops = {.read = data_read, .write = data_write};
static const struct bus_ops command_ops = {.read = status_read, .write = command_write};
static const struct bus_ops port92_ops = {.read = port92_read, .write = port92_write};

static void i8042_reset(void *dev)
{
    struct i8042 *k = dev;
    pthread_mutex_lock(&k->lock);
    for (unsigned i = 0; i < I8042_RAM; i++)
        k->ram[i] = 0;
    k->ram[0] = CONFIG_START;
    k->output_port = OUTPUT_START;
    k->reply = k->flags = k->expects = 0;
    k->port92 = PORT92_A20;
    pthread_mutex_unlock(&k->lock);
}

static int i8042_init(void *dev, const struct device_env *env, struct err *err)
{
    struct i8042 *k = dev;
    int rc = bus_add(env->pio, LAYOUT_I8042_DATA, 1, &data_ops, k, err);
    if (rc == 0)
        rc = bus_add(env->pio, LAYOUT_I8042_COMMAND, 1, &command_ops, k, err);
    if (rc == 0)
        rc = bus_add(env->pio, LAYOUT_PORT92, 1, &port92_ops, k, err);
    if (rc < 0)
        return rc;
    pthread_mutex_init(&k->lock, NULL);
    line_init(&k->irq, &env->irq, LAYOUT_I8042_GSI);
    k->request = env->request;
    i8042_reset(k);
    return 0;
}

static void i8042_fini(void *dev)
{
    struct i8042 *k = dev;
    pthread_mutex_destroy(&k->lock);
}

static void i8042_resume(void *dev)
{
    struct i8042 *k = dev;
    pthread_mutex_lock(&k->lock);
    line_restate(&k->irq, irq_level(k));
    pthread_mutex_unlock(&k->lock);
}

static int i8042_post_load(void *object, struct err *err)
{
    struct i8042 *k = object;
    if (k->flags & ~FLAGS_MASK)
        return err_set(err, EBADMSG, "i8042.flags 0x%02x has unknown bits", k->flags);
    if (k->expects && !takes_parameter(k->expects))
        return err_set(err, EBADMSG, "i8042.expects 0x%02x is no command with a parameter",
                       k->expects);
    if (k->port92 & ~(PORT92_RESET | PORT92_A20))
        return err_set(err, EBADMSG, "i8042.port92 0x%02x has unknown bits", k->port92);
    return 0;
}

static const struct state_desc i8042_state = {
    .name = "i8042",
    .version = 1,
    .min_version = 1,
    .fields = i8042_fields,
    .post_load = i8042_post_load,
};

const struct device_type i8042_type = {
    .name = "i8042",
    .size = sizeof(struct i8042),
    .state = &i8042_state,
    .init = i8042_init,
    .fini = i8042_fini,
    .resume = i8042_resume,
    .reset = i8042_reset,
};
