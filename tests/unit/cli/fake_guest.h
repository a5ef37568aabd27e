/* A scripted guest behind a fake ferryd: what it says and hears on its console. */
#pragma once

#include "tests/unit/cli/fake_ferryd.h"
#include "tests/unit/cli/run_vmctl.h"

#define MUCH (1u << 20)
#define CHUNK 5000u /* no power of two, so that borders wander */

/* What the guest says and hears. */
struct guest {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct buf said, heard;
    uint64_t lost;    /* bytes of `said` that are no longer kept */
    bool ended, hang; /* hang: streams stop without an end */
    bool deaf;        /* takes no input */
    bool refuses_input;
    bool echo;
    unsigned asked;
    uint64_t asked_offset, asked_tail;
};

static inline void guest_init(struct guest *g)
{
    memset(g, 0, sizeof(*g));
    pthread_mutex_init(&g->lock, NULL);
    pthread_cond_init(&g->changed, NULL);
    buf_init(&g->said, 4 * MUCH);
    buf_init(&g->heard, 4 * MUCH);
}

static inline void guest_fini(struct guest *g)
{
    buf_fini(&g->said);
    buf_fini(&g->heard);
}

static inline void guest_say(struct guest *g, const void *data, size_t n)
{
    pthread_mutex_lock(&g->lock);
    buf_append(&g->said, data, n);
    pthread_cond_broadcast(&g->changed);
    pthread_mutex_unlock(&g->lock);
}

static inline void guest_set(struct guest *g, bool *flag, bool value)
{
    pthread_mutex_lock(&g->lock);
    *flag = value;
    pthread_cond_broadcast(&g->changed);
    pthread_mutex_unlock(&g->lock);
}

static inline void guest_wait_heard(struct guest *g, size_t n)
{
    pthread_mutex_lock(&g->lock);
    while (g->heard.len < n)
        pthread_cond_wait(&g->changed, &g->lock);
    pthread_mutex_unlock(&g->lock);
}

static inline void stream(struct guest *g, int fd, uint32_t id, const Ferry__ConsoleRequest *c)
{
    uint64_t offset = c->offset;
    bool open = true;
    pthread_mutex_lock(&g->lock);
    g->asked++;
    g->asked_offset = c->offset;
    g->asked_tail = c->tail_bytes;
    if (c->tail_bytes && c->tail_bytes < g->said.len)
        offset = g->said.len - c->tail_bytes;
    pthread_cond_broadcast(&g->changed);
    while (open && !g->hang) {
        offset = offset < g->lost ? g->lost : offset;
        size_t n = offset < g->said.len ? g->said.len - offset : 0;
        n = n < CHUNK ? n : CHUNK;
        if (n) {
            CLEAN(clean_free) uint8_t *copy = malloc(n);
            memcpy(copy, g->said.data + offset, n);
            pthread_mutex_unlock(&g->lock);
            open = fake_say(fd, id, offset, copy, n);
            pthread_mutex_lock(&g->lock);
            offset += n;
        } else if (g->ended || !c->follow) {
            fake_done(fd, id);
            open = false;
        } else {
            pthread_cond_wait(&g->changed, &g->lock);
        }
    }
    pthread_mutex_unlock(&g->lock);
}

static inline void hear(struct guest *g, int fd, uint32_t id, const ProtobufCBinaryData *data)
{
    pthread_mutex_lock(&g->lock);
    bool deaf = g->deaf, refuses = g->refuses_input;
    if (!deaf && !refuses) {
        buf_append(&g->heard, data->data, data->len);
        if (g->echo)
            buf_append(&g->said, data->data, data->len);
    }
    pthread_cond_broadcast(&g->changed);
    pthread_mutex_unlock(&g->lock);
    if (refuses)
        fake_refuse(fd, id, EPERM, "'web' takes no input");
    else if (!deaf)
        fake_done(fd, id);
}

static inline void serve_guest(struct fake *f, int fd)
{
    Ferry__Request *r;
    if (!fake_greet(fd))
        return;
    while ((r = fake_read(fd))) {
        if (r->body_case == FERRY__REQUEST__BODY_CONSOLE)
            stream(f->data, fd, r->id, r->console);
        else if (r->body_case == FERRY__REQUEST__BODY_CONSOLE_INPUT)
            hear(f->data, fd, r->id, &r->console_input->data);
        else
            fake_answer_vm(fd, r->id, "web", FERRY__VM_STATE__VM_STOPPED, "switched itself off");
        frame_free(&r->base);
    }
}

/* Bytes of every value but Ctrl-], in an order that shows a loss. */
static inline uint8_t *make_bytes(size_t n)
{
    uint8_t *bytes = malloc(n);
    uint32_t x = 1;
    for (size_t i = 0; i < n; i++) {
        x = x * 1664525u + 1013904223u;
        bytes[i] = (uint8_t)(x >> 24);
        if (bytes[i] == 0x1d)
            bytes[i] = 'x';
    }
    return bytes;
}

static inline void guest_finish(struct guest *g, struct fake *f)
{
    guest_set(g, &g->hang, true);
    fake_stop(f);
    guest_fini(g);
}
