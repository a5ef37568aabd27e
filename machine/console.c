/* See console.h. */
#include "machine/console.h"

static void init(struct console *c, const struct console_ops *ops, void *ctx)
{
    *c = (struct console){.ops = ops, .ctx = ctx};
    pthread_mutex_init(&c->lock, NULL);
}

int console_init(struct console *c, const struct console_ops *ops, void *ctx, struct err *err)
{
    init(c, ops, ctx);
    return scroll_init(&c->scroll, CONSOLE_SCROLL_BYTES, err);
}

int console_init_file(struct console *c, int fd, const struct console_ops *ops, void *ctx,
                      struct err *err)
{
    init(c, ops, ctx);
    return scroll_init_file(&c->scroll, fd, CONSOLE_SCROLL_BYTES, err);
}

void console_fini(struct console *c)
{
    scroll_fini(&c->scroll);
    pthread_mutex_destroy(&c->lock);
}

void console_set_device(struct console *c, void (*input_ready)(void *dev), void *dev)
{
    pthread_mutex_lock(&c->lock);
    c->input_ready = input_ready;
    c->dev = dev;
    pthread_mutex_unlock(&c->lock);
}

void console_write(struct console *c, const uint8_t *data, size_t len)
{
    pthread_mutex_lock(&c->lock);
    scroll_append(&c->scroll, data, len);
    pthread_mutex_unlock(&c->lock);
    c->ops->output(c->ctx);
}

size_t console_pull(struct console *c, uint8_t *to, size_t max)
{
    pthread_mutex_lock(&c->lock);
    size_t n = c->input_count < max ? c->input_count : max;
    for (size_t i = 0; i < n; i++)
        to[i] = c->input[(c->input_head + i) % CONSOLE_INPUT_BYTES];
    c->input_head = (c->input_head + (uint32_t)n) % CONSOLE_INPUT_BYTES;
    c->input_count -= (uint32_t)n;
    bool owed = n > 0 && c->input_refused;
    if (owed)
        c->input_refused = false;
    pthread_mutex_unlock(&c->lock);
    if (owed)
        c->ops->input_room(c->ctx);
    return n;
}

size_t console_feed(struct console *c, const uint8_t *data, size_t len)
{
    pthread_mutex_lock(&c->lock);
    size_t room = CONSOLE_INPUT_BYTES - c->input_count;
    size_t n = len < room ? len : room;
    for (size_t i = 0; i < n; i++)
        c->input[(c->input_head + c->input_count + i) % CONSOLE_INPUT_BYTES] = data[i];
    c->input_count += (uint32_t)n;
    if (n < len)
        c->input_refused = true;
    void (*ready)(void *) = c->input_ready;
    void *dev = c->dev;
    pthread_mutex_unlock(&c->lock);
    if (n > 0 && ready)
        ready(dev);
    return n;
}

size_t console_read(struct console *c, uint64_t *offset, void *to, size_t max, uint64_t *missed)
{
    pthread_mutex_lock(&c->lock);
    size_t n = scroll_read(&c->scroll, offset, to, max, missed);
    pthread_mutex_unlock(&c->lock);
    return n;
}

uint64_t console_begin(struct console *c)
{
    pthread_mutex_lock(&c->lock);
    uint64_t begin = scroll_begin(&c->scroll);
    pthread_mutex_unlock(&c->lock);
    return begin;
}

uint64_t console_end(struct console *c)
{
    pthread_mutex_lock(&c->lock);
    uint64_t end = scroll_end(&c->scroll);
    pthread_mutex_unlock(&c->lock);
    return end;
}

size_t console_peek_input(struct console *c, uint8_t *to, size_t max)
{
    pthread_mutex_lock(&c->lock);
    size_t n = c->input_count < max ? c->input_count : max;
    for (size_t i = 0; i < n; i++)
        to[i] = c->input[(c->input_head + i) % CONSOLE_INPUT_BYTES];
    pthread_mutex_unlock(&c->lock);
    return n;
}

void console_adopt(struct console *c, uint64_t offset, const uint8_t *data, size_t len)
{
    pthread_mutex_lock(&c->lock);
    if (scroll_end(&c->scroll) != offset)
        scroll_restart(&c->scroll, offset);
    scroll_append(&c->scroll, data, len);
    pthread_mutex_unlock(&c->lock);
    c->ops->output(c->ctx);
}
