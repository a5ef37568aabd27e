/*
 * The console between the serial port and the people attached to it: a scrollback of what the guest
 * said, and a bounded queue of what it is to read. The guest never waits for a reader of the
 * console; a writer to the console waits (by being told how much was taken) for the guest.
 */
#pragma once

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/scroll.h"

#define CONSOLE_SCROLL_BYTES (1u << 20)
#define CONSOLE_INPUT_BYTES 4096u

/* Told without the console's lock held, but perhaps with the device's: must not block, nor feed or
 * pull, but wake somebody who does. */
struct console_ops {
    void (*output)(void *ctx);     /* bytes were appended to the scrollback [vcpu] */
    void (*input_room)(void *ctx); /* a full input queue has room again [vcpu] */
};

struct console {
    pthread_mutex_t lock;
    struct scroll scroll;
    uint8_t input[CONSOLE_INPUT_BYTES];
    uint32_t input_head, input_count;
    bool input_refused; /* since then input_room is owed */
    const struct console_ops *ops;
    void *ctx;
    void (*input_ready)(void *dev); /* the device's: there is input to pull */
    void *dev;
};

/* The scrollback lives in memory, or in the file `fd` (borrowed), where it outlives the process. */
int console_init(struct console *c, const struct console_ops *ops, void *ctx, struct err *err);
int console_init_file(struct console *c, int fd, const struct console_ops *ops, void *ctx,
                      struct err *err);
void console_fini(struct console *c);

/* The device's side. */
void console_set_device(struct console *c, void (*input_ready)(void *dev), void *dev);
void console_write(struct console *c, const uint8_t *data, size_t len); /* [vcpu] */
size_t console_pull(struct console *c, uint8_t *to, size_t max);        /* [any] */

/* The people's side: returns how many bytes the queue took. [loop] */
size_t console_feed(struct console *c, const uint8_t *data, size_t len);
size_t console_read(struct console *c, uint64_t *offset, void *to, size_t max, uint64_t *missed);
uint64_t console_begin(struct console *c);
uint64_t console_end(struct console *c);

/* For a guest that moves: what it has not read yet (at most CONSOLE_INPUT_BYTES), and a piece of
 * what it said before, at its offset; what lies between that and the end so far is missing. */
size_t console_peek_input(struct console *c, uint8_t *to, size_t max);
void console_adopt(struct console *c, uint64_t offset, const uint8_t *data, size_t len);
