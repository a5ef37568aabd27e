/* The socket to vmctl; see store.h. */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "proto/frame.h"
#include "proto/utf8.h"
#include "snapshot/store.h"

#define READ_BYTES (256u << 10)

void store_link_init(struct store_link *l, int fd)
{
    *l = (struct store_link){.fd = fd};
    buf_init(&l->in, FRAME_HEAD_BYTES + FRAME_BODY_MAX + READ_BYTES);
    buf_init(&l->out, FRAME_HEAD_BYTES + FRAME_BODY_MAX);
}

void store_link_fini(struct store_link *l)
{
    buf_fini(&l->in);
    buf_fini(&l->out);
    frame_free(l->data ? &l->data->base : NULL);
    l->data = NULL;
}

static int gone(struct err *err)
{
    return err_set(err, ECANCELED, "the transfer was given up");
}

int store_link_alive(const struct store_link *l, struct err *err)
{
    struct pollfd p = {.fd = l->fd};
    return poll(&p, 1, 0) > 0 && (p.revents & (POLLHUP | POLLERR)) ? gone(err) : 0;
}

int store_link_pause(const struct store_link *l, unsigned ms, struct err *err)
{
    struct pollfd p = {.fd = l->fd};
    return poll(&p, 1, (int)ms) > 0 ? gone(err) : 0;
}

static int send_message(struct store_link *l, const Ferry__StoreMessage *m, struct err *err)
{
    l->out.len = 0;
    int rc = frame_pack(&m->base, &l->out, err);
    for (size_t at = 0; rc == 0 && at < l->out.len;) {
        ssize_t n = send(l->fd, l->out.data + at, l->out.len - at, MSG_NOSIGNAL);
        if (n < 0 && errno != EINTR)
            return gone(err);
        at += n > 0 ? (size_t)n : 0;
    }
    return rc;
}

/* The next message, freed by the caller. */
static Ferry__StoreMessage *receive(struct store_link *l, struct err *err)
{
    ssize_t size;
    while ((size = frame_peek(l->in.data, l->in.len, err)) == 0) {
        uint8_t *to = buf_reserve(&l->in, READ_BYTES);
        ssize_t n = to ? recv(l->fd, to, READ_BYTES, 0) : -1;
        if (n < 0 && to && errno == EINTR)
            continue;
        if (n <= 0) {
            gone(err);
            return NULL;
        }
        l->in.len += (size_t)n;
    }
    if (size < 0)
        return NULL;
    ProtobufCMessage *m =
        frame_unpack(&ferry__store_message__descriptor, l->in.data + FRAME_HEAD_BYTES,
                     (size_t)size - FRAME_HEAD_BYTES, err);
    buf_consume(&l->in, (size_t)size);
    return (Ferry__StoreMessage *)m;
}

int store_link_begin(struct store_link *l, Ferry__StoreMessage **begin, struct err *err)
{
    Ferry__StoreMessage *m = receive(l, err);
    if (!m)
        return -err->code;
    if (m->body_case == FERRY__STORE_MESSAGE__BODY_BEGIN) {
        *begin = m;
        return 0;
    }
    frame_free(&m->base);
    return err_set(err, EPROTO, "a transfer begins with where it goes");
}

/* 1 with data, 0 at the end. */
static int next_data(struct store_link *l, struct err *err)
{
    Ferry__StoreMessage *m = receive(l, err);
    if (!m)
        return -err->code;
    if (m->body_case == FERRY__STORE_MESSAGE__BODY_DATA) {
        l->data = m;
        l->taken = 0;
        return 1;
    }
    l->ended = m->body_case == FERRY__STORE_MESSAGE__BODY_END && m->end;
    frame_free(&m->base);
    return l->ended ? 0 : err_set(err, EPROTO, "something else came than data");
}

ssize_t store_link_take(struct store_link *l, void *to, size_t max, struct err *err)
{
    int rc = 1;
    while (rc == 1 && !l->ended && !(l->data && l->taken < l->data->data.len)) {
        frame_free(l->data ? &l->data->base : NULL);
        l->data = NULL;
        rc = next_data(l, err);
    }
    if (rc < 0 || l->ended)
        return rc < 0 ? rc : 0;
    size_t left = l->data->data.len - l->taken, n = left < max ? left : max;
    memcpy(to, l->data->data.data + l->taken, n);
    l->taken += n;
    return (ssize_t)n;
}

int store_link_again(struct store_link *l, struct err *err)
{
    Ferry__StoreMessage again = FERRY__STORE_MESSAGE__INIT;
    again.body_case = FERRY__STORE_MESSAGE__BODY_AGAIN;
    again.again = true;
    int rc = send_message(l, &again, err);
    frame_free(l->data ? &l->data->base : NULL);
    l->data = NULL;
    l->ended = false;
    for (bool here = false; rc == 0 && !here;) {
        Ferry__StoreMessage *m = receive(l, err);
        if (!m)
            return -err->code;
        here = m->body_case == FERRY__STORE_MESSAGE__BODY_AGAIN;
        frame_free(&m->base);
    }
    return rc;
}

int store_link_data(struct store_link *l, const void *data, size_t len, struct err *err)
{
    Ferry__StoreMessage m = FERRY__STORE_MESSAGE__INIT;
    m.body_case = FERRY__STORE_MESSAGE__BODY_DATA;
    m.data = (ProtobufCBinaryData){.data = (uint8_t *)(uintptr_t)data, .len = len};
    return send_message(l, &m, err);
}

int store_link_end(struct store_link *l, struct err *err)
{
    Ferry__StoreMessage m = FERRY__STORE_MESSAGE__INIT;
    m.body_case = FERRY__STORE_MESSAGE__BODY_END;
    m.end = true;
    return send_message(l, &m, err);
}

int store_link_news(struct store_link *l, uint64_t total, const char *note, struct err *err)
{
    Ferry__StoreMessage m = FERRY__STORE_MESSAGE__INIT;
    Ferry__StoreNews news = FERRY__STORE_NEWS__INIT;
    news.total_bytes = total;
    news.note = (char *)(uintptr_t)note;
    m.body_case = FERRY__STORE_MESSAGE__BODY_NEWS;
    m.news = &news;
    return send_message(l, &m, err);
}

int store_link_result(struct store_link *l, const struct err *result)
{
    Ferry__StoreMessage m = FERRY__STORE_MESSAGE__INIT;
    Ferry__StoreResult r = FERRY__STORE_RESULT__INIT;
    struct err clean = *result, err;
    utf8_clean(clean.text);
    r.code = (uint32_t)clean.code;
    r.error = clean.code ? clean.text : r.error;
    m.body_case = FERRY__STORE_MESSAGE__BODY_RESULT;
    m.result = &r;
    return send_message(l, &m, &err);
}
